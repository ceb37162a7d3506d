"""What nbpipe has delivered to datastores: the objects that it may replace there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, delete, insert, select

from nbpipe.history.database import Repository, chunks
from nbpipe.history.schema import deliveries as table
from nbpipe.model.datastores import ObjectInfo


@dataclass(frozen=True, slots=True)
class Delivery:
    """An output that was delivered to an object of a datastore, given by its address.

    Without an ETag in ``info`` the delivery had only begun.
    """

    store: str
    info: ObjectInfo
    digest: str
    run: str
    step: str
    output: str


class DeliveryRepository(Repository):
    """The newest delivery to each object."""

    def find(self, store: str, keys: Sequence[str]) -> dict[str, Delivery]:
        """Return the deliveries to those ``keys`` of a datastore to which there was one."""
        found: dict[str, Delivery] = {}
        with self._database.reading() as connection:
            for chunk in chunks(list(keys)):
                for row in connection.execute(
                    select(table).where(and_(table.c.store == store, table.c.key.in_(chunk)))
                ):
                    info = ObjectInfo(row.key, row.size, row.etag, row.version)
                    found[row.key] = Delivery(store, info, row.digest, row.run, row.step, row.output)
        return found

    def note(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries, each replacing an earlier one to its object."""
        if not deliveries:
            return
        rows = [
            {
                "store": each.store, "key": each.info.key, "size": each.info.size, "etag": each.info.etag,
                "version": each.info.version, "digest": each.digest, "run": each.run, "step": each.step,
                "output": each.output,
            }
            for each in deliveries
        ]  # fmt: skip
        with self._database.writing() as connection:
            for store in {each.store for each in deliveries}:
                for chunk in chunks([each.info.key for each in deliveries if each.store == store]):
                    connection.execute(delete(table).where(and_(table.c.store == store, table.c.key.in_(chunk))))
            connection.execute(insert(table), rows)

    def forget(self, store: str, keys: Sequence[str]) -> None:
        """Forget deliveries to objects that were deleted."""
        with self._database.writing() as connection:
            for chunk in chunks(list(keys)):
                connection.execute(delete(table).where(and_(table.c.store == store, table.c.key.in_(chunk))))
