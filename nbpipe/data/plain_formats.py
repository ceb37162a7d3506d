"""Plain values as JSON, bytes and text. Shipped to steps' kernels beside ``formats``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nbpipe.data.value_types import UnsupportedValue, type_name

JSON_TYPES = frozenset({type(None), bool, int, float, str, list, dict})
_JSON_DIGITS = 4000


def is_plain(value: Any) -> bool:
    """Return whether JSON preserves this value with its types (our reader supports NaN and infinities)."""
    try:
        return _plain(value, set())
    except RecursionError:
        return False


def _plain(value: Any, seen: set[int]) -> bool:
    kind = type(value)
    if kind is str:
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if kind is int:
        return bool(value.bit_length() < _JSON_DIGITS * 3)
    if kind in (list, dict):
        # JSON writes a list that is held twice as two lists.
        if id(value) in seen:
            return False
        seen.add(id(value))
    if kind is list:
        return all(_plain(item, seen) for item in value)
    if kind is dict:
        return all(type(key) is str and _plain(key, seen) and _plain(item, seen) for key, item in value.items())
    return kind in JSON_TYPES


def _number(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    raise UnsupportedValue(f"json does not take {type_name(value)}")


def write_json(value: Any, path: Path) -> str:
    """Write what JSON can represent; raise UnsupportedValue for anything else."""
    path.write_text(json.dumps(value, default=_number, ensure_ascii=False), encoding="utf-8", newline="")
    read_json(path)
    return ""


def read_json(path: Path) -> Any:
    """Return the value."""
    return json.loads(path.read_bytes())


def write_bin(value: Any, path: Path) -> str:
    """Write bytes."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise UnsupportedValue("bin takes bytes")
    path.write_bytes(value)
    return ""


def write_text(value: Any, path: Path) -> str:
    """Write a str as UTF-8, with its own line ends."""
    if not isinstance(value, str):
        raise UnsupportedValue("text takes a str")
    path.write_text(value, encoding="utf-8", newline="")
    return ""


def read_text(path: Path) -> str:
    """Return the str."""
    return path.read_bytes().decode("utf-8")
