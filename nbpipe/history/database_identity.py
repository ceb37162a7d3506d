"""Whether a file is a database of ours, found out without changing it: opening one for writing changes its journal."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

from nbpipe.errors import REPAIR, HistoryDamaged
from nbpipe.history.database_files import JOURNAL, WAL, beside, immutable, sibling
from nbpipe.history.schema import meta, metadata
from nbpipe.history.schema_objects import STATEMENTS, acting_objects
from nbpipe.history.schema_version import foreign, has_our_tables
from nbpipe.permissions import may

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
# What SQLite says of a damaged file, in contrast to one that cannot be opened.
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
# A checkpoint of another process may write while we read.
_TRIES, _PAUSE = 5, 0.02


def require_own(path: Path) -> None:
    """Raise HistoryDamaged unless the path is missing, empty or a database, HistoryOutOfReach for another program's.

    Raise sqlite3.Error if the file cannot be read.
    """
    for each in (path, *beside(path)):
        if os.path.lexists(each) and not stat.S_ISREG(each.lstat().st_mode):
            raise HistoryDamaged(f"the history {path} is damaged: {each} is a link or a folder, not a file", REPAIR)
    if path.exists() and may(path, os.R_OK) and not _is_own(path):
        raise foreign(path)


def _is_own(path: Path) -> bool:
    """Return whether a database has no tables yet, or those of a history."""
    damage = ""
    for _ in range(_TRIES):
        try:
            with closing(immutable(path)) as connection:
                own = _has_own_tables(connection)
        except sqlite3.DatabaseError as error:
            if not error.sqlite_errorname.startswith(_DAMAGE):
                raise
            damage = str(error)
            time.sleep(_PAUSE)
        else:
            return _is_own_by_log(path) if own is None else own
    if _is_filled(sibling(path, JOURNAL)) or (_is_filled(sibling(path, WAL)) and _is_own_by_log(path)):
        # What looks damaged may be whole with what a writer has left there.
        return True
    raise HistoryDamaged(f"the history {path} is damaged ({damage})", REPAIR)


def _has_own_tables(connection: sqlite3.Connection) -> bool | None:
    """Return whether the tables are those of a history, or at least hold its version; None if there are no tables."""
    names = {str(name) for (name,) in connection.execute(_TABLES)}
    if not names:
        return None
    if has_our_tables(names):
        return True
    if meta.name not in names or acting_objects(connection.execute(STATEMENTS)):
        return False
    try:
        return bool(connection.execute("SELECT 1 FROM meta WHERE name IN ('version', 'schema')").fetchall())
    except sqlite3.OperationalError:
        return False


def _is_own_by_log(path: Path) -> bool:
    """Return whether the log of a database, where its newest pages are, has no tables or those of a history."""
    try:
        log = sibling(path, WAL).read_bytes()
    except FileNotFoundError:
        return True
    names = {name for name in metadata.tables if f"CREATE TABLE {name} (".encode() in log}
    return meta.name in names or has_our_tables(names) or b"CREATE TABLE " not in log


def _is_filled(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
