"""Resolves references to the local path of an object, and to its address for other programs.

Nothing else knows the locations of datastores, so a workspace may be moved, copied or mounted elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from nbpipe.errors import REPAIR, StoreOutOfReach
from nbpipe.model import ObjectReference


class Datastore(Protocol):
    """A store of objects by digest; storing the same object again changes nothing."""

    def put(self, staged: Path, reference: ObjectReference) -> None:
        """Store a file or folder atomically."""

    def locate(self, reference: ObjectReference) -> Path:
        """Return the local path to read an object from, whether it exists or not."""

    def url(self, reference: ObjectReference) -> str:
        """Return the object's address as fsspec reads it, whether it exists or not."""


class Materializer:
    """The datastores of a workspace, by name."""

    def __init__(self, datastores: Mapping[str, Datastore]) -> None:
        self._datastores = dict(datastores)

    def datastore(self, name: str) -> Datastore:
        """Return the datastore of this name, to store an object in; raise KeyError if there is none."""
        return self._datastores[name]

    def locate(self, reference: ObjectReference) -> Path:
        """Return the local path to read an object from, whether it exists or not.

        Raise StoreOutOfReach if its datastore is unknown, ValueError for a reference that names no object.
        """
        return self._datastore(reference).locate(reference)

    def path(self, reference: ObjectReference) -> Path:
        """Return the local path of an object; raise StoreOutOfReach if it is missing or its datastore unknown."""
        with _named(reference):
            path = self.locate(reference)
        try:
            path.stat()
        except OSError as error:
            message = f"`{reference.basename}` ({reference.digest}) is no longer in the datastore `{reference.store}`"
            hint = "Run the step that makes it again."
            raise StoreOutOfReach(f"{message}: {path} ({error.strerror})", hint) from error
        return path

    def url(self, reference: ObjectReference) -> str:
        """Return an object's address as fsspec reads it; raise StoreOutOfReach if its datastore is unknown."""
        datastore = self._datastore(reference)
        with _named(reference):
            return datastore.url(reference)

    def _datastore(self, reference: ObjectReference) -> Datastore:
        datastore = self._datastores.get(reference.store)
        if datastore is None:
            names = ", ".join(f"`{name}`" for name in sorted(self._datastores))
            message = (
                f"`{reference.basename}` is in the datastore `{reference.store}`, which this workspace does not know"
            )
            raise StoreOutOfReach(message, f"It knows: {names}.")
        return datastore


@contextmanager
def _named(reference: ObjectReference) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        message = f"a record names an object of the datastore `{reference.store}` as none is named: {error}"
        raise StoreOutOfReach(message, REPAIR) from error
