"""Code that a notebook runs from text: the analysis cannot look into it, which is told once."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from nbpipe.errors import Refused, SourceLocation
from nbpipe.language.ipython_syntax import parse_cell
from nbpipe.model import Cell, PipelineWarning, StepCell

_METHODS = ("run_cell", "ex")
_NAMESPACES = ("globals", "locals", "vars")


def execution_warnings(ordinary: Iterable[Cell], pieces: Sequence[StepCell]) -> tuple[PipelineWarning, ...]:
    """Return a warning about the cells above the last step that execute text in the notebook's own namespace.

    ``ordinary`` are cells outside of steps, ``pieces`` the code of steps. In a namespace of its own, such code binds
    and changes no names of the notebook.
    """
    last = max((piece.cell for piece in pieces), default=0)
    own = [StepCell(cell.number, cell.source) for cell in ordinary]
    places = [
        (piece.cell, line)
        for piece in sorted([*own, *pieces], key=lambda piece: piece.cell)
        if piece.cell < last and ("exec" in piece.source or "run_cell" in piece.source)
        for line in _lines(piece)[:1]
    ]
    if not places:
        return ()
    (cell, line), others = places[0], [str(number) for number, _ in places[1:]]
    also = f" (also {'cell' if len(others) == 1 else 'cells'} {', '.join(others)})" if others else ""
    message = f"cell {cell}{also} executes text as code, which nbpipe cannot look into"
    hint = "What that code defines or changes does not reach other steps: write it in the cell, or declare outputs."
    return (PipelineWarning("hidden-code", message, hint, SourceLocation(cell, line)),)


def _lines(piece: StepCell) -> list[int]:
    """Return the lines of a cell in which it executes text; none if the cell cannot be read."""
    try:
        tree = parse_cell(piece.source, SourceLocation(piece.cell))
    except (Refused, RecursionError):
        return []
    return sorted(node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _executes_text(node))


def _executes_text(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id="exec"):
            namespace = call.args[1] if len(call.args) > 1 else _keyword(call, "globals")
            return namespace is None or _is_own(namespace)
        case ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=method):
            return method in _METHODS
        case _:
            return False


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _is_own(namespace: ast.expr) -> bool:
    """Return whether an expression is the namespace of the notebook."""
    match namespace:
        case ast.Call(func=ast.Name(id=name)):
            return name in _NAMESPACES
        case ast.Constant(value=None):
            return True
        case ast.Attribute(attr="user_ns" | "__dict__"):
            return True
        case _:
            return False
