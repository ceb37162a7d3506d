"""Spans of a cell's text that know their source location."""

from __future__ import annotations

import difflib
import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass

from nbpipe.errors import BadDirective, SourceLocation

OPENING = {"[": "]", "(": ")", "{": "}"}
QUOTES = "\"'"
# In other positions a quote is an apostrophe: ./don't.csv
_BEFORE_QUOTES = " \t,=:[("
_PLAIN = re.compile(r"[^\[(){}\]\"']*")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class LocatedText:
    """Text with the place of each of its characters: ``segments`` are (offset, line, column) of its parts."""

    text: str
    segments: tuple[tuple[int, int, int], ...]
    cell: int
    step: str | None = None

    def place(self, offset: int = 0) -> SourceLocation:
        """Return the place of the character at ``offset``."""
        start, line, column = self.segments[0]
        for segment in self.segments[1:]:
            if segment[0] <= offset:
                start, line, column = segment
        return SourceLocation(self.cell, line, column + offset - start, self.step)

    def part(self, start: int, end: int | None = None) -> LocatedText:
        """Return the stripped span between two offsets, with its places."""
        raw = self.text[start:end]
        begin = start + len(raw) - len(raw.lstrip())
        if len(self.segments) == 1:
            offset, line, column = self.segments[0]
            return LocatedText(raw.strip(), ((0, line, column + begin - offset),), self.cell, self.step)
        inside = [(max(offset - begin, 0), *self._at(max(offset, begin))) for offset, _, _ in self.segments]
        return LocatedText(raw.strip(), tuple(sorted({(0, *self._at(begin)), *inside})), self.cell, self.step)

    def _at(self, offset: int) -> tuple[int, int]:
        place = self.place(offset)
        return (place.line or 1, place.column or 1)

    def named(self, step: str | None) -> LocatedText:
        """Return the same span as part of step ``step``."""
        return LocatedText(self.text, self.segments, self.cell, step)

    def wrong(self, message: str, hint: str = "", offset: int = 0) -> BadDirective:
        """Return the error that points at this span."""
        return BadDirective(message, hint, self.place(offset))


def lines_of(source: str) -> list[str]:
    """Return the lines as Python counts them: ``str.splitlines`` also splits at characters within a literal."""
    return _LINE_END.split(source)


def comments_of(source: str) -> dict[int, str]:
    """Return the comments by line number, up to the first text that is not valid Python."""
    comments: dict[int, str] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                comments[token.start[0]] = token.string
    except (tokenize.TokenError, SyntaxError):
        return comments
    return comments


def line_span(text: str, cell: int, line: int, column: int = 1) -> LocatedText:
    """Return the span of a part of one line."""
    return LocatedText(text, ((0, line, column),), cell)


def split_commas(span: LocatedText) -> list[LocatedText]:
    """Split at the commas outside quotes and brackets; raise BadDirective for an empty item."""
    items, start = [], 0
    for offset in [*_top_level(span, ","), len(span.text)]:
        item = span.part(start, offset)
        if not item.text:
            raise span.wrong(
                "there is nothing between two commas", "Write NAME, NAME, …", min(offset, len(span.text) - 1)
            )
        items.append(item)
        start = offset + 1
    return items


def find_top_level(span: LocatedText, character: str) -> int:
    """Return the offset of the first ``character`` outside quotes and brackets, or -1."""
    return next(iter(_top_level(span, character)), -1)


def _top_level(span: LocatedText, character: str) -> list[int]:
    if _PLAIN.fullmatch(span.text):
        return [offset for offset, letter in enumerate(span.text) if letter == character]
    candidates: list[tuple[int, frozenset[int]]] = []
    opened: list[int] = []
    quoted = -1
    for offset, letter in enumerate(span.text):
        if quoted >= 0:
            quoted = -1 if letter == span.text[quoted] else quoted
        elif letter in QUOTES and (not offset or span.text[offset - 1] in _BEFORE_QUOTES):
            quoted = offset
        elif letter == character:
            candidates.append((offset, frozenset(opened)))
        elif letter in OPENING:
            opened.append(offset)
        elif opened and letter == OPENING[span.text[opened[-1]]]:
            opened.pop()
    if quoted >= 0:
        sign = span.text[quoted]
        hint = "Close it, or quote the whole value with the other kind."
        raise span.wrong(f"the quote {sign} is not closed", hint, quoted)
    # An unclosed bracket is part of a file name.
    return [offset for offset, around in candidates if around <= set(opened)]


def unquote(span: LocatedText) -> LocatedText:
    """Return the span inside the quotes, or the span itself if it has none."""
    text = span.text
    if len(text) >= 2 and text[0] in QUOTES and text.find(text[0], 1) == len(text) - 1:
        return LocatedText(
            text[1:-1],
            tuple((max(o - 1, 0), line, col + (o == 0)) for o, line, col in span.segments),
            span.cell,
            span.step,
        )
    return span


def nearest(word: str, known: Iterable[str], cutoff: float = 0.55) -> str:
    """Return ``Did you mean `x`?`` for the nearest known word, or an empty text."""
    names = list(known)
    folded = {name.casefold(): name for name in names if name != word}
    match = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=cutoff)
    return f"Did you mean `{folded[match[0]]}`?" if match else ""
