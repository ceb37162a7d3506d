"""Data by content: files that are pinned, outputs that are stored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Content:
    """Files pinned by content: ``kind`` is file, dir or glob; ``members`` are (relative path, bytes, digest)."""

    kind: str
    paths: tuple[str, ...]
    digest: str
    bytes: int
    members: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored output: ``uri`` is the fsspec URL of its bytes, ``basename`` the name that readers see."""

    name: str
    format: str
    digest: str
    bytes: int
    uri: str
    basename: str

    @property
    def is_path(self) -> bool:
        """Say whether a reader is given a path instead of a value."""
        return self.format in ("file", "dir")
