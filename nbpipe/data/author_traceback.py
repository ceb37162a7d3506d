"""Tracebacks of a step in terms of the author's notebook: its cells and their lines, not those of the rendered one.

The executed notebook keeps IPython's own text, which refers to the cells that are beside it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# IPython begins the part of each frame so; the lines of code around follow, each with its number.
_FRAME = re.compile(r"(\s*)Cell In\s?\[(\d+)\], line (\d+)(.*)")
_NUMBERED = re.compile(r"(-*>? ?\s*)(\d+)(\s.*|)")
_COLOUR = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_Lines = Sequence[Sequence[int]]


def without_colours(text: str) -> str:
    """Return a text without terminal colours."""
    return _COLOUR.sub("", text)


def in_author_cells(text: str, cells: Iterable[tuple[int | None, Mapping[str, Any]]]) -> str:
    """Return a traceback without colours, with the author's cells and lines in it.

    ``cells`` are the execution counts of the one-step notebook's cells, and what nbpipe noted with each.
    """
    noted = {count: note for count, note in cells if isinstance(count, int) and _is_note(note)}
    shown: list[str] = []
    note: Mapping[str, Any] = {}
    for line in text.split("\n"):
        frame = _FRAME.fullmatch(line)
        if frame is not None:
            note = noted.get(int(frame[2]), {})
            shown.append(_frame(frame, note))
            continue
        numbered = _NUMBERED.fullmatch(line) if note.get("role") == "shared" else None
        if numbered is None:
            note = note if line.strip() else {}
            shown.append(line)
        elif _place(int(numbered[2]), note["lines"])[0]:
            shown.append(_numbered(numbered, note["lines"]))
    return "\n".join(shown)


def author_place(line: int, note: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the author's cell and line for a line of a cell of the one-step notebook; None where it is unknown."""
    if note.get("role") == "step":
        return note["cell"], line
    if note.get("role") == "shared" and _is_note(note):
        cell, own = _place(line, note["lines"])
        return cell or None, own or None
    return None, None


def with_author_tracebacks(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return an executed notebook for display elsewhere: its errors refer to the author's cells, without colours."""
    cells = notebook["cells"]
    noted = [(cell.get("execution_count"), cell.get("metadata", {}).get("nbpipe", {})) for cell in cells]
    return {**notebook, "cells": [{**cell, "outputs": [_output(each, noted) for each in cell.get("outputs", [])]}
                                  for cell in cells]}  # fmt: skip


def _output(output: Mapping[str, Any], noted: Sequence[tuple[int | None, Mapping[str, Any]]]) -> Mapping[str, Any]:
    if output.get("output_type") != "error":
        return output
    text = without_colours("\n".join(output.get("traceback", [])))
    return {**output, "traceback": in_author_cells(text, noted).split("\n")}


def _frame(frame: re.Match[str], note: Mapping[str, Any]) -> str:
    indent, number, rest = frame[1], int(frame[3]), frame[4]
    if note.get("role") == "step":
        return f"{indent}Cell {note['cell']}, line {number}{rest}"
    if note.get("role") == "shared":
        cell, line = _place(number, note["lines"])
        return f"{indent}Cell {cell}{f', line {line}' if line else ''}{rest}"
    return frame[0]


def _numbered(line: re.Match[str], lines: _Lines) -> str:
    """Return a line of code with the number that it has in the author's cell, or without one if that is unknown."""
    number = str(_place(int(line[2]), lines)[1] or "")
    longer = len(number) - len(line[2])
    # What stands before a number is as long as its column leaves room for.
    before = line[1][longer:] if longer > 0 else line[1][:1] * -longer + line[1]
    return f"{before}{number}{line[3]}"


def _is_note(note: Mapping[str, Any]) -> bool:
    """Return whether a note has what its role says: a notebook whose attempt was lost may hold anything."""
    lines = note.get("lines")
    if note.get("role") != "shared":
        return note.get("role") != "step" or isinstance(note.get("cell"), int)
    return isinstance(lines, list | tuple) and all(
        isinstance(each, list | tuple) and len(each) == 3 and all(isinstance(part, int) for part in each)
        for each in lines
    )


def _place(number: int, lines: _Lines) -> tuple[int, int]:
    """Return the cell and the line of a line of the shared cell; the line is 0 if it is unknown."""
    first, cell, line = next((place for place in reversed(lines) if place[0] <= number), (number, 0, 0))
    return cell, number - first + line if line else 0
