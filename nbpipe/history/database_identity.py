"""Whether a file is a database of ours, found out without changing it: opening one for writing changes its journal."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import time
from contextlib import closing
from pathlib import Path

from nbpipe.errors import REPAIR, HistoryDamaged
from nbpipe.history.database_copy import copy_database, immutable
from nbpipe.history.schema_version import foreign, is_ours
from nbpipe.permissions import may

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
# A checkpoint of another process may write while we read.
_TRIES, _PAUSE = 5, 0.02


def require_own(path: Path) -> None:
    """Raise HistoryDamaged unless the path is missing, empty or a database, HistoryOutOfReach for another program's."""
    for each in (path, *beside(path)):
        if os.path.lexists(each) and not stat.S_ISREG(each.lstat().st_mode):
            raise HistoryDamaged(f"the history {path} is damaged: {each} is a link or a folder, not a file", REPAIR)
    if not path.exists() or not may(path, os.R_OK):
        return
    if not _is_own(path):
        raise foreign(path)


def beside(path: Path) -> list[Path]:
    """Return the files that SQLite may keep beside a database."""
    return [path.with_name(path.name + kind) for kind in ("-wal", "-shm", "-journal")]


def _is_own(path: Path) -> bool:
    """Return whether a database has no tables yet, or those of a history."""
    damage = ""
    for _ in range(_TRIES):
        try:
            with closing(immutable(path)) as connection:
                own = _has_own_tables(connection)
            if own is None and _is_filled(path, "-wal"):
                own = _has_own_tables_with_log(path)
        except sqlite3.DatabaseError as error:
            damage = str(error)
            time.sleep(_PAUSE)
        else:
            return own is not False
    if _is_filled(path, "-wal"):
        # Without its log, a database may look damaged.
        return _has_own_tables_with_log(path) is not False
    if _is_filled(path, "-journal"):
        # What a killed writer has left is rolled back as the database is opened.
        return True
    raise HistoryDamaged(f"the history {path} is damaged ({damage})", REPAIR)


def _has_own_tables_with_log(path: Path) -> bool | None:
    with tempfile.TemporaryDirectory(prefix=f"nbpipe-database-{os.getpid()}-") as folder:
        copy = Path(folder, "copy")
        copy_database(path, copy)
        with closing(sqlite3.connect(copy)) as connection:
            return _has_own_tables(connection)


def _has_own_tables(connection: sqlite3.Connection) -> bool | None:
    """Return whether the tables are those of a history, or at least hold its version; None if there are no tables."""
    names = {str(name) for (name,) in connection.execute(_TABLES)}
    if not names:
        return None
    if is_ours(names):
        return True
    if "meta" not in names:
        return False
    try:
        return bool(connection.execute("SELECT 1 FROM meta WHERE name IN ('version', 'schema')").fetchall())
    except sqlite3.OperationalError:
        return False


def _is_filled(path: Path, kind: str) -> bool:
    try:
        return path.with_name(path.name + kind).stat().st_size > 0
    except OSError:
        return False
