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
    """Return a line without effects on a terminal or a page: control characters are written as escapes."""
    return line if line.isprintable() else "".join(map(_visible, line))


def harmless_lines(text: str) -> str:
    """Return a text of several lines with its line ends and tabs, and otherwise :func:`harmless`."""
    return "\n".join("\t".join(map(harmless, line.split("\t"))) for line in text.split("\n"))


def harmless_json(text: str) -> str:
    """Return JSON text in which control characters are escaped: it holds the same value, and steers no terminal."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


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
