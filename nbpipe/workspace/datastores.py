"""The datastores that a workspace's settings configure: looking into them, testing them, copying and deleting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.opening import DATABASES
from nbpipe.data.stores.store_probe import probe
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import BadUsage, NbpipeError, ObjectMissing
from nbpipe.model.datastores import DatastoreConfiguration, FolderListing, ObjectInfo, StoreTraits
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.store_path import StorePath
from nbpipe.resolve.workspace_layout import WorkspaceLayout, find_workspace

# Loaded by its name: few datastores are databases.
_READ_VALUE = "nbpipe.data.database_queries:read_value"


@dataclass(frozen=True, slots=True)
class StoreTest:
    """The outcome of trying a datastore: what it can do, or the error; ``seconds`` is the time that it took."""

    configuration: DatastoreConfiguration
    seconds: float
    traits: StoreTraits | None = None
    error: NbpipeError | None = None


@dataclass(frozen=True, slots=True)
class FolderUsage:
    """A folder of a datastore, or the objects right in the place that was asked about, with their number and size."""

    name: str
    objects: int
    bytes: int


@dataclass(slots=True)
class Datastores:
    """The configured datastores; use it as a context manager, or ``close`` it."""

    opened: OpenDatastores

    @classmethod
    def near(cls, folder: Path) -> Datastores:
        """Return the datastores of the nearest settings file upward from a folder."""
        return cls(OpenDatastores.of(find_workspace(folder), os.environ))

    @property
    def layout(self) -> WorkspaceLayout:
        """The workspace whose settings these are of."""
        return self.opened.layout

    @property
    def configured(self) -> Mapping[str, DatastoreConfiguration]:
        """The configurations by name."""
        return self.opened.configured

    def store(self, name: str, *, writes: bool = False) -> ObjectStore:
        """Return a datastore's objects; raise BadUsage if it is to be written and is configured as read-only."""
        return self.opened.store(name, writes=writes)

    def require_writable(self, name: str) -> None:
        """Raise BadUsage if there is no datastore of this name, or if it is configured as read-only."""
        self.opened.require_writable(name)

    def test(self, names: Iterable[str]) -> list[StoreTest]:
        """Return what some datastores can do, tried on each, or why they cannot be used."""
        return [self._tested(self.opened.configuration(name)) for name in names]

    def _tested(self, configuration: DatastoreConfiguration) -> StoreTest:
        begin = time.monotonic()
        try:
            if urlsplit(configuration.url).scheme in DATABASES:
                load_entry_point(_READ_VALUE)(configuration, self.opened.environ, "SELECT 1")
                return StoreTest(configuration, time.monotonic() - begin, StoreTraits())
            store = self.store(configuration.name)
            store.require_reachable()
            traits = probe(store) if configuration.writable else StoreTraits(lists=store.can_list)
        except NbpipeError as error:
            return StoreTest(configuration, time.monotonic() - begin, error=error)
        return StoreTest(configuration, time.monotonic() - begin, traits)

    def listing(self, place: StorePath) -> FolderListing:
        """Return what is in a folder, or the one object of this name; raise ObjectMissing if there is neither."""
        store = self.store(place.store)
        if not store.can_list and not place.is_folder:
            return FolderListing((), tuple(self.objects(place)))
        listing = store.list_folder(place.key)
        if listing.folders or listing.objects or not place.key:
            return listing
        found = None if place.is_folder else store.find(place.key)
        if found is None:
            raise missing(place)
        return FolderListing((), (found,))

    def usage(self, place: StorePath) -> list[FolderUsage]:
        """Return the number and size of the objects below a place: by the folders in it, and those right in it."""
        top = place.key.rstrip("/")
        counted: dict[str, list[int]] = {}
        for info in self.objects(place):
            below = info.key[len(top) :].lstrip("/")
            folder = below.partition("/")[0] if "/" in below else ""
            counted.setdefault(folder, []).append(info.size)
        return [FolderUsage(name, len(sizes), sum(sizes)) for name, sizes in sorted(counted.items())]

    def objects(self, place: StorePath) -> list[ObjectInfo]:
        """Return the object of this name, or all below the folder; raise ObjectMissing if there is neither."""
        store = self.store(place.store)
        found = None if place.is_folder else store.find(place.key)
        if found is None and not store.can_list and not place.is_folder:
            raise missing(place, can_list=False)
        below = [found] if found is not None else list(store.list(place.key))
        if not below and place.key:
            raise missing(place)
        return below

    def delete(self, place: StorePath, *, whole_folder: bool) -> list[ObjectInfo]:
        """Delete an object, or all below a folder, and return what was deleted.

        Raise BadUsage if the place is a folder and not ``whole_folder``, or the root of the datastore.
        """
        if not place.key.strip("/"):
            raise BadUsage(f"`{place}` is a whole datastore", "Name a folder in it.")
        store = self.store(place.store, writes=True)
        found = self.objects(place)
        is_folder = place.is_folder or found[0].key != place.key
        if is_folder and not whole_folder:
            hint = "Delete all of them with --recursive."
            raise BadUsage(f"`{place}` is a folder with {len(found)} object{'s' if len(found) != 1 else ''}", hint)
        store.delete(info.key for info in found)
        return found

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.time()

    def close(self) -> None:
        """End the connections."""
        self.opened.close()


@contextmanager
def open_datastores(folder: Path) -> Iterator[Datastores]:
    """Yield the datastores of the nearest settings file upward from a folder."""
    found = Datastores.near(folder)
    try:
        yield found
    finally:
        found.close()


def missing(place: StorePath, *, can_list: bool = True) -> ObjectMissing:
    """Return the error for a place where nothing is."""
    if not can_list:
        return ObjectMissing(f"`{place}` does not exist", "Check the path: this datastore cannot list what it has.")
    folder = place.key.rstrip("/").rpartition("/")[0]
    hint = f"Look with: nbpipe datastores ls {place.store}{'/' if folder else ''}{folder}"
    return ObjectMissing(f"`{place}` does not exist", hint)
