"""Amounts in words."""

from __future__ import annotations


def size_text(count: int) -> str:
    """Return a number of bytes, e.g. ``1 byte``, ``512 bytes``, ``1.4 MB``."""
    if count < 1_000:
        return "1 byte" if count == 1 else f"{count} bytes"
    scaled = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        scaled /= 1_000
        if scaled < 999.95:
            return f"{scaled:.1f} {unit}"
    return f"{scaled / 1_000:.1f} PB"
