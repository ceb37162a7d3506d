"""Access to the database: connections, transactions, SQLite specifics, and error messages."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Insert, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from nbpipe.errors import REPAIR, HistoryDamaged, HistoryOutOfReach
from nbpipe.history.database_copy import DatabaseFileState, copy_database, state_of
from nbpipe.history.database_files import beside
from nbpipe.history.database_identity import require_own
from nbpipe.permissions import barred, make_folder, may, open_private, owner_of

BUSY_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_IN_MEMORY = "/dev/shm"  # noqa: S108  # the folder made in it is private
# Whoever has created a file closes it before another thread opens it: that would drop the other's locks.
_CREATING = threading.Lock()
# Older SQLite libraries take 999 values in one statement.
_CHUNK = 900

_DAMAGED = (
    "not a database", "malformed", "corrupt", "could not decode", "can't decode", "unsupported file format",
    "no such table", "no such column", "has no column", "datatype mismatch",
)  # fmt: skip

_CONTRADICTION = ("constraint failed",)
_CAUSES = (
    (_CONTRADICTION, "could not be read or written: what it holds contradicts itself", REPAIR),
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
        REPAIR,
    ),
    (
        ("readonly", "read-only"),
        "cannot be written: it is read-only",
        "Allow writing to the file and its folder, or name another workspace.",
    ),
    (
        ("unable to open", "permission denied", "not a directory", "file exists"),
        "cannot be opened",
        "Check that its folder exists and is readable and writable, or name another workspace.",
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
        """Return the database file, created if missing and checked to be writable."""
        with _CREATING, translated_errors(path):
            make_folder(path.parent)
            _require_writable(path)
            require_own(path)
            _make(path)
        return path

    def _use(self, file: Path) -> None:
        self._readers = _engine(file, shares_memory=self._shares_memory)
        # Taking the write lock first waits for other writers; taking it after a read may fail without waiting.
        self._writers = self._readers.execution_options(begin="BEGIN IMMEDIATE")

    def _connected(self, *, writes: bool) -> Connection:
        return (self._writers if writes else self._readers).connect()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees a consistent snapshot of the database."""
        with translated_errors(self.path), self._connected(writes=False) as connection, _reporting_damage(self.path):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection whose changes are committed together, or rolled back if the body raises."""
        with (
            translated_errors(self.path),
            self._connected(writes=True) as connection,
            connection.begin(),
            _reporting_damage(self.path),
        ):
            yield connection

    def settle(self) -> None:
        """Remember which file was opened."""
        self._file = _identity(self.path)

    def is_in_place(self) -> bool:
        """Return whether the file at the path is still the one that was opened: SQLite keeps using a deleted one."""
        return self._file == _identity(self.path)

    def close(self) -> None:
        """Close the pooled connections."""
        self._readers.dispose()


class DatabaseSnapshot(Database):
    """A private copy of a database that this process may only read, renewed when the original changes.

    What is written to it is visible to this process only, and until the next renewal.
    """

    is_private = True

    def __init__(self, path: Path) -> None:
        self._folder = _temporary_folder()
        self._state: DatabaseFileState | None = None
        self._copies = 0
        self._lock = threading.Lock()
        with ExitStack() as stack:
            stack.callback(self._remove)
            super().__init__(path, shares_memory=True)
            stack.pop_all()

    def close(self) -> None:
        """Close the pooled connections and remove the copy."""
        super().close()
        self._remove()

    def _remove(self) -> None:
        self._folder.cleanup()

    def _use(self, file: Path) -> None:
        super()._use(file)
        self._copy = file

    def _connected(self, *, writes: bool) -> Connection:
        with self._lock:
            self._renew()
            return super()._connected(writes=writes)

    def _prepared(self, path: Path) -> Path:
        _require_readable(path)
        with translated_errors(path):
            require_own(path)
            now, state = time.time(), state_of(path)
            try:
                copy = self._copied(path, state)
            except (OSError, sqlite3.OperationalError) as error:
                if not _is_lack_of_space(error):
                    raise
                self._remove()
                self._folder = _temporary_folder(_IN_MEMORY)
                copy = self._copied(path, state)
        self._state = state if state.is_settled(now) else None
        return copy

    def _copied(self, path: Path, state: DatabaseFileState) -> Path:
        self._copies += 1
        copy = Path(self._folder.name, str(self._copies))
        if state.file:
            copy_database(path, copy)
        return copy

    def _renew(self) -> None:
        state = state_of(self.path)
        # One that has just been created has no tables yet.
        if self._state == state or not state.is_filled:
            return
        before = self._copy
        self._readers.dispose()
        self._use(self._prepared(self.path))
        # Connections that other threads have open keep the files open: SQLite opens all of them at once.
        for each in (before, *beside(before)):
            each.unlink(missing_ok=True)


def _is_lack_of_space(error: OSError | sqlite3.OperationalError) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_SPACE
    # An error that is not SQLite's own has no name.
    return getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE")


def _temporary_folder(folder: str | None = None) -> tempfile.TemporaryDirectory[str]:
    """Make a private folder for a copy; in memory if the disk is full."""
    prefix = f"nbpipe-database-{os.getpid()}-"
    try:
        return tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True)
    except OSError:
        if folder == _IN_MEMORY or not Path(_IN_MEMORY).is_dir():
            raise
    return tempfile.TemporaryDirectory(prefix=prefix, dir=_IN_MEMORY, ignore_cleanup_errors=True)


class Repository:
    """A part of the history: the queries and updates of one concern."""

    def __init__(self, database: Database) -> None:
        self._database = database


def chunks(values: Sequence[str]) -> Iterator[list[str]]:
    """Yield the distinct ``values`` in lists that fit into one statement."""
    rest = iter(dict.fromkeys(values))
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def insert_absent(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose primary key is missing, even if another writer inserts them concurrently."""
    if rows:
        connection.execute(_insertion(table), rows)


