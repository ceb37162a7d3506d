"""The way to the database: connections, transactions, what is SQLite's own, and errors in words."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from nbpipe.errors import HistoryDamaged, HistoryOutOfReach
from nbpipe.history.database_copy import DatabaseFileState, copy_database, state_of
from nbpipe.history.shared_permissions import barred, make_folder, may, owner_of, share

BUSY_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
# Older SQLite libraries take 999 values in one statement.
_CHUNK = 900

_REPAIR = "Make it anew from the results on disk: nbpipe verify --repair"
_DAMAGED = ("not a database", "malformed", "corrupt", "could not decode", "can't decode")

_CAUSES = (
    (
        ("locked", "busy"),
        f"has been kept busy by another process for {BUSY_SECONDS:.0f} s",
        "Try again; if it lasts, a process that has the file open hangs: end it.",
    ),
    (
        ("full", "disk i/o error"),
        "cannot be written: no space, or the disk fails",
        "Free some space and run again: what was recorded before is kept.",
    ),
    (
        _DAMAGED,
        "is damaged",
        _REPAIR,
    ),
    (
        ("readonly", "read-only"),
        "cannot be written: it is read-only",
        "Allow writing to the file and its folder, or name another workspace.",
    ),
    (
        ("unable to open", "permission denied", "not a directory", "file exists"),
        "cannot be opened",
        "Look whether its folder exists and may be read and written, or name another workspace.",
    ),
)


class Database:
    """One SQLite file, used by any number of threads and processes through short transactions."""

    is_private = False

    def __init__(self, path: Path, *, shares_memory: bool) -> None:
        self.path = path
        self._shares_memory = shares_memory
        self._file: tuple[int, int] | None = None
        self._use(self._prepared(path))

    def _prepared(self, path: Path) -> Path:
        """Return the file to work with, there and writable."""
        with words_for(path):
            make_folder(path.parent)
            _require_writable(path)
            _make(path)
        return path

    def _use(self, file: Path) -> None:
        self._readers = _engine(file, shares_memory=self._shares_memory)
        # Taking the write lock at once means waiting for one's turn; taking it after a read may fail without a wait.
        self._writers = self._readers.execution_options(begin="BEGIN IMMEDIATE")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Get a connection that sees one moment of the database."""
        with words_for(self.path), self._readers.connect() as connection, _understood(self.path):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Get a connection whose changes become visible together, or not at all when the body raises."""
        with words_for(self.path), self._writers.begin() as connection, _understood(self.path):
            yield connection

    def settle(self) -> None:
        """Note which file was opened."""
        self._file = _identity(self.path)

    def is_in_place(self) -> bool:
        """Say whether the file that was opened is still the one at its path: SQLite goes on with a deleted one."""
        return self._file == _identity(self.path)

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with its file; nothing when it is whole."""
        with self.reading() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(20)").scalars().all()
        return [str(line) for line in found if line != "ok"]

    def close(self) -> None:
        """Close the pooled connections."""
        self._readers.dispose()


class DatabaseCopy(Database):
    """What a database holds, for a process that may only read it: a private copy, made anew when it has changed.

    What is written here is seen here alone, and only until then.
    """

    is_private = True

    def __init__(self, path: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=f"nbpipe-database-{os.getpid()}-")
        self._state: DatabaseFileState | None = None
        self._copies = 0
        self._lock = threading.Lock()
        super().__init__(path, shares_memory=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Get a connection that sees one moment of the database."""
        self._renew()
        with super().reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Get a connection whose changes become visible to this process alone."""
        self._renew()
        with super().writing() as connection:
            yield connection

    def close(self) -> None:
        """Close the pooled connections and remove the copy."""
        super().close()
        self._folder.cleanup()

    def _prepared(self, path: Path) -> Path:
        _require_readable(path)
        self._copies += 1
        copy = Path(self._folder.name, str(self._copies))
        with words_for(path):
            now, state = time.time(), state_of(path)
            if state.file:
                copy_database(path, copy)
        self._state = state if state.is_settled(now) else None
        return copy

    def _renew(self) -> None:
        with self._lock:
            if self._state is None or state_of(self.path) != self._state:
                self._readers.dispose()
                self._use(self._prepared(self.path))


class Repository:
    """A part of history: the questions about one concern, asked of the one database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def chunks(values: Sequence[str]) -> Iterator[list[str]]:
    """Get ``values`` once each, in lists that one statement can take."""
    rest = iter(dict.fromkeys(values))
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def insert_absent(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet, also when another writer does so at the same moment."""
    if rows:
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)


