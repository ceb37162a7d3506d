"""Literal values: which of them are valid parameters, and how to write them as exact Python expressions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

MAX_BYTES = 64 * 1024
MAX_KEYS = 1000
# Python does not write longer integers in decimal (sys.get_int_max_str_digits).
MAX_BITS = 14_000


def find_foreign(value: Any, path: str) -> str | None:
    """Return a sentence about the first part of ``value`` that cannot be delivered exactly, or None."""
    for where, part in _walk(value, path):
        if isinstance(part, str) and not _encodes(part):
            return f"`{where}` holds text that is not valid Unicode (a lone surrogate)"
        if type(part) is int and part.bit_length() > MAX_BITS:
            return f"`{where}` is an integer of {part.bit_length():,} bits"
        if isinstance(part, dict):
            odd = next((key for key in part if type(key) is not str or not _encodes(key)), None)
            if odd is not None:
                return f"`{where}` has the key {odd!r}; a parameter's dict has text keys only"
        elif type(part) not in (type(None), bool, int, float, str, list):
            return f"`{where}` is a {type(part).__name__}"
    return None


def find_too_large(value: Any, path: str) -> str | None:
    """Return a sentence if the value is too large for a parameter, or None."""
    keys = sum(len(part) for _, part in _walk(value, path) if isinstance(part, dict))
    if keys > MAX_KEYS:
        return f"`{path}` has {keys:,} keys, more than {MAX_KEYS:,}"
    size = len(to_python(value).encode("utf-8", "surrogatepass"))
    return f"`{path}` is {size:,} bytes long, more than {MAX_BYTES:,}" if size > MAX_BYTES else None


def to_python(value: Any) -> str:
    """Return a Python expression that evaluates to exactly this value."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, list):
        return "[" + ", ".join(to_python(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_python(key)}: {to_python(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if type(value) is list:
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]")
    elif type(value) is dict:
        for key, item in value.items():
            yield from _walk(item, f"{path}[{key!r}]")
