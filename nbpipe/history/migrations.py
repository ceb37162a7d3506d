"""The database's schema version: made, carried forward, or refused, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, update

from nbpipe.errors import HistoryOutOfReach
from nbpipe.history.schema import SCHEMA_VERSION, counters, entries, meta, metadata, metrics

Upgrade = Callable[[Connection], None]


def _observations(connection: Connection) -> None:
    """Make room for what attempts used without declaring it, accepted results, metrics, and wishes to cancel a run."""
    for change in (
        "entries ADD COLUMN observed TEXT REFERENCES texts (digest)",
        "entries ADD COLUMN accepted TEXT",
        "steps ADD COLUMN observed TEXT REFERENCES texts (digest)",
        "steps ADD COLUMN written TEXT NOT NULL DEFAULT '[]'",
        "runs ADD COLUMN cancel_asked DOUBLE PRECISION",
    ):
        connection.exec_driver_sql(f"ALTER TABLE {change}")
    metrics.create(connection)
    # Nobody knows what the results of before have used: each is made once more.
    connection.execute(update(entries).values(offered=False))


def _stops(connection: Connection) -> None:
    """Make room for wishes to cancel one step, and for what the steps of a run need of each other."""
    for change in ("steps ADD COLUMN cancel_asked DOUBLE PRECISION", "runs ADD COLUMN needs TEXT"):
        connection.exec_driver_sql(f"ALTER TABLE {change}")


# What brings a database from the version before to this one. A new database is made in the newest version at once.
UPGRADES: Mapping[int, Upgrade] = {2: _observations, 3: _stops}


def migrate(
    connection: Connection, path: Path, *, upgrades: Mapping[int, Upgrade] = UPGRADES, newest: int = SCHEMA_VERSION
) -> None:
    """Leave the schema in version ``newest``; a killed migration leaves the database as it was."""
    version = _version(connection, path)
    if version is None:
        _create(connection, newest)
    elif version > newest:
        raise HistoryOutOfReach(
            f"the history {path} was written by a newer nbpipe (its schema is {version}, this one knows {newest})",
            "Upgrade nbpipe, or name another workspace.",
        )
    elif version < newest:
        for number in range(version + 1, newest + 1):
            upgrades[number](connection)
        connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(newest)))


def _version(connection: Connection, path: Path) -> int | None:
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if meta.name not in tables:
        raise _foreign(path)
    found = connection.scalar(select(meta.c.value).where(meta.c.name == "schema"))
    if found is None or not found.isdecimal():
        raise _foreign(path)
    return int(found)


def _foreign(path: Path) -> HistoryOutOfReach:
    return HistoryOutOfReach(
        f"{path} is a database, but not a history of nbpipe", "Move the file away, or name another workspace."
    )


def _create(connection: Connection, version: int) -> None:
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(meta), [{"name": "schema", "value": str(version)}])
    connection.execute(insert(counters), [{"name": "run", "value": 0}, {"name": "token", "value": 0}])
