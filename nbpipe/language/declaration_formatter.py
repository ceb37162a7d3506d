"""A step cell's declaration in the short spelling or the long one: ``nbpipe fmt``.

The meaning stays, and so does every character of the code below.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from nbpipe.errors import NO_LOCATION, Refused
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import FLAGS, SHORT, DeclarationText, marker, read_declaration_text, read_step
from nbpipe.language.source_text import LocatedText, split_commas
from nbpipe.model import Cell

STYLES = ("auto", "long", "short")
# The line length of black and ruff.
WIDTH = 88
_LISTS = ("in", "out", "param", "after", "hash", "envvar", "register")
_OPTIONS = {key: f"-{letter}" for letter, key in SHORT.items()}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
# On the magic's line such a value would be read as an option, or would continue on the next line.
_NO_SHORT = re.compile(r"(?:^|\s)-{1,2}[A-Za-z]|\\$")


def format_declaration(cell: Cell, style: str = "auto") -> str:
    """Return a cell's source with its declaration in a style; unchanged if the cell is not a step.

    ``auto``: what is over 88 columns, or continued by a backslash, becomes one short line if it fits and else long.
    Raise BadDirective if the declaration cannot be read.
    """
    if marker(cell.source) is not CellMarker.STEP:
        return cell.source
    read_step(cell)
    written = read_declaration_text(cell)
    lines = [line for line in _LINE.findall(cell.source) if line]
    if style == "auto" and not _overlong(lines, written):
        return cell.source
    short = _short(written)
    long = style == "long" or (style == "auto" and len(short[0]) > WIDTH)
    fresh = _replaced(lines, written, _long(written, lines) if long else short)
    return fresh if _meaning(fresh, cell) == _meaning(cell.source, cell) else cell.source


def _overlong(lines: list[str], written: DeclarationText) -> bool:
    """Return whether the first line with all that continues it is continued, or too wide."""
    return written.used > 1 or len(lines[written.first].rstrip("\r\n")) > WIDTH


def _replaced(lines: list[str], written: DeclarationText, declaration: list[str]) -> str:
    """Return the cell with its declaration's lines replaced; the line endings stay."""
    first = lines[written.first]
    end = first[len(first.rstrip("\r\n")) :]
    last = lines[written.after - 1]
    closing = last[len(last.rstrip("\r\n")) :]
    text = (end or "\n").join(declaration) + closing
    return "".join([*lines[: written.first], text, *lines[written.after :]])


def _short(written: DeclarationText) -> list[str]:
    """Return one line with all options; a value that does not fit on it keeps its own line."""
    words, below = [written.head, written.name], []
    for key, span in written.options.items():
        value = _value(key, span)
        if _NO_SHORT.search(value):
            below.append(f"{_pipe(written, [])} {key}: {value}")
        else:
            words += [_OPTIONS.get(key, f"--{key}"), *([value] if value else [])]
    return [" ".join(words), *below]


def _long(written: DeclarationText, lines: list[str]) -> list[str]:
    """Return the line with the name, and one line per key; flags stay on the first line."""
    flags = [f"--{key}" for key in written.options if key in ("append", "here")]
    keys = [(key, _value(key, span)) for key, span in written.options.items() if key not in ("append", "here")]
    pipe = _pipe(written, lines)
    return [" ".join([written.head, written.name, *flags]), *(f"{pipe} {key}: {value}".rstrip() for key, value in keys)]


def _pipe(written: DeclarationText, lines: list[str]) -> str:
    """Return the prefix of the cell's directive lines: black turns it into ``# |``."""
    own = [written.head, *lines[written.first : written.after]]
    return "# |" if any(line.startswith("# |") for line in own) else "#|"


def _value(key: str, span: LocatedText) -> str:
    if key in FLAGS and span.text.lstrip("-") == key:
        return ""
    return ", ".join(item.text for item in split_commas(span)) if key in _LISTS else span.text


def _meaning(source: str, cell: Cell) -> Any:
    """Return what a declaration means, without positions, and the code below it; None if it cannot be read."""
    again = dataclasses.replace(cell, source=source)
    try:
        read, written = read_step(again), read_declaration_text(again)
    except Refused:
        return None
    texts = {key: _value(key, span) for key, span in written.options.items()}
    inputs = [dataclasses.replace(item, place=NO_LOCATION) for item in read.inputs]
    outputs = [dataclasses.replace(item, place=NO_LOCATION) for item in read.outputs]
    code = [line for line in _LINE.findall(source) if line][written.after :]
    options = dataclasses.replace(read.options, later=())
    return read.name, read.append, read.here, inputs, outputs, options, texts, code