@cache
def _insertion(table: Table) -> Insert:
    return sqlite.insert(table).on_conflict_do_nothing()


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn errors of the database driver into :class:`HistoryOutOfReach`."""
    try:
        yield
    except DBAPIError as error:
        raise _out_of_reach(path, error.orig) from error
    except (sqlite3.Error, OSError, UnicodeError) as error:
        raise _out_of_reach(path, error) from error


@contextmanager
def _reporting_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError:
        # The caller's text cannot be stored in a database.
        raise
    except (ValueError, LookupError) as error:
        # Everything that nbpipe writes can be read.
        message = f"the history {path} is damaged: it contains data that nbpipe did not write ({error})"
        raise HistoryDamaged(message, REPAIR) from error


def _out_of_reach(path: Path, error: BaseException | None) -> HistoryOutOfReach:
    cause = str(error)
    lowered = cause.lower()
    if getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY" and _not_writable(path) is None:
        return HistoryDamaged(f"the history {path} is damaged: it says that it is read-only ({cause})", REPAIR)
    for needles, description, hint in _CAUSES:
        if any(needle in lowered for needle in needles):
            kind = HistoryDamaged if needles in (_DAMAGED, _CONTRADICTION) else HistoryOutOfReach
            return kind(f"the history {path} {description} ({cause})", hint)
    return HistoryOutOfReach(f"the history {path} could not be read or written: {cause}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_ours(path: Path) -> bool:
    """Return whether this user owns the database, or the folder to create it in, and may write all of its files."""
    if barred(path) != path:
        return False
    folder = next(above for above in path.absolute().parents if above.exists())
    owned = (path if path.exists() else folder).stat().st_uid == os.geteuid()
    return owned and may(folder, os.W_OK) and _not_writable(path) is None


def _not_writable(path: Path) -> Path | None:
    every = (path.parent, path, *beside(path))
    return next((one for one in every if one.exists() and not may(one, os.W_OK)), None)


def _require_writable(path: Path) -> None:
    one = _not_writable(path)
    if one is not None:
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
    """Create an empty file if there is none: the files that SQLite creates beside it inherit its mode."""
    try:
        os.close(open_private(path, os.O_RDWR | os.O_EXCL))
    except FileExistsError:
        return


def _share_beside(path: Path) -> None:
    """Give the files that SQLite has created beside a database the database's group."""
    group = path.stat().st_gid
    for one in beside(path):
        with suppress(FileNotFoundError, PermissionError):
            status = one.stat()
            if status.st_gid != group and status.st_uid == os.geteuid():
                os.chown(one, -1, group)


def _engine(path: Path, *, shares_memory: bool) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": 0.0})

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        _prepare(connection, write_ahead=shares_memory)
        # Reading makes SQLite open the files beside the database.
        connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
        _share_beside(path)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _prepare(connection: sqlite3.Connection, *, write_ahead: bool) -> None:
    # We begin transactions ourselves: the driver would begin them too late.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    _set_journal(connection, "WAL" if write_ahead else "DELETE")
    # With write-ahead logging, NORMAL may lose the last transactions in a power cut, but never part of one: a lost
    # result is computed again, and its attempt, lost as well, can no longer commit. An fsync for every claim would
    # slow down all runs. A rollback journal needs FULL for the same guarantee.
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if write_ahead else 'FULL'}")


def _set_journal(connection: sqlite3.Connection, mode: str) -> None:
    # Changing the mode while another process writes or changes it may fail at once, regardless of the busy timeout.
    # So wait here, and set the timeout afterwards.
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
