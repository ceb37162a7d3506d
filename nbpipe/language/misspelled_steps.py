"""Cells that were meant as steps, but whose first line is misspelled."""

from __future__ import annotations

import re

from nbpipe.errors import BadDirective, SourceLocation
from nbpipe.language.source_text import lines_of, nearest
from nbpipe.model import Cell

_STEP = re.compile(r"%%(?:nb)?step(?![\w?])|#\s?\|\s*step\s*:")
# With a question mark it asks for help.
_MEANT = re.compile(r"\s*(%[%\s]*|#+\s*\|\s*)([A-Za-z]\w*)(?![\w?])(.*)$")
_NEAR = 0.75
# As close as a misspelling, but another word.
_OTHER = "stop"
_SHOWN = 60


def misspelled(cell: Cell) -> BadDirective | None:
    """Return the error for a cell that almost begins like a step, ignoring blank and comment lines, or None."""
    above = False
    for number, line in enumerate(lines_of(cell.source), 1):
        if right := _right(line):
            where = " as the cell's first line" if above else ""
            hint = f"Write `{right}`{where}."
            return BadDirective(
                f"`{line.strip()[:_SHOWN]}` does not declare a step", hint, SourceLocation(cell.number, number, 1)
            )
        if line.strip() and (not line.lstrip().startswith("#") or _STEP.match(line)):
            return None
        above = above or bool(line.strip())
    return None


def _right(line: str) -> str:
    """Return the line that was meant, or an empty text if it is not a step's."""
    meant = _MEANT.match(line)
    if meant is None or _STEP.match(line.lstrip()):
        return ""
    sign, word, rest = meant.groups()
    pipe = sign.startswith("#")
    spellings = ("step",) if pipe else ("step", "nbstep")
    name = word if word in spellings else next((name for name in spellings if nearest(word, [name], _NEAR)), "")
    rest = rest.lstrip(":= \t") if pipe else rest.rstrip()
    if not name or word == _OTHER or rest.startswith("="):
        return ""
    return f"#| {name}: {rest or 'NAME'}"[:_SHOWN].rstrip() if pipe else f"%%{name}{rest or ' NAME'}"[:_SHOWN].rstrip()
