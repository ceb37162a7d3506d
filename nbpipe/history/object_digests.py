"""The digests of objects in datastores, with what the store said about them when they were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, delete, insert, select

from nbpipe.history.database import Repository, chunks
from nbpipe.history.schema import remembered_objects as table
from nbpipe.model.datastores import StoredObject


@dataclass(frozen=True, slots=True)
class ObjectDigest:
    """The digest that an object had while its store said this about it."""

    store: str
    key: str
    size: int
    etag: str
    version: str
    digest: str


class ObjectDigestRepository(Repository):
    """The digests of objects when they were last read; ``store`` is a datastore's address, never its name."""

    def recall(self, store: str, keys: Sequence[str]) -> dict[str, ObjectDigest]:
        """Return what is remembered of those ``keys`` of a store that are known."""
        found: dict[str, ObjectDigest] = {}
        with self._database.reading() as connection:
            for chunk in chunks(list(keys)):
                rows = connection.execute(select(table).where(and_(table.c.store == store, table.c.key.in_(chunk))))
                found.update(
                    (row.key, ObjectDigest(row.store, row.key, row.size, row.etag, row.version, row.digest))
                    for row in rows
                )
        return found

    def remember_stored(self, objects: Sequence[StoredObject]) -> None:
        """Store the digests of objects that nbpipe wrote; one without an ETag could not be recognised."""
        self.remember(
            [
                ObjectDigest(each.store, info.key, info.size, info.etag, info.version, each.digest)
                for each in objects if (info := each.info).etag and not info.is_recent
            ]
        )  # fmt: skip

    def remember(self, objects: Sequence[ObjectDigest]) -> None:
        """Store the digests, each replacing an earlier one of its object."""
        newest = {(each.store, each.key): each for each in objects}
        if not newest:
            return
        with self._database.writing() as connection:
            for store in {store for store, _ in newest}:
                for chunk in chunks([key for other, key in newest if other == store]):
                    connection.execute(delete(table).where(and_(table.c.store == store, table.c.key.in_(chunk))))
            connection.execute(
                insert(table),
                [
                    {"store": each.store, "key": each.key, "size": each.size, "etag": each.etag,
                     "version": each.version, "digest": each.digest}
                    for each in newest.values()
                ],
            )  # fmt: skip
