"""Cells as plain Python: line magics and shell escapes become the calls that IPython makes of them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from tokenize import TokenError
from typing import TypeVar

from nbpipe.errors import BadCode, Place

T = TypeVar("T")

# They run the cell's code in the notebook's own namespace.
_PYTHON_MAGIC = re.compile(r"\s*%%(?:time|capture|prun)(?!\S)")


def without_magic(source: str) -> str | None:
    """Get the cell under a magic that runs it as it is, the magic's line as a comment; None under any other magic."""
    magic = _PYTHON_MAGIC.match(source)
    if magic is None:
        return None
    start = source.index("%%")
    return f"{source[:start]}# {source[start:]}"


def parse_cell(source: str, place: Place) -> ast.Module:
    """Get the cell's syntax tree; BadCode with the author's line when it is no Python."""
    return _read(source, place, _parse)


def check_cell(source: str, place: Place) -> None:
    """Raise BadCode for what only the compiler finds, as a `return` outside a function, or an argument given twice."""
    _read(source, place, _compile)


def _read(source: str, place: Place, reader: Callable[[str], T]) -> T:
    try:
        return reader(source)
    except SyntaxError as plain:
        error = plain
    if _has_escapes(source):
        try:
            return reader(_transformed(source))
        except SyntaxError as transformed:
            error = transformed
    raise BadCode(
        f"the code is not valid Python: {error.msg}", (error.text or "").strip(),
        Place(place.cell, error.lineno, error.offset, place.step),
    ) from None  # fmt: skip


def too_deep(place: Place) -> BadCode:
    """Get the error for code whose expressions are nested more deeply than Python lets us follow."""
    return BadCode("the code is nested too deeply to be read", "Split its longest expression into statements.", place)


def too_long(place: Place) -> BadCode:
    """Get the error for a number with more digits than Python writes down."""
    return BadCode("the code holds a number that is too long to be written down", "Put it on lines of its own.", place)


def parse_plain(source: str) -> ast.Module:
    """Get the syntax tree of Python without any magic; SyntaxError, whatever is wrong with it."""
    _compile(source)
    return _parse(source)


def is_plain(source: str) -> bool:
    """Say whether the cell is Python without any magic."""
    try:
        _parse(source)
    except SyntaxError:
        return False
    return True


# A cell is asked about a few times in a row; to keep more trees than that takes longer than to parse again.
@lru_cache(maxsize=8)
def _parse(source: str) -> ast.Module:
    with _quietly():
        return ast.parse(source)


def _compile(source: str) -> None:
    with _quietly():
        compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Let Python read code: whatever it cannot read is a SyntaxError."""
    with warnings.catch_warnings():
        # An invalid escape in a string is the author's to hear of when the cell runs, not each time it is read.
        warnings.simplefilter("ignore")
        try:
            yield
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
