"""The canonical encoding that reuse keys are made of: every item typed and length-prefixed, so that no two collide.

The idea is redun's tagged hashing: a pre-image says what it is before it says what it holds. Equality in Python is
not equality here: 1, 1.0 and True are three values, 0.0 and -0.0 two, and every NaN is one.
"""

from __future__ import annotations

import math
import struct
from typing import Any

_NAN = struct.pack(">d", float("nan"))


def encode(value: Any, path: str = "value") -> bytes:
    """Get the bytes that stand for exactly this value; ValueError names the part that has none."""
    if value is None:
        return _item(b"n", b"")
    if value is True or value is False:
        return _item(b"b", b"1" if value else b"0")
    if type(value) is int:
        return _item(b"i", str(value).encode() if abs(value) < 10**4000 else hex(value).encode())
    if type(value) is float:
        return _item(b"f", _NAN if math.isnan(value) else struct.pack(">d", value))
    if type(value) is str:
        return _item(b"s", _text(value, path))
    if type(value) is list:
        return _item(b"l", b"".join(encode(item, f"{path}[{index}]") for index, item in enumerate(value)))
    if type(value) is dict:
        return _item(b"d", _pairs(value, path))
    raise ValueError(f"{path} is a {type(value).__name__}, which has no canonical form")


def _item(tag: bytes, payload: bytes) -> bytes:
    return tag + struct.pack(">Q", len(payload)) + payload


def _text(value: str, path: str) -> bytes:
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{path} holds text that is not valid Unicode") from None


def _pairs(value: dict[Any, Any], path: str) -> bytes:
    odd = next((key for key in value if type(key) is not str), None)
    if odd is not None:
        raise ValueError(f"{path} has the key {odd!r}, which is not text")
    return b"".join(encode(key, path) + encode(value[key], f"{path}[{key!r}]") for key in sorted(value))
