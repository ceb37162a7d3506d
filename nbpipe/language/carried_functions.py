"""Functions that a step's outputs carry along, and the global names of the step that these read when they are called.

In one kernel such a name has the value that was bound to it last; a reader's copy of the function keeps the value that
it had in the step.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from nbpipe.language.call_arguments import partial_function
from nbpipe.language.name_analysis import NameUsage, name_usage
from nbpipe.model import Step

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DEFINING = ("def ", "class ", "lambda")
_DISPLAYS = (ast.List, ast.Tuple, ast.Set, ast.Dict)


def carried_globals(step: Step, trees: Iterable[ast.Module]) -> dict[str, frozenset[str]]:
    """Return, by output, the variables that the step binds and that functions in the output read."""
    if not any(word in piece.source for piece in step.pieces for word in _DEFINING):
        return {}
    own = _OwnNames([statement for tree in trees for statement in tree.body])
    found = {output.name: own.read_by(output.name) for output in step.outputs if not output.is_path}
    return {name: names for name, names in found.items() if names}


class _OwnNames:
    """What the statements of a step bind."""

    def __init__(self, body: Sequence[ast.stmt]) -> None:
        self._defined = {each.name: each for each in body if isinstance(each, _DEFINITIONS)}
        self._values: dict[str, list[ast.expr]] = {}
        for statement in body:
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    self._assign(target, statement.value)
        imported = {name for each in body if isinstance(each, ast.Import | ast.ImportFrom)
                    for name in name_usage([each]).binds}  # fmt: skip
        self._variables = name_usage(body).binds - imported - self._defined.keys()

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for each, part in zip(target.elts, value.elts, strict=True):
                self._assign(each, part)
        elif isinstance(target, ast.Name):
            self._values.setdefault(target.id, []).append(value)

    def read_by(self, output: str) -> frozenset[str]:
        """Return the step's own variables that functions in an output read."""
        todo: list[ast.expr] = [ast.Name(output)]
        seen, read = set[str](), set[str]()
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Name):
                name, known = node.id, node.id in seen
                seen.add(name)
                todo += self._values.get(name, ()) if not known else ()
                if name in self._defined and not known:
                    todo += self._called(read, name_usage([self._defined[name]]))
            elif isinstance(node, ast.Lambda):
                todo += self._called(read, name_usage([ast.Expr(node)]))
            else:
                todo += self._parts(node)
        return frozenset(read & self._variables)

    def _called(self, read: set[str], used: NameUsage) -> list[ast.Name]:
        """Note what a function reads, and return the other functions of the step among it."""
        read |= used.later
        return [ast.Name(name) for name in sorted(used.later & self._defined.keys())]

    def _parts(self, node: ast.expr) -> list[ast.expr]:
        """Return the expressions whose functions a value has."""
        if isinstance(node, _DISPLAYS):
            return [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        if not isinstance(node, ast.Call):
            return []
        inner = partial_function(node)
        if inner is not None:
            return [inner, *node.args[1:], *(each.value for each in node.keywords)]
        made = self._defined.get(node.func.id) if isinstance(node.func, ast.Name) else None
        is_maker = isinstance(made, ast.ClassDef) or (made is not None and _returns_function(made))
        return [node.func] if is_maker else []


def _returns_function(node: ast.AST) -> bool:
    inner = {each.name for each in ast.walk(node) if each is not node and isinstance(each, _DEFINITIONS)}
    returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value is not None]
    return any(
        isinstance(part, ast.Lambda) or (isinstance(part, ast.Name) and part.id in inner)
        for value in returned for part in ast.walk(value)
    )  # fmt: skip
