"""The rows that are about objects of datastores: each has the datastore's address, and the object's key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, insert, select

from nbpipe.history.database import chunks
from nbpipe.model.datastores import ObjectInfo


def rows_of(connection: Connection, table: Table, store: str, keys: Iterable[str]) -> Iterator[Row[Any]]:
    """Yield the rows of those objects of a datastore that have one."""
    for chunk in chunks(list(keys)):
        yield from connection.execute(select(table).where(_of(table, store, chunk)))


def replace_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, each in place of an earlier one of its object; of several for one object the last counts."""
    newest = {(row["store"], row["key"]): row for row in rows}
    for store in {store for store, _ in newest}:
        delete_rows(connection, table, store, [key for other, key in newest if other == store])
    if newest:
        connection.execute(insert(table), list(newest.values()))


def delete_rows(connection: Connection, table: Table, store: str, keys: Iterable[str]) -> None:
    """Delete the rows of some objects of a datastore."""
    for chunk in chunks(list(keys)):
        connection.execute(delete(table).where(_of(table, store, chunk)))


def info_of(row: Row[Any]) -> ObjectInfo:
    """Return what the datastore said about the object of a row."""
    return ObjectInfo(row.key, row.size, row.etag, row.version)


def row_of(store: str, info: ObjectInfo, digest: str) -> dict[str, Any]:
    """Return the values that all these rows have."""
    return {
        "store": store, "key": info.key, "size": info.size, "etag": info.etag, "version": info.version,
        "digest": digest,
    }  # fmt: skip


def _of(table: Table, store: str, keys: Sequence[str]) -> ColumnElement[bool]:
    return and_(table.c.store == store, table.c.key.in_(keys))
