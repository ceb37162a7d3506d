"""The digests of objects in datastores, with what the store said about them when they were read or written."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from nbpipe.history.database import Repository
from nbpipe.history.object_rows import info_of, replace_rows, row_of, rows_of
from nbpipe.history.schema import remembered_objects as table
from nbpipe.model.datastores import StoredObject


class ObjectDigestRepository(Repository):
    """The digests of objects when they were last read; ``store`` is a datastore's address, never its name."""

    def recall(self, store: str, keys: Sequence[str]) -> dict[str, StoredObject]:
        """Return what is remembered of those ``keys`` of a store that are known."""
        with self._database.reading() as connection:
            rows = rows_of(connection, table, store, keys)
            return {row.key: StoredObject(store, info_of(row), row.digest) for row in rows}

    def count(self, store: str) -> int:
        """Return how many objects of a store are remembered."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).where(table.c.store == store)) or 0

    def remember(self, objects: Sequence[StoredObject]) -> None:
        """Store the digests, each replacing an earlier one of its object.

        An object that could not be recognised again is left out: it has no ETag, or may change without another one.
        """
        rows = [
            row_of(each.store, each.info, each.digest) for each in objects if each.info.etag and not each.info.is_recent
        ]
        if rows:
            with self._database.writing() as connection:
                replace_rows(connection, table, rows)
