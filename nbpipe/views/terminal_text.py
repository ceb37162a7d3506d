"""The width of text on a terminal, and text fitted to a width."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# Categories of characters that move the cursor, reorder the line or are invisible.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def one_line(text: str) -> str:
    """Return a text as one harmless line with normalized white space."""
    return harmless(" ".join(text.split()))


def harmless(line: str) -> str:
    """Return a line without effects on a terminal: control characters become �."""
    return line if line.isascii() and line.isprintable() else "".join(map(_visible, line))


def _visible(character: str) -> str:
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in _INVISIBLE else character


def width(text: str) -> int:
    """Return the number of terminal columns of a line: two for wide characters, none for combining marks."""
    return len(text) if text.isascii() else sum(map(_columns, text))


@lru_cache(maxsize=4096)
def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def fit(text: str, columns: int) -> str:
    """Return a line of at most ``columns``, ending in … if it was cut."""
    if width(text) <= columns:
        return text
    fitting, used = [], 1
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        fitting.append(character)
    return "".join(fitting).rstrip() + "…" if columns > 0 else ""


def pad(text: str, columns: int) -> str:
    """Return a line of exactly ``columns``."""
    fitted = fit(text, columns)
    return fitted + " " * (columns - width(fitted))
