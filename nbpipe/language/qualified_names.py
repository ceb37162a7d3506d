"""What the names of ordinary cells stand for: the full name of an imported object, a constant's value, a function."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from nbpipe.language.ast_nodes import every_node

_DEPTH = 20
_BUILTIN_NAMES = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True)
class QualifiedNames:
    """Imports by the name that they bind, the values of constants, and the functions and classes of ordinary cells.

    ``stars`` are the modules of ``import *``: a name that nothing binds may be of the last one.
    """

    imports: dict[str, str] = field(default_factory=dict)
    values: dict[str, ast.expr] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def of(self, node: ast.expr, depth: int = _DEPTH) -> str:
        """Return the full name of an imported object, with ``()`` for a call: ``logging.getLogger().setLevel``.

        Empty for any other expression.
        """
        if isinstance(node, ast.Name):
            value = self.values.get(node.id) if depth and node.id not in self.imports else None
            return self.of(value, depth - 1) if value is not None else self._imported(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.of(node.value, depth)
            return f"{owner}.{node.attr}" if owner else ""
        if isinstance(node, ast.Call):
            called = self.of(node.func, depth)
            return f"{called}()" if called else ""
        return ""

    def _imported(self, name: str) -> str:
        bound = name in self.functions or name in self.classes or name in self.values or name in _BUILTIN_NAMES
        if name == "get_ipython" and not bound:
            # A kernel has it without an import.
            return "IPython.get_ipython"
        return self.imports.get(name) or (f"{self.stars[-1]}.{name}" if self.stars and not bound else "")

    def add(self, statement: ast.stmt) -> None:
        """Add what a definition binds."""
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for name, full in _imported(statement):
                self.imports.setdefault(name, full)
            if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
                self.stars.append(statement.module or "")
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions[statement.name] = statement
        elif isinstance(statement, ast.ClassDef):
            self.classes[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    self.values[target.id] = statement.value
        elif isinstance(statement, ast.Try):
            for each in statement.body:
                self.add(each)

    def inside(self, body: list[ast.stmt]) -> QualifiedNames:
        """Return the names as seen by code that has further imports of its own."""
        own = [each for statement in body for node in every_node(statement) for each in _imported(node)]
        return replace(self, imports={**self.imports, **dict(own)}) if own else self


def root_of(node: ast.expr) -> str:
    """Return the name that an expression of attributes, items and calls begins with; empty if it begins otherwise."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
