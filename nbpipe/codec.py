"""Typed JSON: dataclasses of this package as JSON text, and back, checked against their types.

The text is plain ASCII: what UTF-8 cannot hold, such as the lone surrogates of a file name, is escaped, and NaN stays
NaN. What is read is checked field by field by msgspec, so that a damaged file is an error and never a wrong value.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")
_EMPTY: tuple[object, ...] = ([], (), {})
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=repr)


def encode(value: object) -> str:
    """Return ``value``, built from dataclasses, enums and plain values, as one line of ASCII JSON."""
    return _ENCODER.encode(msgspec.to_builtins(value, enc_hook=repr))


def encode_sparse(value: object) -> str:
    """Return a dataclass as :func:`encode` does, without the fields that are None or an empty collection.

    To be read back, each field that can be so must have that as its default.
    """
    fields: dict[str, Any] = msgspec.to_builtins(value, enc_hook=repr)
    return _ENCODER.encode({name: item for name, item in fields.items() if item is not None and item not in _EMPTY})


def decode(text: str | bytes, kind: type[_T]) -> _T:
    """Return the value of type ``kind`` that the JSON text holds; raise ValueError when it holds something else."""
    try:
        return msgspec.convert(json.loads(text), kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
