"""The order in which a step gets its definitions: each after what it needs, else as in the notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nbpipe.language.definitions import AnalysedDefinition


def order_definitions(
    items: Mapping[str, list[AnalysedDefinition]], always: Iterable[AnalysedDefinition]
) -> tuple[AnalysedDefinition, ...]:
    """Return the definitions sorted so that each follows what it needs while it is defined."""
    always = list(always)
    unique = {id(item): item for group in items.values() for item in group} | {id(item): item for item in always}
    # What an import does may depend on a setting or a shared cell above it.
    in_order = not all(item.definition.is_import for item in always)
    done: dict[int, AnalysedDefinition] = {}
    visited: set[int] = set()
    closed: set[int] = set()

    def emit(item: AnalysedDefinition) -> None:
        if id(item) in visited:
            return
        visited.add(id(item))
        for name in [*sorted(item.now), *(sorted(item.later) if _called_at_once(item) else [])]:
            for needed in items.get(name, []):
                close(needed)
        if in_order and item.quiet:
            for needed in _imports_of(item.quiet, items):
                emit(needed)
        done[id(item)] = item

    def close(item: AnalysedDefinition) -> None:
        """Emit an item and everything that a call of it reaches: a definition may call it at once."""
        if id(item) in closed:
            return
        closed.add(id(item))
        emit(item)
        for name in sorted(item.later | item.quiet):
            for needed in items.get(name, []):
                close(needed)

    for item in sorted(unique.values(), key=lambda item: _rank(item, imports_first=not in_order)):
        emit(item)
    return tuple(done.values())


def _imports_of(names: Iterable[str], items: Mapping[str, list[AnalysedDefinition]]) -> Iterator[AnalysedDefinition]:
    return (item for name in sorted(names) for item in items.get(name, []) if item.definition.is_import)


def _rank(item: AnalysedDefinition, *, imports_first: bool) -> tuple[bool, bool, int, int]:
    """Return the default sort key: imports first, or all in notebook order."""
    definition = item.definition
    is_future = definition.source.startswith("from __future__")
    return (not is_future, imports_first and not definition.is_import, item.position, item.line)


def _called_at_once(item: AnalysedDefinition) -> bool:
    """Return whether it may be called while it is defined: a decorator receives what it decorates."""
    return item.definition.source.lstrip().startswith("@")
