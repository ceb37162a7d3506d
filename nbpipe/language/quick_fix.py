"""Quick fix for a cell: add the declaration that an error asks for to the cell's text."""

from __future__ import annotations

import dataclasses
import re

from nbpipe.errors import BadDirective, NbpipeError, UndeclaredName
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import DeclarationText, marker, read_declaration_text
from nbpipe.model import Cell

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


def declare_missing_input(cell: Cell, error: NbpipeError) -> str | None:
    """Return the cell's source with the missing input declared; None if that does not fix the error.

    The cell is the one that the error refers to. Existing text stays exactly as it is.
    """
    if not isinstance(error, UndeclaredName) or not error.add or marker(cell.source) is not CellMarker.STEP:
        return None
    try:
        written = read_declaration_text(cell)
        lines = [line for line in _LINE.findall(cell.source) if line]
        fresh = "".join(with_item(lines, written, "in", error.add))
        again = read_declaration_text(dataclasses.replace(cell, source=fresh))
    except BadDirective:
        return None
    return fresh if "in" in again.options and error.add in again.options["in"].text else None


def with_item(lines: list[str], written: DeclarationText, key: str, item: str) -> list[str]:
    """Return the lines with one more input or output (``key``: in, out).

    It comes after the others of its kind, on its own directive line, or after the name.
    """
    if key in written.options:
        span = written.options[key]
        end = span.place(len(span.text) - 1)
        return _inserted(lines, (end.line or 1) - 1, end.column or 1, f", {item}")
    below = written.first + written.used
    if written.after > below:
        ending = lines[written.first][len(lines[written.first].rstrip("\r\n")) :]
        pipe = "# |" if lines[below].startswith("# |") else "#|"
        return [*lines[:below], f"{pipe} {key}: {item}{ending}", *lines[below:]]
    end = written.name_span.place(len(written.name_span.text) - 1)
    return _inserted(lines, (end.line or 1) - 1, end.column or 1, f" -{key[0]} {item}")


def _inserted(lines: list[str], at: int, column: int, text: str) -> list[str]:
    line = lines[at]
    return [*lines[:at], line[:column] + text + line[column:], *lines[at + 1 :]]
