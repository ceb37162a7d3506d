"""Makes a cell wait for the outputs that it reads: a statement of ours is put before the cell's own.

IPython shows the errors of its event callbacks and runs the cell all the same, so nothing else can keep it from
running without its data. The statement raises in the cell's place, and an interrupt reaches it as it does the cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from typing import Any

from nbpipe.language.names import names_of
from nbpipe.magics.outputs import Outputs

NAME = "__nbpipe_await__"
_WORD = re.compile(r"[^\W\d]\w*")
_MAGICS = ("run_line_magic", "run_cell_magic", "system", "getoutput")
# These know themselves what they need.
_OURS = ("step", "nbstep", "nbpipe", "load_ext", "reload_ext", "unload_ext")


class Waiter(ast.NodeTransformer):
    """An AST transformer as IPython takes them."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def visit(self, node: ast.AST) -> ast.AST:
        """Get the cell with a wait before it, where it reads what is not there yet."""
        if not isinstance(node, ast.Module) or not self._outputs.expected:
            return node
        told = names_of(node.body)
        read = told.needs | told.unsure | _mentioned(node)
        awaited = self._outputs.read_by(None, read)
        self._outputs.forget(told.binds - set(awaited))
        if awaited:
            node.body.insert(_first(node.body), _wait_for(awaited))
            ast.fix_missing_locations(node)
        return node


def awaiting(outputs: Outputs, shown: Callable[[], Any]) -> Callable[..., None]:
    """Get the function that the statement calls; ``shown`` gives a context that turns our errors into displays."""

    def wait(*names: str) -> None:
        with shown():
            outputs.await_names(names)

    return wait


def _wait_for(names: Iterable[str]) -> ast.stmt:
    call = ast.Call(ast.Name(NAME, ast.Load()), [ast.Constant(name) for name in names], [])
    return ast.Expr(call, lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)


def _first(body: list[ast.stmt]) -> int:
    """Get the place behind a docstring and `from __future__` lines, which must come first."""
    place = 0
    while place < len(body) and (
        isinstance(body[place], ast.ImportFrom) and getattr(body[place], "module", "") == "__future__"
    ):
        place += 1
    return place


def _mentioned(tree: ast.Module) -> set[str]:
    """Get the words in the texts of line magics and shell lines, which are not Python yet."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAGICS:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if texts and texts[0] not in _OURS:
                found.update(_WORD.findall(" ".join(texts)))
    return found
