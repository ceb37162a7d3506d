"""What ordinary cells share with steps: imports, functions, classes, constants, and whole ``#| shared`` cells."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from nbpipe.errors import BadDirective, BadPipeline, Refused, SourceLocation
from nbpipe.language.cell_markers import CellMarker
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
from nbpipe.language.pure_values import PureValues
from nbpipe.language.qualified_names import QualifiedNames
from nbpipe.language.registered_attributes import registered_attributes
from nbpipe.language.setting_statements import SettingReader
from nbpipe.language.setup_effects import EffectFinder, UnsharedEffect
from nbpipe.language.source_text import lines_of
from nbpipe.model import Cell, Definition

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class AnalysedDefinition:
    """A definition and the names it needs: ``now`` while it is defined, ``later`` when it is called.

    ``quiet`` names are optional: used if they are offered. ``assigns`` are bound under ``global`` by a call.
    ``identifiers`` are the names and attributes in its code, ``modules`` the modules that it may import. ``position``
    is that of its cell in the notebook; ``users`` are the libraries whose users a setting concerns.
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
    position: int = 0
    users: tuple[str, ...] = ()


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

    ``lazy``: annotations are never evaluated, because a cell has ``from __future__ import annotations``. ``settings``
    are shared with the steps that use what they set; ``effects`` are statements that no step gets, by cell.
    ``more_settings`` are those beyond the table; ``attributes`` the definitions that add one to a library's objects.
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
    settings: list[AnalysedDefinition] = field(default_factory=list)
    effects: dict[int, list[UnsharedEffect]] = field(default_factory=dict)
    names: QualifiedNames = field(default_factory=QualifiedNames)
    more_settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: dict[str, list[AnalysedDefinition]] = field(default_factory=dict)

    def find(self, name: str) -> list[AnalysedDefinition]:
        """Return the definitions of ``name`` without duplicates; raise BadPipeline if they cannot be shared."""
        candidates = self.by_name.get(name, [])
        if len(candidates) > 1:
            candidates = list({item.definition.normal: item for item in reversed(candidates)}.values())[::-1]
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
    position: int
    tree: ast.Module
    lines: list[str]
    plain: bool


_Loose = tuple[_Source, ast.stmt]


def collect_definitions(
    cells: Iterable[tuple[int, Cell]],
    parameters: Collection[str] = (),
    more_settings: Mapping[str, tuple[str, ...]] | None = None,
) -> SharedDefinitions:
    """Read ordinary cells with their positions; a cell that does not compile is reported once in ``errors``."""
    shared = SharedDefinitions(more_settings=more_settings or {})
    sources = [source for position, cell in cells if (source := _source(cell, position, shared.errors))]
    shared.lazy = any(_is_future(statement) for source in sources for statement in source.tree.body)
    loose: list[_Loose] = []
    offered: list[_Source] = []
    for source in sources:
        try:
            loose += [(source, statement) for statement in _offer(shared, source)]
            offered.append(source)
        except RecursionError:
            shared.errors.append(too_deep(SourceLocation(source.cell.number)))
        except ValueError:
            shared.errors.append(too_long(SourceLocation(source.cell.number)))
    loose = _define_values(shared, loose, parameters)
    reader = SettingReader(shared.names, shared.more_settings)
    finder = EffectFinder(shared.names, shared.by_name.__contains__)
    unshared: set[int] = set()
    for source, statement in loose:
        try:
            if not _set(shared, reader, source, statement, parameters):
                unshared.add(id(statement))
                _note_effect(shared, finder, source, statement)
        except RecursionError:
            shared.errors.append(too_deep(SourceLocation(source.cell.number, statement.lineno)))
    _spread_changes(shared)
    shared.cells = [_ordinary_cell(source, unshared) for source in offered]
    return shared


def _ordinary_cell(source: _Source, unshared: Collection[int]) -> OrdinaryCell:
    statements = tuple(source.tree.body)
    loose = tuple(statement for statement in statements if id(statement) in unshared)
    return OrdinaryCell(source.cell.number, statements, loose, tuple(source.lines), is_shared(source.cell))


def _define_values(shared: SharedDefinitions, loose: list[_Loose], parameters: Collection[str]) -> list[_Loose]:
    """Collect assignments that only build values, and imports that are tried; return the other statements."""
    candidates = [each for each in loose if isinstance(each[1], ast.Assign | ast.AnnAssign | ast.Try)]
    if not candidates:
        return loose
    bound = frozenset(node.id for _, each in loose for node in outside_functions(each) if _is_bound(node))
    # A parameter that a cell rebinds is another value in the notebook.
    unchanged = frozenset(parameters) - bound
    values = PureValues(shared.names, lambda name: name in shared.by_name or name in unchanged, bound)
    defined: set[int] = set()
    has_grown = True
    while has_grown:
        has_grown = False
        for source, statement in candidates:
            if id(statement) not in defined and _define_value(shared, values, source, statement):
                defined.add(id(statement))
                has_grown = True
    return [each for each in loose if id(each[1]) not in defined]


