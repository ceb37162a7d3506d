"""Replace the sources of cells in a notebook file and keep everything else: indentation, order, line endings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbpipe.errors import NotebookUnreadable

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
# One character of a JSON text in quotes as it is written.
_CHARACTER = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL)
_SOURCE_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class _Value:
    """A JSON value and its position: ``parts`` are its members or items by key or index."""

    start: int
    end: int
    parts: Mapping[Any, _Value]


def with_new_sources(text: str, sources: Mapping[int, str]) -> str:
    """Return a notebook's text with new sources for some cells, counted from 1 among all cells.

    Raise NotebookUnreadable if the text is not a notebook of format 4; it must be JSON.
    """
    before = json.loads(text)
    cells = _read(_TOKEN.finditer(text)).parts.get("cells")
    if cells is None or before.get("nbformat") != 4:
        raise NotebookUnreadable("it is not a notebook of format 4", "Save it again from Jupyter.")
    fresh, ascii_only = text, text.isascii()
    for number in sorted(sources, reverse=True):
        source = cells.parts[number - 1].parts["source"]
        written = text[source.start : source.end]
        change = _list if written.startswith("[") else _string
        replacement = change(written, source, sources[number], ascii_only=ascii_only)
        fresh = fresh[: source.start] + replacement + fresh[source.end :]
        before["cells"][number - 1]["source"] = _like(before["cells"][number - 1]["source"], sources[number])
    if json.loads(fresh) != before:
        raise NotebookUnreadable("its text cannot be changed safely", "Save it again from Jupyter.")
    return fresh


def cell_spans(text: str) -> list[tuple[int, int]]:
    """Return where the cells of a notebook's text begin and end.

    Raise NotebookUnreadable if the text is not a notebook of format 4; it must be JSON.
    """
    cells = _read(_TOKEN.finditer(text)).parts.get("cells")
    if cells is None or json.loads(text).get("nbformat") != 4:
        raise NotebookUnreadable("it is not a notebook of format 4", "Save it again from Jupyter.")
    return [(cell.start, cell.end) for _, cell in sorted(cells.parts.items())]


def _like(old: Any, source: str) -> Any:
    return _SOURCE_LINE.findall(source) if isinstance(old, list) else source


def _string(written: str, _source: _Value, fresh: str, *, ascii_only: bool) -> str:
    """Return a source as a JSON text; unchanged lines at its beginning and end stay as written."""
    return f'"{_spliced(_lines(written[1:-1]), fresh, ascii_only=ascii_only)}"'


def _spliced(old: list[str], fresh: str, *, ascii_only: bool) -> str:
    new = _SOURCE_LINE.findall(fresh)
    plain = [json.loads(f'"{line}"') for line in old]
    head, tail = _same(plain, new)
    middle = [json.dumps(line, ensure_ascii=ascii_only)[1:-1] for line in new[head : len(new) - tail]]
    return "".join([*old[:head], *middle, *old[len(old) - tail :]])


def _list(written: str, source: _Value, fresh: str, *, ascii_only: bool) -> str:
    """Return a source as a list of lines, laid out as it was."""
    items = [written[part.start - source.start : part.end - source.start] for part in source.parts.values()]
    places = list(source.parts.values())
    new = _SOURCE_LINE.findall(fresh)
    head, tail = _same([json.loads(item) for item in items], new)
    middle = [json.dumps(line, ensure_ascii=ascii_only) for line in new[head : len(new) - tail]]
    listed = [*items[:head], *middle, *items[len(items) - tail :]]
    if not places:
        return f"[{', '.join(listed)}]"
    opening = written[: places[0].start - source.start]
    closing = written[places[-1].end - source.start :]
    between = written[places[0].end - source.start : places[1].start - source.start] if len(places) > 1 else ""
    return opening + (between or f",{opening[1:] or ' '}").join(listed) + closing


def _same(old: list[str], new: list[str]) -> tuple[int, int]:
    """Return how many lines are equal at the beginning, and at the end of the remainder."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    rest = shorter - head
    tail = next((at for at in range(rest) if old[-1 - at] != new[-1 - at]), rest)
    return head, tail


def _lines(quoted: str) -> list[str]:
    """Split a JSON text without its quotes after each line feed."""
    lines, line = [], ""
    for character in _CHARACTER.findall(quoted):
        line += character
        if character in ("\\n", "\\u000a", "\\u000A"):
            lines.append(line)
            line = ""
    return [*lines, line] if line else lines


def _read(tokens: Iterator[re.Match[str]], first: re.Match[str] | None = None) -> _Value:
    """Read one value from the tokens of a text that is known to be JSON."""
    token = first or next(tokens)
    if token[0] not in "[{":
        return _Value(token.start(), token.end(), {})
    closing = "]" if token[0] == "[" else "}"
    parts: dict[Any, _Value] = {}
    following = next(tokens)
    while following[0] != closing:
        following = next(tokens) if following[0] == "," else following
        key: Any = len(parts)
        if closing == "}":
            key = json.loads(following[0])
            next(tokens)
            following = next(tokens)
        parts[key] = _read(tokens, following)
        following = next(tokens)
    return _Value(token.start(), following.end(), parts)
