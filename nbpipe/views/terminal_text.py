"""How much room a text takes on a terminal, and texts made to fit."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# Categories of characters that move the cursor, reorder the line or show nothing.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def one_line(text: str) -> str:
    """Return a text as one harmless line, its white space joined."""
    return harmless(" ".join(text.split()))


def harmless(line: str) -> str:
    """Return a line that cannot steer a terminal: control characters are shown as �."""
    return line if line.isascii() and line.isprintable() else "".join(map(_seen, line))


def _seen(character: str) -> str:
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in _UNSEEN else character


def width(text: str) -> int:
    """Return the number of terminal columns of a line: two for wide characters, none for marks on another."""
    return len(text) if text.isascii() else sum(map(_columns, text))


@lru_cache(maxsize=4096)
def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def fit(text: str, columns: int) -> str:
    """Return a line that takes at most ``columns``, ending in … where something is left out."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…" if columns > 0 else ""


def pad(text: str, columns: int) -> str:
    """Return a line that takes exactly ``columns``."""
    fitted = fit(text, columns)
    return fitted + " " * (columns - width(fitted))
