"""Previews of outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PreviewImage:
    """A small picture: its name, its MIME type and its bytes."""

    name: str
    media: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Preview:
    """The beginning of an output: ``summary`` describes it in a few words; fields that do not apply are empty.

    ``kind`` is table, array, image, text, files, opaque (nothing of it can be shown) or missing. ``columns`` are names
    and types, ``rows`` the first cells of the first rows, ``files`` names and sizes. The texts are as they were stored.
    """

    kind: str
    summary: str
    format: str
    bytes: int
    columns: tuple[tuple[str, str], ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""
    pictures: tuple[PreviewImage, ...] = ()
    files: tuple[tuple[str, int], ...] = ()
