"""The AST transformer that makes a cell wait for the outputs that it reads, by inserting a statement before its code.

IPython only prints errors of its event callbacks and still runs the cell, so a callback could not prevent it from
running without its data. The inserted statement raises in the cell itself, and an interrupt reaches it like the cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from typing import Any

from nbpipe.language.name_analysis import name_usage
from nbpipe.magics.output_bindings import OutputBindings

NAME = "__nbpipe_await__"
_NAME_PATTERN = re.compile(r"[^\W\d]\w*")
_EXPANDED = re.compile(r"\$\w+|\{[^{}]*\}")
_SHELL = ("system", "getoutput")
_MAGICS = ("run_line_magic", "run_cell_magic", *_SHELL)
_NOT_PYTHON = frozenset({
    "bash", "sh", "script", "perl", "ruby", "js", "javascript", "html", "HTML", "svg", "SVG", "latex", "markdown",
    "writefile", "file", "cd", "env", "set_env", "ls", "pip", "conda", "mamba", "uv", "system", "sx", "matplotlib",
    "config", "alias", "reset", "who", "whos", "who_ls", "history", "load", "run",
})  # fmt: skip
# These magics wait by themselves.
_OURS = ("step", "nbstep", "nbpipe", "load_ext", "reload_ext", "unload_ext")


class AwaitTransformer(ast.NodeTransformer):
    """An AST transformer for IPython."""

    def __init__(self, outputs: OutputBindings) -> None:
        self._outputs = outputs

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the cell with a wait before it, if it reads outputs that are not ready."""
        if not isinstance(node, ast.Module) or not self._outputs.names:
            return node
        read, binds = _read_and_bound(node)
        awaited = self._outputs.read_by(None, read)
        self._outputs.forget(binds - set(awaited))
        if awaited:
            node.body.insert(_first(node.body), _wait_for(awaited))
        return node


def await_function(outputs: OutputBindings, shown: Callable[[], Any]) -> Callable[..., None]:
    """Return the function that the statement calls; ``shown`` returns a context manager that displays errors."""

    def wait(*names: str) -> None:
        with shown():
            outputs.await_names(names)

    return wait


def _read_and_bound(node: ast.Module) -> tuple[set[str], set[str]]:
    """Return the names that a cell may read and those that it binds; for too deeply nested code, all its names."""
    try:
        usage = name_usage(node.body)
        read = usage.early | usage.unsure | _mentioned(node)
        if _calls_what_it_defines(node):
            read |= usage.later - usage.binds
        return set(read), set(usage.binds)
    except RecursionError:
        # IPython removes a transformer that raises; then no cell would wait any more.
        return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}, set()


def _wait_for(names: Iterable[str]) -> ast.stmt:
    call = ast.Call(ast.Name(NAME, ast.Load()), [ast.Constant(name) for name in names], [])
    return ast.fix_missing_locations(ast.Expr(call, lineno=1, col_offset=0, end_lineno=1, end_col_offset=0))


def _first(body: list[ast.stmt]) -> int:
    """Return the index after `from __future__` imports, which must come first."""
    place = 0
    while place < len(body) and (
        isinstance(body[place], ast.ImportFrom) and getattr(body[place], "module", "") == "__future__"
    ):
        place += 1
    return place


def _calls_what_it_defines(tree: ast.Module) -> bool:
    """Return whether a function that the cell defines may be called while the cell runs."""
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
    """Return the names in the texts of line magics and shell lines, which are not parsed as Python."""
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAGICS:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if texts and texts[0] not in _OURS:
                other = node.func.attr in _SHELL or texts[0] in _NOT_PYTHON
                words.update(
                    word for text in texts for word in (_expanded(text) if other else _NAME_PATTERN.findall(text))
                )
    return words


def _expanded(text: str) -> list[str]:
    """Return the names that IPython expands in a text that is not Python."""
    return [word for part in _EXPANDED.findall(text) for word in _NAME_PATTERN.findall(part)]
