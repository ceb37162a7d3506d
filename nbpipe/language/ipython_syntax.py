"""Cells as plain Python: line magics and shell escapes become the calls that IPython makes of them."""

from __future__ import annotations

import ast
import warnings

from nbpipe.errors import BadCode, Place


def parse_cell(source: str, place: Place) -> ast.Module:
    """Get the cell's syntax tree; BadCode with the author's line when it does not compile."""
    try:
        return _parse(source)
    except SyntaxError as plain:
        error = plain
    if _has_escapes(source):
        try:
            return _parse(_transformed(source))
        except SyntaxError as transformed:
            error = transformed
    raise BadCode(
        f"the code is not valid Python: {error.msg}", (error.text or "").strip(),
        Place(place.cell, error.lineno, error.offset, place.step),
    ) from None  # fmt: skip


def is_plain(source: str) -> bool:
    """Say whether the cell is Python without any magic."""
    try:
        _parse(source)
    except SyntaxError:
        return False
    return True


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        # An invalid escape in a string is the author's to hear of when the cell runs, not each time it is read.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error) or type(error).__name__) from None


def _has_escapes(source: str) -> bool:
    return any(sign in source for sign in "%!?")


def _transformed(source: str) -> str:
    # Imported here: IPython takes 0.2 s, and most notebooks have no magic in a cell of their pipeline.
    from IPython.core.inputtransformer2 import TransformerManager

    manager = TransformerManager()  # type: ignore[no-untyped-call]
    return str(manager.transform_cell(source))
