"""The canonical encoding that reuse keys are hashed from: every item is typed and length-prefixed against collisions.

The idea is redun's tagged hashing: a pre-image begins with its type. Equality here differs from Python's: 1, 1.0 and
True are three values, 0.0 and -0.0 two, and all NaNs are one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_NAN = struct.pack(">d", float("nan"))
_length = struct.Struct(">Q").pack


class _Foreign(Exception):
    """A part without a canonical form; ``where`` is its path, extended at each level."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.where = ""


def encode(value: Any, path: str = "value") -> bytes:
    """Return the encoding of a value; raise ValueError that names a part without a canonical form."""
    try:
        return _encoded(value)
    except _Foreign as error:
        raise ValueError(f"{path}{error.where} {error.reason}") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply, or holds itself") from None


def sequence(items: Iterable[bytes]) -> bytes:
    """Return the encoding of a list of items that are encoded already."""
    payload = b"".join(items)
    return b"l" + _length(len(payload)) + payload


def _encoded(value: Any) -> bytes:
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise _Foreign(f"is a {type(value).__name__}, which has no canonical form")
    return encoder(value)


def _item(tag: bytes, payload: bytes) -> bytes:
    return tag + _length(len(payload)) + payload


def _none(_: None) -> bytes:
    return _item(b"n", b"")


def _bool(value: bool) -> bytes:  # noqa: FBT001  # it is what is encoded
    return _item(b"b", b"1" if value else b"0")


def _int(value: int) -> bytes:
    # Hexadecimal, because Python does not write very long numbers in decimal.
    return _item(b"i", b"%x" % value)


def _float(value: float) -> bytes:
    return _item(b"f", _NAN if math.isnan(value) else struct.pack(">d", value))


def _str(value: str) -> bytes:
    try:
        payload = value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Foreign("holds text that is not valid Unicode") from None
    return b"s" + _length(len(payload)) + payload


def _list(value: list[Any]) -> bytes:
    parts = []
    try:
        for item in value:
            parts.append(_str(item) if type(item) is str else _encoded(item))  # noqa: PERF401  # its length tells where
    except _Foreign as error:
        error.where = f"[{len(parts)}]{error.where}"
        raise
    return sequence(parts)


def _dict(value: dict[Any, Any]) -> bytes:
    odd = [key for key in value if type(key) is not str]
    if odd:
        raise _Foreign(f"has the key {odd[0]!r}, which is not text")
    parts: list[bytes] = []
    for key in sorted(value):
        try:
            parts += (_str(key), _encoded(value[key]))
        except _Foreign as error:
            error.where = f"[{key!r}]{error.where}"
            raise
    return _item(b"d", b"".join(parts))


_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    type(None): _none, bool: _bool, int: _int, float: _float, str: _str, list: _list, dict: _dict,
}  # fmt: skip