@contextmanager
def words_for(path: Path) -> Iterator[None]:
    """Turn what the database driver raises into :class:`HistoryOutOfReach`."""
    try:
        yield
    except DBAPIError as error:
        raise _out_of_reach(path, str(error.orig)) from error
    except (sqlite3.Error, OSError, UnicodeError) as error:
        raise _out_of_reach(path, str(error)) from error


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError:
        # What is asked or told is no text that a database takes.
        raise
    except (ValueError, LookupError) as error:
        # What was written there could be read; what is there now cannot.
        said = f"the history {path} is damaged: it holds what nbpipe never wrote ({error})"
        raise HistoryDamaged(said, _REPAIR) from error


def _out_of_reach(path: Path, cause: str) -> HistoryOutOfReach:
    found = cause.lower()
    for needles, said, hint in _CAUSES:
        if any(needle in found for needle in needles):
            kind = HistoryDamaged if needles is _DAMAGED else HistoryOutOfReach
            return kind(f"the history {path} {said} ({cause})", hint)
    return HistoryOutOfReach(f"the history {path} refused a record or a question: {cause}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_ours(path: Path) -> bool:
    """Say whether this process owns a database, or may make it in a folder of its own, and may write all of it."""
    if barred(path) != path:
        return False
    folder = next(above for above in path.absolute().parents if above.exists())
    files = [file for file in (path, *_beside(path)) if file.exists()]
    owned = (path if path.exists() else folder).stat().st_uid == os.geteuid()
    return owned and all(may(one, os.W_OK) for one in (folder, *files))


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + kind) for kind in ("-wal", "-shm", "-journal")]


def _require_writable(path: Path) -> None:
    for one in (path.parent, path, *_beside(path)):
        if one.exists() and not may(one, os.W_OK):
            raise HistoryOutOfReach(
                f"the history {path} cannot be written: {one} is read-only here and belongs to {owner_of(one)}",
                f"Its owner can let the group write it (chmod g+rw {one}); or name another workspace.",
            )


def _require_readable(path: Path) -> None:
    outer = barred(path)
    if outer != path or (path.exists() and not may(path, os.R_OK)):
        raise HistoryOutOfReach(
            f"the history {path} cannot be read: {outer} is closed to this user and belongs to {owner_of(outer)}",
            f"Its owner can let the group read it (chmod g+rX {outer}); or name another workspace.",
        )


def _make(path: Path) -> None:
    """Make an empty file where there is none: what SQLite makes beside it takes over its mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return
    share(path)


def _share_beside(path: Path) -> None:
    """Give the files that SQLite has made beside a database the group of that."""
    group = path.stat().st_gid
    for one in _beside(path):
        with suppress(FileNotFoundError, PermissionError):
            found = one.stat()
            if found.st_gid != group and found.st_uid == os.geteuid():
                os.chown(one, -1, group)


def _engine(path: Path, *, shares_memory: bool) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": 0.0})

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        _prepare(connection, write_ahead=shares_memory)
        # Reading makes SQLite open what it keeps beside the file.
        connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
        _share_beside(path)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _prepare(connection: sqlite3.Connection, *, write_ahead: bool) -> None:
    # Transactions are begun by us, never by the driver, which would begin them too late.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    _set_journal(connection, "WAL" if write_ahead else "DELETE")
    # With write-ahead logging NORMAL may lose the last transactions in a power cut, never tear one: a result that is
    # forgotten is computed again, and its attempt, forgotten as well, can no longer commit. An fsync for every claim
    # would slow all runs down. A rollback journal needs FULL to survive the same.
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if write_ahead else 'FULL'}")


def _set_journal(connection: sqlite3.Connection, mode: str) -> None:
    # Whoever changes the mode while another one writes, or changes it too, is at times refused at once, however long
    # the busy timeout. So the waiting is done here, all of it, and the timeout is set afterwards.
    for _ in range(int(BUSY_SECONDS / _PAUSE_SECONDS)):
        if _changed(connection, mode):
            break
        time.sleep(_PAUSE_SECONDS)
    else:
        raise sqlite3.OperationalError("database is locked")
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def _changed(connection: sqlite3.Connection, mode: str) -> bool:
    try:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith("SQLITE_BUSY"):
            return False
        raise
    return True
