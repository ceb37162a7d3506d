"""Typed JSON: dataclasses of this package as JSON text, and back, checked against their types.

The text is plain ASCII: what UTF-8 cannot hold, such as the lone surrogates of a file name, is escaped, and NaN stays
NaN. What is read is checked field by field by msgspec, so that a damaged file is an error and never a wrong value.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")
_EMPTY: tuple[object, ...] = ([], (), {})
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=repr)


def encode(value: object) -> str:
    """Return ``value``, built from dataclasses, enums and plain values, as one line of ASCII JSON."""
    return _ENCODER.encode(msgspec.to_builtins(value, enc_hook=repr))


def encode_sparse(value: Any) -> str:
    """Return a dataclass as :func:`encode` does, without the fields that are None or an empty collection.

    A field without a default is always written. To be read back, the default of any other must be what is left out.
    """
    items: dict[str, Any] = msgspec.to_builtins(value, enc_hook=repr)
    required = {each.name for each in fields(value) if each.default is MISSING and each.default_factory is MISSING}
    return _ENCODER.encode(
        {name: item for name, item in items.items() if name in required or (item is not None and item not in _EMPTY)}
    )


def decode(text: str | bytes, kind: type[_T]) -> _T:
    """Return the value of type ``kind`` that the JSON text holds; raise ValueError when it holds something else."""
    try:
        return msgspec.convert(json.loads(text), kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
