"""References turned into what this machine can use: the local path of an object, and its address for other programs.

Nothing else knows where datastores lie. So a workspace may be moved, copied or mounted elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from nbpipe.errors import StoreOutOfReach
from nbpipe.model import Reference


class Datastore(Protocol):
    """A place for objects under their digest; putting the same again changes nothing."""

    def put(self, staged: Path, reference: Reference) -> None:
        """Take a file or folder, whole or not at all."""

    def locate(self, reference: Reference) -> Path:
        """Return the local path to read an object from, whether it is there or not."""

    def url(self, reference: Reference) -> str:
        """Return the object's address as fsspec reads it, whether it is there or not."""


class Materializer:
    """The datastores that a workspace knows, by name."""

    def __init__(self, datastores: Mapping[str, Datastore]) -> None:
        self._datastores = dict(datastores)

    def locate(self, reference: Reference) -> Path:
        """Return the local path to read an object from, whether it is there or not.

        Raise StoreOutOfReach when its datastore is unknown.
        """
        return self._datastore(reference).locate(reference)

    def path(self, reference: Reference) -> Path:
        """Return the local path of an object; raise StoreOutOfReach when it is gone or its datastore is unknown."""
        path = self.locate(reference)
        try:
            path.stat()
        except OSError as error:
            message = f"`{reference.basename}` ({reference.digest}) is no longer in the datastore `{reference.store}`"
            hint = "Run the step that makes it again."
            raise StoreOutOfReach(f"{message}: {path} ({error.strerror})", hint) from error
        return path

    def url(self, reference: Reference) -> str:
        """Return an object's address as fsspec reads it; raise StoreOutOfReach when its datastore is unknown."""
        return self._datastore(reference).url(reference)

    def _datastore(self, reference: Reference) -> Datastore:
        found = self._datastores.get(reference.store)
        if found is None:
            known = ", ".join(f"`{name}`" for name in sorted(self._datastores))
            message = (
                f"`{reference.basename}` is in the datastore `{reference.store}`, which this workspace does not know"
            )
            raise StoreOutOfReach(message, f"It knows: {known}.")
        return found
