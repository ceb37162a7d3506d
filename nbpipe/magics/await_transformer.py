"""Makes a cell wait for the outputs that it reads: a statement of ours is put before the cell's own.

IPython shows the errors of its event callbacks and runs the cell all the same, so nothing else can keep it from
running without its data. The statement raises in the cell's place, and an interrupt reaches it as it does the cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from typing import Any

from nbpipe.language.name_analysis import name_usage
from nbpipe.magics.output_bindings import OutputBindings

NAME = "__nbpipe_await__"
_WORD = re.compile(r"[^\W\d]\w*")
_EXPANDED = re.compile(r"\$\w+|\{[^{}]*\}")
_SHELL = ("system", "getoutput")
_MAGICS = ("run_line_magic", "run_cell_magic", *_SHELL)
_NOT_PYTHON = frozenset({
    "bash", "sh", "script", "perl", "ruby", "js", "javascript", "html", "HTML", "svg", "SVG", "latex", "markdown",
    "writefile", "file", "cd", "env", "set_env", "ls", "pip", "conda", "mamba", "uv", "system", "sx", "matplotlib",
    "config", "alias", "reset", "who", "whos", "who_ls", "history", "load", "run",
})  # fmt: skip
# These know themselves what they need.
_OURS = ("step", "nbstep", "nbpipe", "load_ext", "reload_ext", "unload_ext")


class AwaitTransformer(ast.NodeTransformer):
    """An AST transformer as IPython takes them."""

    def __init__(self, outputs: OutputBindings) -> None:
        self._outputs = outputs

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the cell with a wait before it, where it reads what is not there yet."""
        if not isinstance(node, ast.Module) or not self._outputs.known:
            return node
        read, binds = _read_and_bound(node)
        awaited = self._outputs.read_by(None, read)
        self._outputs.forget(binds - set(awaited))
        if awaited:
            node.body.insert(_first(node.body), _wait_for(awaited))
        return node


def await_function(outputs: OutputBindings, shown: Callable[[], Any]) -> Callable[..., None]:
    """Return the function that the statement calls; ``shown`` gives a context that turns our errors into displays."""

    def wait(*names: str) -> None:
        with shown():
            outputs.await_names(names)

    return wait


def _read_and_bound(node: ast.Module) -> tuple[set[str], set[str]]:
    """Return the names that a cell may read and those that it binds; of one nested too deeply, all that it mentions."""
    try:
        told = name_usage(node.body)
        read = told.early | told.unsure | _mentioned(node)
        if _calls_what_it_defines(node):
            read |= told.later - told.binds
        return set(read), set(told.binds)
    except RecursionError:
        # IPython would drop a transformer that raises, and no cell would ever wait again.
        return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}, set()


def _wait_for(names: Iterable[str]) -> ast.stmt:
    call = ast.Call(ast.Name(NAME, ast.Load()), [ast.Constant(name) for name in names], [])
    return ast.fix_missing_locations(ast.Expr(call, lineno=1, col_offset=0, end_lineno=1, end_col_offset=0))


def _first(body: list[ast.stmt]) -> int:
    """Return the place behind a docstring and `from __future__` lines, which must come first."""
    place = 0
    while place < len(body) and (
        isinstance(body[place], ast.ImportFrom) and getattr(body[place], "module", "") == "__future__"
    ):
        place += 1
    return place


def _calls_what_it_defines(tree: ast.Module) -> bool:
    """Return whether a function that the cell defines may be called by the cell itself, or by what it is handed to."""
    outside = list(_outside_of_functions(tree))
    defined = {node.name for node in outside if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    loaded = {node.id for node in outside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    calls = [node for node in outside if isinstance(node, ast.Call)]
    handed = (each for call in calls for each in ast.walk(call))
    return bool(defined & loaded) or any(isinstance(each, ast.Lambda) for each in handed)


def _outside_of_functions(tree: ast.AST) -> Iterable[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in child.decorator_list:
                yield from ast.walk(part)
        elif not isinstance(child, ast.Lambda):
            yield from _outside_of_functions(child)


def _mentioned(tree: ast.Module) -> set[str]:
    """Return the words in the texts of line magics and shell lines, which are not Python yet."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAGICS:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if texts and texts[0] not in _OURS:
                other = node.func.attr in _SHELL or texts[0] in _NOT_PYTHON
                found.update(word for text in texts for word in (_expanded(text) if other else _WORD.findall(text)))
    return found


def _expanded(text: str) -> list[str]:
    """Return the words that IPython puts values for into a text that is not Python."""
    return [word for part in _EXPANDED.findall(text) for word in _WORD.findall(part)]
