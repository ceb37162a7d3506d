"""Cached digests of files, with the file status that validates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select

from nbpipe.history.database import Repository, chunks
from nbpipe.history.schema import remembered


@dataclass(frozen=True, slots=True)
class CachedDigest:
    """The digest that a file had when its status was this."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str


class DigestRepository(Repository):
    """The digests of files when they were last read."""

    def recall(self, paths: Sequence[str]) -> dict[str, CachedDigest]:
        """Return the cached digests of those ``paths`` that are known."""
        cached: dict[str, CachedDigest] = {}
        with self._database.reading() as connection:
            for chunk in chunks([path for path in paths if _storable(path)]):
                rows = connection.execute(select(remembered).where(remembered.c.path.in_(chunk)))
                cached.update((row.path, _entry(row)) for row in rows)
        return cached

    def remember(self, entries: Sequence[CachedDigest]) -> None:
        """Store the entries, each replacing an earlier one of its path."""
        newest = {entry.path: entry for entry in entries if _storable(entry.path)}
        if not newest:
            return
        with self._database.writing() as connection:
            for chunk in chunks(list(newest)):
                connection.execute(delete(remembered).where(remembered.c.path.in_(chunk)))
            connection.execute(insert(remembered), [_row(entry) for entry in newest.values()])


def _storable(path: str) -> bool:
    # A file name that is not UTF-8 has lone surrogates, which no database stores: such a file is read each time.
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)


def _row(entry: CachedDigest) -> dict[str, Any]:
    return {
        "path": entry.path,
        "device": str(entry.device),
        "inode": str(entry.inode),
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "ctime_ns": entry.ctime_ns,
        "digest": entry.digest,
    }


def _entry(row: Row[Any]) -> CachedDigest:
    return CachedDigest(row.path, int(row.device), int(row.inode), row.size, row.mtime_ns, row.ctime_ns, row.digest)
