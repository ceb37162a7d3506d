"""A private copy of a database that this process may only read: SQLite itself would write beside it, or refuse."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

_WAL, _JOURNAL = "-wal", "-journal"
_HEADER_BYTES = 32
# Byte 18 of the database tells how it is written.
_WRITE_AHEAD = (18, 2)
# A file system's clock moves in ticks: a file may change twice within one, and look the same.
_TICK_SECONDS = 0.05
_TRIES = 200


class DatabaseFileState(NamedTuple):
    """What tells whether a database has changed: the status of its file and of the log beside it."""

    file: tuple[int, ...]
    log: tuple[int, ...]

    def is_settled(self, now: float) -> bool:
        """Say whether any change after ``now`` would show."""
        return all(status[-1] / 1e9 < now - _TICK_SECONDS for status in self if status)


def state_of(path: Path) -> DatabaseFileState:
    """Return the state that a database is in at present."""
    return DatabaseFileState(_status(path), _status(_beside(path, _WAL)))


def copy_database(path: Path, target: Path) -> None:
    """Copy one moment of a database, while others may write it; nothing is made or locked beside it.

    sqlite3.OperationalError when it is written too often to be copied.
    """
    for beside in ("", _WAL, _JOURNAL, "-shm"):
        _beside(target, beside).unlink(missing_ok=True)
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if len(start) < _HEADER_BYTES:
        return
    position, value = _WRITE_AHEAD
    if start[position] != value and _backed_up(path, target):
        return
    for _ in range(_TRIES):
        if _copied(path, target):
            return
        time.sleep(_TICK_SECONDS)
    raise sqlite3.OperationalError("database is locked")


def _backed_up(path: Path, target: Path) -> bool:
    """Copy under SQLite's own lock; False where a writer that was killed has left something to be undone first."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30.0)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except sqlite3.OperationalError:
        target.unlink(missing_ok=True)
        return False
    return True


def _copied(path: Path, target: Path) -> bool:
    """Copy the file, then its log; False when that may not have been one moment.

    A log is written on from where it ends, until all of it is in the file and it begins anew with another header. So
    while its header stays, every page that was written into the file meanwhile is in the log, and the log comes last.
    Without a log nothing may have been written at all.
    """
    beside = [_beside(path, kind) for kind in (_WAL, _JOURNAL)]
    before, heads = _status(path), [_head(log) for log in beside]
    shutil.copyfile(path, target)
    for log, head in zip(beside, heads, strict=True):
        if head:
            try:
                shutil.copyfile(log, _beside(target, log.name.removeprefix(path.name)))
            except FileNotFoundError:
                return False
    if [_head(log) for log in beside] != heads:
        return False
    settled = before[-1] / 1e9 < time.time() - _TICK_SECONDS
    return bool(heads[0]) or (settled and _status(path) == before)


def _head(log: Path) -> bytes:
    with suppress(FileNotFoundError), log.open("rb") as file:
        return file.read(_HEADER_BYTES)
    return b""


def _status(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(path.name + kind)
