"""Cells as plain Python: line magics and shell escapes become the calls that IPython turns them into."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from tokenize import TokenError
from typing import TypeVar

from nbpipe.errors import BadCode, SourceLocation

T = TypeVar("T")

# These run the cell's code in the notebook's own namespace.
_PYTHON_MAGIC = re.compile(r"\s*%%(?:time|capture|prun)(?!\S).*")
# IPython looks for a prompt on the first two lines; other cells are handled without importing IPython.
_PROMPTED = re.compile(r"\s*(?:.*\n)?[ \t]*(?:>>>|\.\.\.|In \[)")
_COMMAND = re.compile(r"\s*([^\W\d][\w.]*)(.*)")

# Further names of IPython's own magics.
_MORE_NAMES = ("ed", "hist", "rep")


def without_magic(source: str) -> str | None:
    """Return the cell below magics that run it unchanged, with their lines blank; None below any other magic."""
    above = ""
    while magic := _PYTHON_MAGIC.match(source):
        above += "\n" * magic[0].count("\n")
        source = source[magic.end() :]
    return None if source.lstrip().startswith("%%") else above + source


def without_prompts(source: str) -> str:
    """Return the cell without common indentation and prompts, as IPython strips them."""
    if not _PROMPTED.match(source) and is_plain(source):
        return source
    above, lines = _without_blank(source)
    # Imported here: IPython takes 0.2 s, and most notebooks have no such cell in their pipeline.
    from IPython.core.inputtransformer2 import classic_prompt, ipython_prompt, leading_indent

    for clean in (leading_indent, classic_prompt, ipython_prompt):
        lines = clean(lines)  # type: ignore[no-untyped-call]
    return above + "".join(lines)


def parse_cell(source: str, place: SourceLocation) -> ast.Module:
    """Return the cell's syntax tree; raise BadCode with the author's line if it is not valid Python."""
    return _read(source, place, _parse)


def check_cell(source: str, place: SourceLocation) -> None:
    """Raise BadCode for errors that only the compiler finds, such as `return` outside a function."""
    _read(source, place, _compile)


def _read(source: str, place: SourceLocation, reader: Callable[[str], T]) -> T:
    source = without_prompts(source)
    try:
        return reader(source)
    except SyntaxError as plain:
        error = plain
    for transform in (_transformed, _called):
        try:
            text = transform(source)
            if text.rstrip() != source.rstrip():
                return reader(text)
        except SyntaxError as transformed:
            error = transformed
    raise BadCode(
        f"the code is not valid Python: {error.msg}", (error.text or "").strip(),
        SourceLocation(place.cell, error.lineno, error.offset, place.step),
    ) from None  # fmt: skip


def too_deep(place: SourceLocation) -> BadCode:
    """Return the error for code whose expressions exceed Python's recursion limit."""
    return BadCode("the code is nested too deeply to be read", "Split its longest expression into statements.", place)


def too_long(place: SourceLocation) -> BadCode:
    """Return the error for a number with more digits than Python converts to text."""
    return BadCode(
        "the code contains a number that is too long to be written out", "Write its statement on separate lines.", place
    )


def parse_plain(source: str) -> ast.Module:
    """Return the syntax tree of Python without magics; raise SyntaxError for any error."""
    _compile(source)
    return _parse(source)


def is_plain(source: str) -> bool:
    """Return whether the cell is Python without any magic."""
    try:
        _parse(source)
    except SyntaxError:
        return False
    return True


# A cell is parsed a few times in a row; caching more trees would cost more than parsing again.
@lru_cache(maxsize=8)
def _parse(source: str) -> ast.Module:
    with _quietly():
        return ast.parse(source)


def _compile(source: str) -> None:
    with _quietly():
        try:
            compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except SyntaxError:
            # IPython compiles statement by statement, so `from __future__` may appear anywhere.
            for statement in ast.parse(source).body:
                alone = ast.Module([statement], [])
                compile(alone, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Turn every error of Python's parser and compiler into a SyntaxError, without warnings."""
    with warnings.catch_warnings():
        # The author is warned of an invalid escape when the cell runs, not each time it is parsed.
        warnings.simplefilter("ignore")
        try:
            yield
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error) or type(error).__name__) from None


def _without_blank(source: str) -> tuple[str, list[str]]:
    """Return the leading blank lines of a cell as line feeds, and its other lines."""
    lines = source.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if not line.isspace()), 0)
    return "\n" * "".join(lines[:first]).count("\n"), lines[first:]


def _transformed(source: str) -> str:
    """Return the Python code that IPython makes of a cell's magics, shell escapes and auto-quoting."""
    # Imported here, as above.
    from IPython.core.inputtransformer2 import TransformerManager

    manager = TransformerManager()  # type: ignore[no-untyped-call]
    above, lines = _without_blank(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return above + str(manager.transform_cell("".join(lines)))
        except (LookupError, TokenError, TypeError, ValueError, RecursionError) as error:
            raise SyntaxError(str(error) or type(error).__name__) from None


def _called(source: str) -> str:
    """Return the call that IPython makes of a one-line magic without a percent sign, such as ``pip install x``."""
    line = source.strip()
    command = _COMMAND.fullmatch(line)
    if command is None or len(line.splitlines()) > 1 or command[1] not in _line_magics():
        return source
    return f"get_ipython().run_line_magic({command[1]!r}, {command[2].strip()!r})"


@lru_cache(maxsize=1)
def _line_magics() -> frozenset[str]:
    # Imported here: only cells that are not valid Python need them.
    from ipykernel.zmqshell import KernelMagics
    from IPython.core import magics
    from IPython.core.alias import default_aliases
    from IPython.core.magic import Magics

    # Newer versions load a class on first access.
    kinds = [getattr(magics, name) for name in dir(magics)]
    ours = [kind for kind in (*kinds, KernelMagics) if isinstance(kind, type) and issubclass(kind, Magics)]
    names = [name for kind in ours for name in kind.magics.get("line", ())]
    return frozenset([*names, *(name for name, _ in default_aliases()), *_MORE_NAMES])
