"""The files of a database, and how to read them beside SQLite, which may have them open in this process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

WAL, SHARED_MEMORY, JOURNAL = "-wal", "-shm", "-journal"


def beside(path: Path) -> list[Path]:
    """Return the files that SQLite may keep beside a database."""
    return [sibling(path, kind) for kind in (WAL, SHARED_MEMORY, JOURNAL)]


def sibling(path: Path, kind: str) -> Path:
    """Return one of the files that SQLite may keep beside a database."""
    return path.with_name(path.name + kind)


def immutable(path: Path) -> sqlite3.Connection:
    """Return a connection that reads a database's file as it is, without its log: it creates and locks nothing.

    Nothing but SQLite may open the file, or its shared memory, not even to read it: POSIX locks belong to a process, so
    closing any of its descriptors of a file drops all locks that it has on it. Another process would take the database
    for unused then and delete the log that this one goes on to write (https://www.sqlite.org/howtocorrupt.html, section
    2.2). The log and the journal are never locked.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    # A file that another process is writing may be shorter than its header says, which is no damage.
    connection.execute("PRAGMA writable_schema = ON")
    return connection
