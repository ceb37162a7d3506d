"""The order in which a step gets its definitions: each after what it needs, else as in the notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nbpipe.errors import BadPipeline
from nbpipe.language.definitions import AnalysedDefinition
from nbpipe.model import Step


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


def defined_too_early(name: str, item: AnalysedDefinition, step: Step) -> BadPipeline:
    """Return the error for a definition that reads an input of the step while it is defined, not when it is called."""
    return BadPipeline(
        f"{described(item)}, which this step uses, reads `{name}` while it is defined; "
        "a step's inputs are bound after its definitions",
        f"Read `{name}` when it is called, hand it over as an argument, or define it in the step's own cell.",
        step.place,
    )


def described(item: AnalysedDefinition) -> str:
    """Return what a definition is called in messages, and where it stands."""
    what = " and ".join(f"`{name}`" for name in item.definition.names[:3]) or "the shared cell"
    return f"{what} in cell {item.definition.cell}"
