"""What ordinary cells share with steps: imports, functions, classes, constants, and whole ``#| shared`` cells."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nbpipe.errors import BadDirective, BadPipeline, Refused, SourceLocation
from nbpipe.language.directives import marker, misplaced, misplaced_call
from nbpipe.language.ipython_syntax import (
    check_cell,
    is_plain,
    parse_cell,
    too_deep,
    too_long,
    without_magic,
    without_prompts,
)
from nbpipe.language.mutation_analysis import changed_in_place, outside_functions
from nbpipe.language.name_analysis import NameUsage, name_usage
from nbpipe.language.normal_form import NormalForm, normal_form_of
from nbpipe.language.source_text import lines_of
from nbpipe.model import Cell, Definition

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class AnalysedDefinition:
    """A definition and the names it needs: ``now`` while it is defined, ``later`` when it is called.

    ``quiet`` names are optional: used if they are offered. ``assigns`` are bound under ``global`` by a call.
    ``identifiers`` are the names and attributes in its code, ``modules`` the modules that it may import.
    """

    definition: Definition
    now: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    quiet: frozenset[str] = frozenset()
    assigns: frozenset[str] = frozenset()
    identifiers: frozenset[str] = frozenset()
    modules: tuple[str, ...] = ()
    line: int = 0
    constant: bool = False


@dataclass(frozen=True, slots=True)
class OrdinaryCell:
    """The statements of a parsed ordinary cell; ``loose`` are those that it does not share with steps."""

    number: int
    statements: tuple[ast.stmt, ...]
    loose: tuple[ast.stmt, ...]
    lines: tuple[str, ...]
    whole: bool = False


@dataclass(slots=True)
class SharedDefinitions:
    """Everything that a notebook's ordinary cells share: by name, with every step (``always``), and by ``import *``.

    ``lazy``: annotations are never evaluated, because a cell has ``from __future__ import annotations``.
    """

    by_name: dict[str, list[AnalysedDefinition]] = field(default_factory=dict)
    changed: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    rebound: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    explored: dict[str, list[int]] = field(default_factory=dict)
    always: list[AnalysedDefinition] = field(default_factory=list)
    stars: list[AnalysedDefinition] = field(default_factory=list)
    errors: list[Refused] = field(default_factory=list)
    cells: list[OrdinaryCell] = field(default_factory=list)
    lazy: bool = False

    def find(self, name: str) -> list[AnalysedDefinition]:
        """Return the definitions of ``name`` without duplicates; raise BadPipeline if they cannot be shared."""
        candidates = self.by_name.get(name, [])
        if len(candidates) > 1:
            candidates = list({item.definition.normal: item for item in candidates}.values())
        if len(candidates) > 1 and not all(_submodule(item, name) for item in candidates):
            cells = " and ".join(dict.fromkeys(f"cell {item.definition.cell}" for item in candidates))
            raise BadPipeline(f"`{name}` is defined differently in {cells}", "Keep one definition, or rename one.")
        if not candidates:
            return []
        spoiled = self.rebound.get(name) or (self.changed.get(name) if candidates[0].constant else None)
        if spoiled:
            cell, line, text = spoiled
            raise BadPipeline(
                f"`{name}` is defined in cell {candidates[0].definition.cell} "
                f"and changed in cell {cell}, line {line}: {text}",
                "A step gets definitions as they are written. Compute the value in a step and declare it as an "
                "output, or mark the whole cell with `#| shared`.",
            )
        return candidates


@dataclass(frozen=True, slots=True)
class _Source:
    """A parsed cell; ``plain`` is false if it contains magics: then its statements are unparsed for their text."""

    cell: Cell
    tree: ast.Module
    lines: list[str]
    plain: bool


def collect_definitions(cells: Iterable[Cell]) -> SharedDefinitions:
    """Read ordinary cells; a cell that does not compile is reported once in ``errors``."""
    shared = SharedDefinitions()
    sources = [source for cell in cells if (source := _source(cell, shared.errors))]
    shared.lazy = any(_is_future(statement) for source in sources for statement in source.tree.body)
    loose: list[tuple[_Source, ast.stmt]] = []
    for source in sources:
        try:
            others = _offer(shared, source)
            loose += [(source, statement) for statement in others]
            shared.cells.append(
                OrdinaryCell(
                    source.cell.number, tuple(source.tree.body), tuple(others), tuple(source.lines), _is_shared(source)
                )
            )
        except RecursionError:
            shared.errors.append(too_deep(SourceLocation(source.cell.number)))
        except ValueError:
            shared.errors.append(too_long(SourceLocation(source.cell.number)))
    for source, statement in loose:
        try:
            _explore(shared, source, statement)
        except RecursionError:
            shared.errors.append(too_deep(SourceLocation(source.cell.number, statement.lineno)))
    return shared


def _offer(shared: SharedDefinitions, source: _Source) -> list[ast.stmt]:
    """Collect a cell's definitions and return its other statements."""
    if _is_shared(source):
        _share_whole_cell(shared, source)
        return []
    return [statement for statement in source.tree.body if not _define(shared, source, statement)]


