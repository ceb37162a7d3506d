"""Typed JSON: dataclasses of this package as JSON text, and back, checked against their types.

The text is plain ASCII: characters that UTF-8 cannot encode, such as lone surrogates in file names, are escaped. NaN
stays NaN. Paths are text. Decoded values are checked field by field by msgspec, which only this module uses, so that a
damaged file is an error and never a wrong value.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

ALWAYS: Mapping[str, bool] = {"always written": True}
"""The metadata of a field that is written even if it has its default, such as a version."""

_T = TypeVar("_T")
# The largest window, in gzip's container with its checksum.
_GZIP = 31
# What is written is never this much longer than its compressed form, unless it is short: a few bytes of somebody else's
# could fill the memory of whoever looks at them.
_SHORT, _RATIO = 1 << 26, 64
_PLAIN = frozenset((str, int, float, bool, type(None)))
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


def encode(value: object) -> str:
    """Return ``value``, built from dataclasses, enums and plain values, as one line of ASCII JSON.

    Anything else in it is written as its ``repr``.
    """
    return _ENCODER.encode(msgspec.to_builtins(value, enc_hook=_path_or_repr))


def encode_exact(value: object) -> str:
    """Return ``value`` as :func:`encode` does; raise TypeError if part of it could not be decoded again."""
    return _ENCODER.encode(msgspec.to_builtins(value, enc_hook=_path_only))


def encode_sparse(value: object) -> str:
    """Return ``value`` as :func:`encode` does, without fields that have their default, at every depth.

    Fields that are declared with :data:`ALWAYS` as their metadata are always written.
    """
    return _ENCODER.encode(_sparse(value))


def decode(text: str | bytes, kind: type[_T]) -> _T:
    """Return the value of type ``kind`` in a JSON text; raise ValueError if it contains something else."""
    try:
        decoder: msgspec.json.Decoder[_T] = _decoder(cast("Any", kind))
        return decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        # It is damaged, or JSON only as Python writes it, such as NaN and lone surrogates.
        return _decode_as_python(text, kind)


def _decode_as_python(text: str | bytes, kind: type[_T]) -> _T:
    try:
        return convert(json.loads(text), kind)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=_path_from)


def pack(text: str) -> bytes:
    """Return ASCII JSON compressed."""
    content = text.encode("ascii")
    # With the memory for long texts, clearing it would take most of the time for short ones. Matches reach back as far
    # as the window, but for the 262 bytes that zlib looks ahead.
    window = min(max((len(content) + 262).bit_length(), 9), zlib.MAX_WBITS)
    compressor = zlib.compressobj(wbits=window, memLevel=min(window - 6, zlib.DEF_MEM_LEVEL))
    return compressor.compress(content) + compressor.flush()


def unpack(packed: bytes) -> str:
    """Return the text that :func:`pack` compressed; raise ValueError when it is something else."""
    return _decompressed(packed, zlib.MAX_WBITS)


def gzip_text(text: str) -> bytes:
    """Return ASCII JSON as the content of a gzip file, the same for the same text."""
    # Most of such a text is digests, which no higher level makes smaller.
    compressor = zlib.compressobj(1, wbits=_GZIP)
    return compressor.compress(text.encode("ascii")) + compressor.flush()


def gunzip_text(content: bytes) -> str:
    """Return the text in a gzip file; raise ValueError if it is damaged or something else."""
    return _decompressed(content, _GZIP)


def convert(content: object, kind: type[_T]) -> _T:
    """Return parsed JSON as a value of type ``kind``; raise ValueError if it is something else."""
    try:
        return msgspec.convert(content, kind, dec_hook=_path_from)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _decompressed(content: bytes, wbits: int) -> str:
    decompressor = zlib.decompressobj(wbits)
    try:
        text = decompressor.decompress(content, max(_SHORT, _RATIO * len(content)))
    except (zlib.error, TypeError) as error:
        raise ValueError(error) from error
    if not decompressor.eof:
        raise ValueError("it is cut off, or decompresses to far more than was ever written")
    return text.decode("ascii")


def _path_or_repr(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)


def _path_only(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"JSON cannot hold a {type(value).__name__}")


def _path_from(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _sparse(value: object) -> Any:
    """Return a value as what JSON has; enums that are texts or numbers are written as these."""
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return [_sparse(item) for item in value]
    kind: Any = type(value)
    defaults = _defaults(kind)
    if defaults is None:
        return msgspec.to_builtins(value, enc_hook=_path_or_repr)
    written: dict[str, Any] = {}
    for name, default in defaults:
        item = getattr(value, name)
        if default is MISSING or not (item is default or item == default):
            written[name] = item if type(item) in _PLAIN else _sparse(item)
    return written


@lru_cache(maxsize=256)
def _defaults(kind: Any) -> tuple[tuple[str, object], ...] | None:
    """Return the fields of a dataclass with their defaults; None for another type."""
    return tuple((each.name, _default(each)) for each in fields(kind)) if is_dataclass(kind) else None


def _default(each: Field[Any]) -> object:
    if each.metadata == ALWAYS:
        return MISSING
    return each.default_factory() if each.default_factory is not MISSING else each.default
