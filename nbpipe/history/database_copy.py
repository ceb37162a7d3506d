"""A private copy of a database that this process may only read: SQLite would need to write beside it, or fail."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

_WAL, _JOURNAL = "-wal", "-journal"
_HEADER_BYTES = 32
# Byte 18 of the database is the write version: 2 for write-ahead logging.
_WRITE_AHEAD = (18, 2)
# File times have a limited resolution: a file may change twice within it and look the same.
_TICK_SECONDS = 0.05
_TRIES = 200


class DatabaseFileState(NamedTuple):
    """What identifies a version of a database: the status of its file and of the log beside it."""

    file: tuple[int, ...]
    log: tuple[int, ...]

    @property
    def is_filled(self) -> bool:
        """Return whether the file has any content."""
        return bool(self.file) and self.file[2] > 0

    def is_settled(self, now: float) -> bool:
        """Return whether any change after ``now`` would be visible."""
        return all(status[-1] / 1e9 < now - _TICK_SECONDS for status in self if status)


def state_of(path: Path) -> DatabaseFileState:
    """Return a database's current state."""
    return DatabaseFileState(_status(path), _status(_beside(path, _WAL)))


def copy_database(path: Path, target: Path) -> None:
    """Copy a consistent snapshot of a database that others may be writing; create and lock no files beside it.

    Raise sqlite3.OperationalError if it is written too often to be copied.
    """
    for beside in ("", _WAL, _JOURNAL, "-shm"):
        _beside(target, beside).unlink(missing_ok=True)
    if not path.stat().st_size:
        return
    for _ in range(_TRIES):
        if _copied(path, target):
            return
        time.sleep(_TICK_SECONDS)
    raise sqlite3.OperationalError("database is locked")


def immutable(path: Path) -> sqlite3.Connection:
    """Return a connection that reads a database's file as it is, without its log: it creates and locks nothing.

    Nothing but SQLite may open the file, not even to read it: POSIX locks belong to a process, so closing any of its
    descriptors of a file drops all locks that it has on it. Another process would take the database for unused then
    and delete the log that this one goes on to write (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    # A file that another process is writing may be shorter than its header says, which is no damage.
    connection.execute("PRAGMA writable_schema = ON")
    return connection


def _backed_up(path: Path, target: Path) -> bool:
    """Copy under SQLite's own lock; return False if a killed writer has left a transaction to be rolled back."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30.0)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except sqlite3.OperationalError:
        target.unlink(missing_ok=True)
        return False
    return True


def _copied(path: Path, target: Path) -> bool:
    """Copy the file, then its log; return False if the copy may be inconsistent.

    A log grows at its end, until all of it is in the file and it restarts with another header. So while its header
    stays, every page that was written into the file meanwhile is also in the log, which is copied last. Without a log,
    nothing may have been written at all.
    """
    beside = [_beside(path, kind) for kind in (_WAL, _JOURNAL)]
    before, heads = _status(path), [_head(log) for log in beside]
    content = _content(path, before)
    if content is None:
        return False
    position, value = _WRITE_AHEAD
    if content[position] != value and _backed_up(path, target):
        return True
    target.write_bytes(content)
    for log, head in zip(beside, heads, strict=True):
        if head:
            try:
                shutil.copyfile(log, _beside(target, log.name.removeprefix(path.name)))
            except FileNotFoundError:
                return False
    if [_head(log) for log in beside] != heads:
        return False
    return bool(heads[0]) or _is_unchanged(path, before)


def _content(path: Path, before: tuple[int, ...]) -> bytes | None:
    """Return the bytes of the file, None if they cannot be read because it is being written."""
    try:
        with closing(immutable(path)) as connection:
            return connection.serialize()
    except sqlite3.DatabaseError:
        if _is_unchanged(path, before):
            raise
        return None


def _is_unchanged(path: Path, before: tuple[int, ...]) -> bool:
    return before[-1] / 1e9 < time.time() - _TICK_SECONDS and _status(path) == before


def _head(log: Path) -> bytes:
    with suppress(FileNotFoundError), log.open("rb") as file:
        return file.read(_HEADER_BYTES)
    return b""


def _status(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(path.name + kind)
