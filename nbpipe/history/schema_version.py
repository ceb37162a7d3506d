"""The database's schema version: written into a new database, and checked before anything else is read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, text

from nbpipe.errors import REPAIR, HistoryDamaged, HistoryOutOfReach
from nbpipe.history.schema import SCHEMA_VERSION, counters, meta, metadata
from nbpipe.history.schema_objects import STATEMENTS, acting_objects

_VERSION = "version"
_DIGITS = 4
# The name that versions before the first release used.
_BEFORE_FIRST = "schema"


def create_or_check(connection: Connection, path: Path, *, newest: int = SCHEMA_VERSION) -> None:
    """Create the tables in an empty database; raise HistoryOutOfReach for one with another schema."""
    if not inspect(connection).get_table_names():
        if connection.execute(text(STATEMENTS)).first() is not None:
            raise foreign(path)
        _create(connection, newest)
        return
    check(connection, path, newest=newest)


def check(connection: Connection, path: Path, *, newest: int = SCHEMA_VERSION) -> None:
    """Raise HistoryOutOfReach for a database with an older, a newer or a foreign schema."""
    names = set(inspect(connection).get_table_names())
    if meta.name not in names:
        raise _damaged(path) if has_our_tables(names) else foreign(path)
    # Before any of its rows is read.
    acting = acting_objects((row.name, row.sql) for row in connection.execute(text(STATEMENTS)))
    if acting:
        raise _altered(path, acting[0]) if has_our_tables(names) else foreign(path)
    stored = {row.name: row.value for row in connection.execute(select(meta.c.name, meta.c.value))}
    version = stored.get(_VERSION, "")
    if _VERSION not in stored and _BEFORE_FIRST in stored:
        raise HistoryOutOfReach(
            f"the history {path} was written by an older nbpipe, whose workspaces this one cannot read",
            f"Move the folder {path.parent} away, or name another workspace with --workspace DIR.",
        )
    if not version.isdecimal() or len(version) > _DIGITS:
        raise _damaged(path) if has_our_tables(names) else foreign(path)
    if int(version) > newest:
        raise HistoryOutOfReach(
            f"the history {path} was written by a newer nbpipe (its schema is {version}, this one knows {newest})",
            "Upgrade nbpipe, or name another workspace.",
        )
    if int(version) < newest:
        raise HistoryOutOfReach(
            f"the history {path} was written by an older nbpipe (its schema is {version}, this one knows {newest})",
            f"Move the folder {path.parent} away, or name another workspace with --workspace DIR.",
        )


def has_our_tables(names: Collection[str]) -> bool:
    """Return whether these are most of the tables of a history."""
    return len(metadata.tables.keys() & names) > len(metadata.tables) // 2


def _damaged(path: Path) -> HistoryDamaged:
    return HistoryDamaged(f"the history {path} is damaged: it does not say which version of nbpipe wrote it", REPAIR)


def _altered(path: Path, name: str) -> HistoryDamaged:
    message = f"the history {path} is damaged: it holds {name!r:.60}, a view or trigger that nbpipe did not make"
    return HistoryDamaged(message, REPAIR)


def foreign(path: Path) -> HistoryOutOfReach:
    """Return the error for another program's database."""
    return HistoryOutOfReach(
        f"{path} is a database, but not a history of nbpipe", "Move the file away, or name another workspace."
    )


def _create(connection: Connection, version: int) -> None:
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(meta), [{"name": _VERSION, "value": str(version)}])
    connection.execute(insert(counters), [{"name": "run", "value": 0}, {"name": "token", "value": 0}])
