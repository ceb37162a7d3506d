"""Which names a piece of code binds, and which it needs from outside, by Python's own scoping rules."""

from __future__ import annotations

import ast
import symtable
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MUTATORS = frozenset(
    {"append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update", "setdefault", "popitem",
     "add", "discard", "difference_update", "intersection_update", "symmetric_difference_update"}
)  # fmt: skip
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
           ast.GeneratorExp)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Names:
    """``binds`` at the top level; ``needs`` from outside, ``early`` those needed before a later call could run."""

    binds: frozenset[str]
    needs: frozenset[str]
    early: frozenset[str]
    stars: bool = False


def names_of(tree: ast.Module) -> Names:
    """Get the names of a whole cell, statements taken in order: a name bound above is not needed below."""
    bound: set[str] = set()
    early: set[str] = set()
    deferred: set[str] = set()
    for statement in flat(tree.body):
        used = use_of(statement)
        early |= used.loads - bound
        deferred |= used.deferred
        bound |= used.binds
    stars = any(isinstance(s, ast.ImportFrom) and s.names[0].name == "*" for s in tree.body)
    return Names(frozenset(bound), frozenset(early | (deferred - bound)), frozenset(early), stars)


@dataclass(frozen=True, slots=True)
class Use:
    """One statement's names: read while it runs, bound by it, and read by functions in it when they are called."""

    loads: frozenset[str]
    binds: frozenset[str]
    deferred: frozenset[str]


def use_of(statement: ast.stmt) -> Use:
    """Get the names of one statement (``del`` binds too: it changes what the name means)."""
    nodes = list(ast.walk(statement))
    if any(isinstance(node, _SCOPES) for node in nodes):
        loads, binds, deferred = _scoped(statement)
    else:
        loads, binds, deferred = _plain(nodes), _bound(nodes), set()
    if isinstance(statement, ast.For | ast.AsyncFor | ast.With | ast.AsyncWith):
        loads -= binds
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        loads.add(statement.target.id)
    if isinstance(statement, ast.Delete):
        loads |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return Use(frozenset(loads), frozenset(binds), frozenset(deferred))


def _plain(nodes: Iterable[ast.AST]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.alias) and node.name != "*":
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.add(node.rest)
        elif isinstance(node, ast.AnnAssign) and node.value is None and isinstance(node.target, ast.Name):
            found.discard(node.target.id)
    return found


def _scoped(statement: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """Get loads, bindings and deferred loads of a statement with functions, classes or comprehensions inside."""
    table = _table(statement)
    loads = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    binds = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return loads | _immediate(table), binds | _globals_assigned(table), _nested(table)


def flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Get statements in textual order, compound ones as a head without its blocks followed by what is in the blocks."""
    for statement in body:
        blocks = list(_blocks(statement))
        if not blocks:
            yield statement
            continue
        yield _head(statement)
        for block in blocks:
            yield from flat(block)


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    if isinstance(statement, _SCOPES):
        return
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for item in getattr(statement, name, []):
            if isinstance(item, ast.ExceptHandler | ast.match_case):
                yield item.body
            elif isinstance(item, ast.stmt):
                yield getattr(statement, name)
                break


def _head(statement: ast.stmt) -> ast.stmt:
    """Get a compound statement with each of its blocks emptied."""
    copied = type(statement)(**dict(ast.iter_fields(statement)))
    ast.copy_location(copied, statement)
    filler: list[ast.stmt] = [ast.copy_location(ast.Pass(), statement)]
    for name in ("body", "orelse", "finalbody"):
        if getattr(statement, name, None):
            setattr(copied, name, filler)
    if isinstance(copied, ast.Try | ast.TryStar):
        copied.handlers = [ast.copy_location(ast.ExceptHandler(h.type, h.name, filler), h) for h in copied.handlers]
    if isinstance(copied, ast.Match):
        copied.cases = [ast.match_case(case.pattern, case.guard, filler) for case in copied.cases]
    return copied


def _table(statement: ast.stmt) -> symtable.SymbolTable:
    code = ast.unparse(ast.Module([_runnable(statement)], []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return symtable.symtable(code, "<cell>", "exec")


def _runnable(statement: ast.stmt) -> ast.stmt:
    """Get a statement that stands at the top level; await, return and yield there are for the compiler to refuse."""
    if isinstance(statement, ast.AsyncFor):
        return ast.copy_location(ast.For(statement.target, statement.iter, statement.body, statement.orelse), statement)
    if isinstance(statement, ast.AsyncWith):
        return ast.copy_location(ast.With(statement.items, statement.body), statement)
    return statement


def _nested(table: symtable.SymbolTable) -> set[str]:
    """Get the global names that functions, classes and comprehensions inside the statement read."""
    found: set[str] = set()
    for child in table.get_children():
        for symbol in child.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                found.add(symbol.get_name())
        found |= _nested(child)
    return found


def _immediate(table: symtable.SymbolTable) -> set[str]:
    found: set[str] = set()
    for child in table.get_children():
        if child.get_type() == "class" or child.get_name() in ("listcomp", "setcomp", "dictcomp", "genexpr"):
            found |= {s.get_name() for s in child.get_symbols() if s.is_global() and s.is_referenced()}
            found |= _immediate(child)
    return found


def _globals_assigned(table: symtable.SymbolTable) -> set[str]:
    """Get the names that nested functions assign under a ``global`` statement."""
    found: set[str] = set()
    for child in table.get_children():
        found |= {s.get_name() for s in child.get_symbols() if s.is_declared_global() and s.is_assigned()}
        found |= _globals_assigned(child)
    return found


def changed_in_place(statement: ast.stmt) -> dict[str, ast.AST]:
    """Get the names whose objects the statement changes in place: ``x[k] =``, ``x.append(…)``, ``inplace=True``."""
    found: dict[str, ast.AST] = {}
    for node in _outside_functions(statement):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For):
            targets = [node.target]
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store | ast.Del):
                    _note(found, part.value, node)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _mutates(node):
            _note(found, node.func.value, node)
    return found


def _mutates(call: ast.Call) -> bool:
    inplace = any(
        keyword.arg == "inplace" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in call.keywords
    )
    return inplace or (isinstance(call.func, ast.Attribute) and call.func.attr in MUTATORS)


def _note(found: dict[str, ast.AST], node: ast.expr, where: ast.AST) -> None:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    if isinstance(node, ast.Name):
        found.setdefault(node.id, where)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _outside_functions(child)
