"""All cells of a notebook file as far as a proposal looks at them: text, tags, headings and times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbpipe.model import Cell

_HEADING = re.compile(r"^\s{0,3}(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class OutlineCell:
    """One code cell: ``seconds`` that it took when it was last executed, None if they are not known.

    ``section`` counts the headings above the cell; ``heading`` is the text of the last of them.
    """

    cell: Cell
    seconds: float | None = None
    section: int = 0
    heading: str = ""


def outline(
    document: Mapping[str, Any], cells: Sequence[Cell], seconds: Mapping[int, float]
) -> tuple[OutlineCell, ...]:
    """Return the code cells ``cells`` of a notebook of format 4, the times that they took, and the headings above."""
    by_number = {cell.number: cell for cell in cells}
    outlined: list[OutlineCell] = []
    section, heading = 0, ""
    for number, raw in enumerate(document["cells"], 1):
        if number in by_number:
            outlined.append(OutlineCell(by_number[number], seconds.get(number), section, heading))
        elif raw.get("cell_type") == "markdown":
            for text in _headings(_text(raw.get("source"))):
                section, heading = section + 1, text
    return tuple(outlined)


def _text(source: object) -> str:
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def _headings(text: str) -> list[str]:
    """Return the headings in a text of markdown, without those that are code."""
    found: list[str] = []
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else _HEADING.match(line)
        if heading:
            found.append(heading[2])
    return found
