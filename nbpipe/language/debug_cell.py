"""A step's code as the text of an ordinary cell, to be run by hand; lines keep the numbers of the step's cell."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from nbpipe.errors import Refused, SourceLocation
from nbpipe.language.ipython_syntax import parse_cell
from nbpipe.language.source_text import lines_of
from nbpipe.model import StepCell

# The cell's definitions must not be shared with steps.
_LOCAL_MARKER = "#| local"
_WIDEST = 60


def debug_cell(pieces: Sequence[StepCell], failed: tuple[int, int] | None = None, message: str = "") -> str:
    """Return the step's code as an ordinary cell; ``failed`` (cell, line) is marked with ``message``.

    The lines of the first piece keep their numbers. Each further one begins below a comment that names its cell.
    """
    lines: list[str] = []
    marked: int | None = None
    for piece in pieces:
        own = lines_of(piece.source)
        first = next((place for place, line in enumerate(own) if line.strip()), 0)
        if lines:
            own[first] = f"# cell {piece.cell}: {own[first].lstrip('# |')}"
            lines.append("")
        else:
            own[first] = _LOCAL_MARKER
        if failed and failed[0] == piece.cell and failed[1] <= len(own) and marked is None:
            marked = len(lines) + failed[1] - 1
        lines += own
    return "\n".join(lines if marked is None else _marked(lines, marked, message))


def _marked(lines: Sequence[str], at: int, message: str) -> list[str]:
    """Return the lines with a comment after one of them, unless that would change the code."""
    shown = message if len(message) <= _WIDEST else f"{message[:_WIDEST]}…"
    fresh = [*lines[:at], f"{lines[at]}  # ← {shown or 'failed here'}", *lines[at + 1 :]]
    return fresh if _means("\n".join(fresh)) == _means("\n".join(lines)) else list(lines)


def _means(source: str) -> str | None:
    try:
        return ast.dump(parse_cell(source, SourceLocation()))
    except Refused:
        return None