def _is_shared(source: _Source) -> bool:
    return marker(source.cell.source) == "shared" or "shared" in source.cell.tags


def _source(cell: Cell, errors: list[Refused]) -> _Source | None:
    """Read a cell that may share definitions; None for a local or an erroneous cell."""
    kind = marker(cell.source)
    if kind == "local" or "local" in cell.tags:
        return None
    if error := misplaced(cell):
        errors.append(error)
        return None
    if kind == "magic":
        code = without_magic(cell.source)
        if code is None:
            return None
        cell = dataclasses.replace(cell, source=code)
    cell = dataclasses.replace(cell, source=without_prompts(cell.source))
    try:
        tree = parse_cell(cell.source, SourceLocation(cell.number))
        check_cell(cell.source, SourceLocation(cell.number))
    except Refused as wrong:
        errors.append(wrong)
        return None
    hidden = _hidden_step(cell, tree)
    if hidden is not None:
        errors.append(hidden)
        return None
    return _Source(cell, tree, lines_of(cell.source), is_plain(cell.source))


def _hidden_step(cell: Cell, tree: ast.Module) -> BadDirective | None:
    return misplaced_call(cell, tree) if "%" in cell.source and "step" in cell.source else None


def _is_future(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.ImportFrom)
        and statement.module == "__future__"
        and any(alias.name == "annotations" for alias in statement.names)
    )


def _submodule(item: AnalysedDefinition, name: str) -> bool:
    """Return whether this is ``import NAME`` or ``import NAME.part``, several of which are compatible."""
    text = item.definition.source
    return item.definition.is_import and (text == f"import {name}" or text.startswith(f"import {name}."))


def _add(shared: SharedDefinitions, item: AnalysedDefinition) -> None:
    for name in item.definition.names:
        shared.by_name.setdefault(name, []).append(item)


def _define(shared: SharedDefinitions, source: _Source, statement: ast.stmt) -> bool:
    """Collect the statement if it is a definition, and return whether it is."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        _imports(shared, source.cell, statement)
        return True
    if isinstance(statement, _FUNCTIONS):
        _add(shared, _shareable(shared, source, statement, (statement.name,)))
        return True
    targets = _constant_targets(statement)
    if targets:
        item = _shareable(shared, source, statement, targets)
        _add(shared, dataclasses.replace(item, constant=True))
    return bool(targets)


def _imports(shared: SharedDefinitions, cell: Cell, statement: ast.Import | ast.ImportFrom) -> None:
    for alias in statement.names:
        one: ast.stmt = (
            ast.Import([alias])
            if isinstance(statement, ast.Import)
            else ast.ImportFrom(statement.module, [alias], statement.level)
        )
        name = alias.asname or alias.name.partition(".")[0]
        text = ast.unparse(one)
        definition = Definition((name,), text, text, cell.number, is_import=True)
        item = AnalysedDefinition(definition, modules=normal_form_of([one]).modules, line=statement.lineno)
        if alias.name == "*":
            _append_unique(shared.stars, item)
        elif isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            _append_unique(shared.always, item)
        else:
            _add(shared, item)


def _append_unique(items: list[AnalysedDefinition], item: AnalysedDefinition) -> None:
    if all(other.definition.normal != item.definition.normal for other in items):
        items.append(item)


def _shareable(
    shared: SharedDefinitions, source: _Source, statement: ast.stmt, names: tuple[str, ...]
) -> AnalysedDefinition:
    form = normal_form_of([statement])
    definition = Definition(names, _text(source, statement), form.normal, source.cell.number)
    return _with_needs(shared, definition, name_usage([statement]), form, statement.lineno)


def _with_needs(
    shared: SharedDefinitions, definition: Definition, used: NameUsage, form: NormalForm, line: int
) -> AnalysedDefinition:
    """Return a definition with the names that its code needs."""
    own = set(definition.names)
    annotations = used.annotations - used.early
    return AnalysedDefinition(
        definition,
        now=(used.early if shared.lazy else used.early | annotations) - own,
        later=used.later - used.early - own,
        quiet=(used.unsure | used.mentioned | annotations) - own,
        assigns=used.assigned,
        identifiers=form.identifiers,
        modules=form.modules,
        line=line,
    )


def _text(source: _Source, statement: ast.stmt) -> str:
    """Return the statement as written, decorators included."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    text = "\n".join(source.lines[first - 1 : statement.end_lineno])
    try:
        alone = source.plain and len(parse_cell(text, SourceLocation()).body) == 1
    except Refused:
        alone = False
    return text if alone else ast.unparse(statement)


