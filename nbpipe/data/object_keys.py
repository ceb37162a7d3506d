"""The key of a stored object within its store, derived from its reference alone."""

from __future__ import annotations

import re

from nbpipe.model import ObjectReference

OBJECTS = "objects"

_DIGEST = re.compile(r"blake3:([0-9a-f]{64})")
_FAN = 2


def object_key(reference: ObjectReference) -> str:
    """Return ``objects/<first 2 hex>/<hex>/<basename>``; raise ValueError if the digest or the name is invalid."""
    return f"{OBJECTS}/{key_below(reference)}"


def key_below(reference: ObjectReference) -> str:
    """Return the key of an object, without the folder in which all are."""
    digits, basename = key_parts(reference)
    return f"{digits[:_FAN]}/{digits}/{basename}"


def key_parts(reference: ObjectReference) -> tuple[str, str]:
    """Return the hex digits of the digest, and the basename; raise ValueError if either is invalid."""
    return hex_digits(reference.digest), _one_part(reference.basename)


def hex_digits(digest: str) -> str:
    """Return the hex digits of a digest; raise ValueError if it is none."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError(f"not a digest: {digest!r}")
    return match.group(1)


def _one_part(basename: str) -> str:
    if basename in ("", ".", "..") or "/" in basename or "\0" in basename:
        raise ValueError(f"not the name of a file: {basename!r}")
    return basename
