"""A copy of a database that this process may only read: SQLite would need to write beside it, or fail."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from nbpipe.history.database_files import JOURNAL, WAL, beside, immutable, sibling

_HEADER_BYTES = 32
# Byte 18 of the database is the write version: 2 for write-ahead logging.
_WRITE_AHEAD = (18, 2)
# File times have a limited resolution: a file may change twice within it and look the same.
_TICK_SECONDS = 0.05
_TRIES = 200
_LOCKED_SECONDS = 10.0
# What SQLite says of a transaction that a killed writer has left, and that may not be rolled back here.
_UNFINISHED = ("SQLITE_READONLY", "SQLITE_CANTOPEN")


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
    return DatabaseFileState(_status(path), _status(sibling(path, WAL)))


def copy_database(path: Path, target: Path) -> None:
    """Copy a consistent snapshot of a database that others may be writing; create and lock no files beside it.

    Raise sqlite3.OperationalError if it is locked or written too often to be copied.
    """
    if not path.stat().st_size:
        return
    for _ in range(_TRIES):
        for each in (target, *beside(target)):
            each.unlink(missing_ok=True)
        if _copied(path, target):
            return
        time.sleep(_TICK_SECONDS)
    raise sqlite3.OperationalError("database is locked")


def _copied(path: Path, target: Path) -> bool:
    """Copy the file, then its log; return False if the copy may be inconsistent.

    A log grows at its end, until all of it is in the file and it restarts with another header. So while its header
    stays, every page that was written into the file meanwhile is also in the log, which is copied last. Without a log,
    nothing may have been written at all.
    """
    logs = (WAL, JOURNAL)
    before, heads = _status(path), [_head(sibling(path, kind)) for kind in logs]
    if not _are_pages_copied(path, target, before):
        return False
    if not _is_write_ahead(target) and _is_backed_up(path, target):
        return True
    for kind, head in zip(logs, heads, strict=True):
        if head:
            try:
                shutil.copyfile(sibling(path, kind), sibling(target, kind))
            except FileNotFoundError:
                return False
    if [_head(sibling(path, kind)) for kind in logs] != heads:
        return False
    return bool(heads[0]) or _is_unchanged(path, before)


def _are_pages_copied(path: Path, target: Path, before: tuple[int, ...]) -> bool:
    """Copy the pages of the file as they are; return False if they cannot be read because they are being written."""
    try:
        with closing(immutable(path)) as source, closing(_scratch(target)) as copy:
            source.backup(copy)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) or _is_unchanged(path, before):
            raise
        return False
    return True


def _is_backed_up(path: Path, target: Path) -> bool:
    """Copy under SQLite's own lock; return False if a killed writer has left a transaction to be rolled back."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=_LOCKED_SECONDS)) as source,
            closing(_scratch(target)) as copy,
        ):
            # The backup itself would wait for the lock without an end.
            source.execute("BEGIN")
            source.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
            source.backup(copy)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith(_UNFINISHED):
            return False
        raise
    return True


def _scratch(target: Path) -> sqlite3.Connection:
    """Return a connection to a new database, which nobody needs to find again after a crash."""
    target.unlink(missing_ok=True)
    connection = sqlite3.connect(target)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = OFF")
    return connection


def _is_write_ahead(copy: Path) -> bool:
    position, value = _WRITE_AHEAD
    with copy.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    return len(head) > position and head[position] == value


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
