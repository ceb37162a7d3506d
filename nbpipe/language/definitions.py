"""What ordinary cells share with steps: imports, functions, classes, constants, and whole ``#| shared`` cells."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nbpipe.errors import BadPipeline, Place, Refused
from nbpipe.language.directives import marker
from nbpipe.language.ipython_syntax import is_plain, parse_cell
from nbpipe.language.names import Use, changed_in_place, flat, names_of, use_of
from nbpipe.model import Cell, Definition

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Shareable:
    """A definition and the names it needs: ``now`` while it is defined, ``later`` when it is called."""

    definition: Definition
    now: frozenset[str]
    later: frozenset[str]
    constant: bool = False


@dataclass(slots=True)
class Shared:
    """All that a notebook's ordinary cells offer: by name, always given (``always``), and by ``import *``."""

    by_name: dict[str, list[Shareable]] = field(default_factory=dict)
    changed: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    rebound: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    explored: dict[str, int] = field(default_factory=dict)
    always: list[Shareable] = field(default_factory=list)
    stars: list[Shareable] = field(default_factory=list)
    errors: list[Refused] = field(default_factory=list)

    def find(self, name: str) -> list[Shareable]:
        """Get the definitions of ``name`` without equal repeats; BadPipeline when they cannot be shared."""
        candidates = list({item.definition.normal: item for item in self.by_name.get(name, [])}.values())
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


def collect(cells: Iterable[Cell]) -> Shared:
    """Read ordinary cells; a cell that does not compile is an error in ``errors``, told once."""
    shared = Shared()
    loose: list[tuple[Cell, ast.stmt]] = []
    for cell in cells:
        kind = marker(cell.source)
        if kind in ("magic", "local") or "local" in cell.tags:
            continue
        try:
            tree = parse_cell(cell.source, Place(cell.number))
        except Refused as error:
            shared.errors.append(error)
            continue
        if kind == "shared" or "shared" in cell.tags:
            _whole(shared, cell, tree)
        else:
            loose += [(cell, statement) for statement in tree.body if not _define(shared, cell, statement)]
    for cell, statement in loose:
        _explore(shared, cell, statement)
    return shared


def normal_form(nodes: Iterable[ast.AST]) -> str:
    """Get code without comments, layout and positions; docstrings stay, for code can read them."""
    return "\n".join(ast.dump(node) for node in nodes)


def _submodule(item: Shareable, name: str) -> bool:
    """Say whether this is ``import NAME`` or ``import NAME.part``, several of which add up."""
    text = item.definition.source
    return item.definition.is_import and (text == f"import {name}" or text.startswith(f"import {name}."))


def _add(shared: Shared, item: Shareable) -> None:
    for name in item.definition.names:
        shared.by_name.setdefault(name, []).append(item)


def _define(shared: Shared, cell: Cell, statement: ast.stmt) -> bool:
    """Take the statement as a definition if it is one."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        _imports(shared, cell, statement)
        return True
    if isinstance(statement, _FUNCTIONS):
        _add(shared, _shareable(cell, statement, (statement.name,), use_of(statement)))
        return True
    targets = _constant_targets(statement)
    if targets:
        _add(shared, _shareable(cell, statement, targets, use_of(statement), constant=True))
    return bool(targets)


def _imports(shared: Shared, cell: Cell, statement: ast.Import | ast.ImportFrom) -> None:
    for alias in statement.names:
        one: ast.stmt = (
            ast.Import([alias])
            if isinstance(statement, ast.Import)
            else ast.ImportFrom(statement.module, [alias], statement.level)
        )
        name = alias.asname or alias.name.partition(".")[0]
        text = ast.unparse(one)
        item = Shareable(Definition((name,), text, text, cell.number, is_import=True), frozenset(), frozenset())
        if alias.name == "*":
            shared.stars.append(item)
        elif isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            shared.always.append(item)
        else:
            _add(shared, item)


def _shareable(
    cell: Cell, statement: ast.stmt, names: tuple[str, ...], use: Use, *, constant: bool = False
) -> Shareable:
    source = _text(cell, statement)
    definition = Definition(names, source, normal_form([statement]), cell.number)
    return Shareable(definition, use.loads - set(names), use.deferred - set(names), constant)


def _text(cell: Cell, statement: ast.stmt) -> str:
    """Get the statement as written, decorators included."""
    lines = cell.source.splitlines()
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    text = "\n".join(lines[first - 1 : statement.end_lineno])
    try:
        alone = len(ast.parse(text).body) == 1
    except SyntaxError:
        alone = False
    return text if alone and is_plain(cell.source) else ast.unparse(statement)


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


def _explore(shared: Shared, cell: Cell, statement: ast.stmt) -> None:
    """Note what a statement outside the pipeline does to names that definitions bind."""
    first = statement.lineno
    text = cell.source.splitlines()[first - 1 : first]
    where = (cell.number, first, text[0].strip()[:80] if text else "")
    bound = use_of(statement).binds
    for name in bound:
        shared.explored.setdefault(name, cell.number)
        if name in shared.by_name:
            shared.rebound.setdefault(name, where)
    for part in flat([statement]):
        for name in changed_in_place(part):
            shared.changed.setdefault(name, where)


def _whole(shared: Shared, cell: Cell, tree: ast.Module) -> None:
    """Share a whole cell: with the steps that read its names, or with all when it does more than bind names."""
    names = names_of(tree)
    normal = normal_form(tree.body) if is_plain(cell.source) else cell.source
    definition = Definition(tuple(sorted(names.binds)), cell.source, normal, cell.number)
    item = Shareable(definition, names.needs, frozenset())
    _add(shared, item)
    if not names.binds or names.stars or any(_has_effect(statement) for statement in tree.body):
        shared.always.append(item)


def _has_effect(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    return any(name not in use_of(statement).binds for name in changed_in_place(statement))


def imported_modules(trees: Iterable[ast.AST]) -> tuple[str, ...]:
    """Get the dotted names of modules that code may import, at any depth: ``a`` and ``a.b`` for ``from a import b``."""
    found: dict[str, None] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(dict.fromkeys(alias.name for alias in node.names))
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module] = None
                found.update(dict.fromkeys(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*"))
    return tuple(found)


def order(items: Mapping[str, list[Shareable]], always: Iterable[Shareable]) -> tuple[Definition, ...]:
    """Get definitions in an order that works: what one needs while it is defined comes before it."""
    done: dict[int, Definition] = {}
    begun: set[int] = set()
    closed: set[int] = set()

    def emit(item: Shareable) -> None:
        if id(item) in begun:
            return
        begun.add(id(item))
        for name in sorted(item.now):
            for needed in items.get(name, []):
                close(needed)
        done[id(item)] = item.definition

    def close(item: Shareable) -> None:
        """Emit an item and all that a call of it reaches: it may be called before this very statement is over."""
        if id(item) in closed:
            return
        closed.add(id(item))
        emit(item)
        for name in sorted(item.later):
            for needed in items.get(name, []):
                close(needed)

    unique = {id(item): item for group in items.values() for item in group} | {id(item): item for item in always}
    for item in sorted(unique.values(), key=lambda item: (not item.definition.is_import, item.definition.cell)):
        emit(item)
    return tuple(done.values())