def _constant_targets(statement: ast.stmt) -> tuple[str, ...]:
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    else:
        return ()
    parts = [
        part for target in targets for part in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])
    ]
    names = tuple(part.id for part in parts if isinstance(part, ast.Name))
    return names if len(names) == len(parts) and _is_literal(value) else ()


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _explore(shared: SharedDefinitions, source: _Source, statement: ast.stmt) -> None:
    """Record how a statement outside the pipeline changes names that definitions bind."""
    used = name_usage([statement])
    for name in used.binds - used.assigned:
        shared.explored.setdefault(name, []).append(source.cell.number)
        if name in shared.by_name:
            shared.rebound.setdefault(name, _where(source, statement))
    for name, node in changed_in_place(statement).items():
        shared.changed.setdefault(name, _where(source, node))


def _where(source: _Source, node: ast.stmt | ast.expr) -> tuple[int, int, str]:
    text = source.lines[node.lineno - 1 : node.lineno]
    return (source.cell.number, node.lineno, text[0].strip()[:80] if text else "")


def _share_whole_cell(shared: SharedDefinitions, source: _Source) -> None:
    """Share a whole cell: with the steps that read its names, or with all if it does more than bind names."""
    body = []
    lines = list(source.lines)
    for statement in source.tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            # It must come first, before anything that is rendered above this cell.
            _imports(shared, source.cell, statement)
            for number in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
                lines[number] = f"# {lines[number]}"
        else:
            body.append(statement)
    text = "\n".join(lines)
    used, form = name_usage(body), normal_form_of(body)
    definition = Definition(tuple(sorted(used.binds)), text, form.normal if source.plain else text, source.cell.number)
    item = _with_needs(shared, definition, used, form, body[0].lineno if body else 0)
    # Its functions may be called before the cell is over.
    item = dataclasses.replace(item, now=item.now | item.later, later=frozenset())
    _add(shared, item)
    if not used.binds or used.stars or any(_has_effect(statement) for statement in body):
        shared.always.append(item)


def _has_effect(statement: ast.stmt) -> bool:
    expressions = (node.value for node in outside_functions(statement) if isinstance(node, ast.Expr))
    if any(not isinstance(value, ast.Constant) for value in expressions):
        return True
    binds = name_usage([statement]).binds
    return any(name not in binds for name in changed_in_place(statement))


def order_definitions(
    items: Mapping[str, list[AnalysedDefinition]], always: Iterable[AnalysedDefinition]
) -> tuple[AnalysedDefinition, ...]:
    """Return the definitions sorted so that each follows what it needs while it is defined."""
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

    unique = {id(item): item for group in items.values() for item in group} | {id(item): item for item in always}
    for item in sorted(unique.values(), key=_rank):
        emit(item)
    return tuple(done.values())


def _rank(item: AnalysedDefinition) -> tuple[bool, bool, int, int]:
    """Return the default sort key: imports first, then notebook order."""
    definition = item.definition
    is_future = definition.source.startswith("from __future__")
    return (not is_future, not definition.is_import, definition.cell, item.line)


def _called_at_once(item: AnalysedDefinition) -> bool:
    """Return whether it may be called while it is defined: a decorator receives what it decorates."""
    return item.definition.source.lstrip().startswith("@")
