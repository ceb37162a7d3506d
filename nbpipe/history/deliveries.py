"""What nbpipe has delivered to datastores: the objects that it may replace there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbpipe.history.database import Repository
from nbpipe.history.object_rows import delete_rows, info_of, replace_rows, row_of, rows_of
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
        with self._database.reading() as connection:
            rows = rows_of(connection, table, store, keys)
            return {row.key: Delivery(store, info_of(row), row.digest, row.run, row.step, row.output) for row in rows}

    def note(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries, each replacing an earlier one to its object."""
        rows = [
            row_of(each.store, each.info, each.digest) | {"run": each.run, "step": each.step, "output": each.output}
            for each in deliveries
        ]
        if rows:
            with self._database.writing() as connection:
                replace_rows(connection, table, rows)

    def forget(self, store: str, keys: Sequence[str]) -> None:
        """Forget deliveries to objects that were deleted."""
        if keys:
            with self._database.writing() as connection:
                delete_rows(connection, table, store, keys)