def _is_bound(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _define_value(shared: SharedDefinitions, values: PureValues, source: _Source, statement: ast.stmt) -> bool:
    try:
        if isinstance(statement, ast.Try):
            names = values.tried_imports(statement)
        else:
            names = _targets(statement)
            value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
            used = name_usage([statement]) if names and value is not None and values.only_builds(value) else None
            # What builds a name from itself changes it.
            names = () if used is None or not used.needs.isdisjoint(names) else names
    except RecursionError:
        return False
    if names:
        item = _shareable(shared, source, statement, names)
        shared.names.add(statement)
        definition = dataclasses.replace(item.definition, is_value=True)
        _add(shared, dataclasses.replace(item, definition=definition, constant=not isinstance(statement, ast.Try)))
    return bool(names)


def _set(
    shared: SharedDefinitions, reader: SettingReader, source: _Source, statement: ast.stmt, parameters: Collection[str]
) -> bool:
    """Collect the statement if it is a setting, and return whether it is."""
    setting = reader.read(statement)
    binds = name_usage([statement]).binds if setting is not None else frozenset()
    if setting is None or not binds.isdisjoint(parameters):
        return False
    item = _shareable(shared, source, statement, ())
    definition = dataclasses.replace(item.definition, setting=setting.name)
    # A function of the notebook that it calls must have what it needs.
    item = dataclasses.replace(
        item, definition=definition, users=setting.users, now=item.now | item.later, later=frozenset()
    )
    shared.settings.append(item)
    for name in binds:
        shared.explored.setdefault(name, []).append(source.cell.number)
    return True


def _note_effect(shared: SharedDefinitions, finder: EffectFinder, source: _Source, statement: ast.stmt) -> None:
    _explore(shared, source, statement)
    effect = finder.find(statement)
    if effect is not None:
        shared.effects.setdefault(source.cell.number, []).append(UnsharedEffect(*_where(source, effect)))


def _spread_changes(shared: SharedDefinitions) -> None:
    """Record that a change of ``b`` changes ``a`` after ``b = a``."""
    for name, value in reversed(shared.names.values.items()):
        if isinstance(value, ast.Name) and name in shared.changed:
            shared.changed.setdefault(value.id, shared.changed[name])


def _offer(shared: SharedDefinitions, source: _Source) -> list[ast.stmt]:
    """Collect a cell's definitions and return its other statements."""
    if is_shared(source.cell):
        _share_whole_cell(shared, source)
        return []
    return [statement for statement in source.tree.body if not _define(shared, source, statement)]


def is_shared(cell: Cell) -> bool:
    """Return whether a cell is shared whole with all steps."""
    return marker(cell.source) is CellMarker.SHARED or "shared" in cell.tags


def is_local(cell: Cell) -> bool:
    """Return whether a cell is kept out of the pipeline by its author."""
    return marker(cell.source) is CellMarker.LOCAL or "local" in cell.tags


def _source(cell: Cell, position: int, errors: list[Refused]) -> _Source | None:
    """Read a cell that may share definitions; None for a local or an erroneous cell."""
    kind = marker(cell.source)
    if is_local(cell):
        return None
    if error := misplaced(cell):
        errors.append(error)
        return None
    if kind is CellMarker.MAGIC:
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
    return _Source(cell, position, tree, lines_of(cell.source), is_plain(cell.source))


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
        _imports(shared, source, statement)
        return True
    if isinstance(statement, _FUNCTIONS):
        shared.names.add(statement)
        item = _shareable(shared, source, statement, (statement.name,))
        _add(shared, item)
        for attribute in registered_attributes(statement):
            shared.attributes.setdefault(attribute, []).append(item)
        return True
    targets = _constant_targets(statement)
    if targets:
        item = _shareable(shared, source, statement, targets)
        shared.names.add(statement)
        _add(shared, dataclasses.replace(item, constant=True))
    return bool(targets)


def _imports(shared: SharedDefinitions, source: _Source, statement: ast.Import | ast.ImportFrom) -> None:
    shared.names.add(statement)
    for alias in statement.names:
        one: ast.stmt = (
            ast.Import([alias])
            if isinstance(statement, ast.Import)
            else ast.ImportFrom(statement.module, [alias], statement.level)
        )
        name = alias.asname or alias.name.partition(".")[0]
        text = ast.unparse(one)
        definition = Definition((name,), text, text, source.cell.number, is_import=True, line=statement.lineno)
        modules = normal_form_of([one]).modules
        item = AnalysedDefinition(definition, modules=modules, line=statement.lineno, position=source.position)
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
    text, line = _text(source, statement)
    definition = Definition(names, text, form.normal, source.cell.number, line=line)
    return _with_needs(shared, definition, name_usage([statement]), form, (source.position, statement.lineno))


def _with_needs(
    shared: SharedDefinitions, definition: Definition, used: NameUsage, form: NormalForm, place: tuple[int, int]
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
        position=place[0],
        line=place[1],
    )


def _text(source: _Source, statement: ast.stmt) -> tuple[str, int]:
    """Return the statement as written, decorators included, and its first line; the line is 0 for other text."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    text = "\n".join(source.lines[first - 1 : statement.end_lineno])
    try:
        alone = source.plain and len(parse_cell(text, SourceLocation()).body) == 1
    except Refused:
        alone = False
    return (text, first) if alone else (ast.unparse(statement), 0)


def _constant_targets(statement: ast.stmt) -> tuple[str, ...]:
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    return _targets(statement) if value is not None and _is_literal(value) else ()


def _targets(statement: ast.stmt) -> tuple[str, ...]:
    """Return the names that an assignment binds; none if it assigns to anything else as well."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    parts = [
        part for target in targets for part in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])
    ]
    names = tuple(part.id for part in parts if isinstance(part, ast.Name))
    return names if len(names) == len(parts) else ()


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
            _imports(shared, source, statement)
            for number in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
                lines[number] = f"# {lines[number]}"
        else:
            body.append(statement)
    text = "\n".join(lines)
    used, form = name_usage(body), normal_form_of(body)
    normal = form.normal if source.plain else text
    definition = Definition(tuple(sorted(used.binds)), text, normal, source.cell.number, line=1)
    item = _with_needs(shared, definition, used, form, (source.position, body[0].lineno if body else 0))
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
