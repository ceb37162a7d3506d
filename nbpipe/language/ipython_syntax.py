"""Cells as plain Python: line magics and shell escapes become the calls that IPython makes of them."""

from __future__ import annotations

import ast
import re
import warnings
from functools import lru_cache
from tokenize import TokenError

from nbpipe.errors import BadCode, Place

# They run the cell's code in the notebook's own namespace.
_PYTHON_MAGIC = re.compile(r"\s*%%(?:time|capture|prun)(?!\S)")

# Only the compiler finds a `return` outside a function or an argument that is named twice; it takes as long as parsing.
_FOR_THE_COMPILER = re.compile(
    r"\b(?:def|lambda|return|yield|break|continue|nonlocal|global|await|async|class|case|except|__future__|__debug__)\b"
    r"|\*\s*\w+\s*[,=]|import\s*\*"
)


def without_magic(source: str) -> str | None:
    """Get the cell under a magic that runs it as it is, the magic's line as a comment; None under any other magic."""
    magic = _PYTHON_MAGIC.match(source)
    if magic is None:
        return None
    start = source.index("%%")
    return f"{source[:start]}# {source[start:]}"


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


def too_deep(place: Place) -> BadCode:
    """Get the error for code whose expressions are nested more deeply than Python lets us follow."""
    return BadCode("the code is nested too deeply to be read", "Split its longest expression into statements.", place)


def parse_plain(source: str) -> ast.Module:
    """Get the syntax tree of Python without any magic; SyntaxError, whatever is wrong with it."""
    return _parse(source)


def is_plain(source: str) -> bool:
    """Say whether the cell is Python without any magic."""
    try:
        _parse(source)
    except SyntaxError:
        return False
    return True


@lru_cache(maxsize=64)
def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        # An invalid escape in a string is the author's to hear of when the cell runs, not each time it is read.
        warnings.simplefilter("ignore")
        try:
            if _FOR_THE_COMPILER.search(source):
                compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            return ast.parse(source)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error) or type(error).__name__) from None


def _has_escapes(source: str) -> bool:
    return any(sign in source for sign in "%!?")


def _transformed(source: str) -> str:
    # Imported here: IPython takes 0.2 s, and most notebooks have no magic in a cell of their pipeline.
    from IPython.core.inputtransformer2 import TransformerManager

    manager = TransformerManager()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(manager.transform_cell(source))
        except (LookupError, TokenError, TypeError, ValueError, RecursionError) as error:
            raise SyntaxError(str(error) or type(error).__name__) from None
