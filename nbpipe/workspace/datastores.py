"""The datastores that a workspace's settings configure: looking into them, testing them, copying and deleting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.opening import open_store
from nbpipe.data.stores.store_probe import probe
from nbpipe.errors import BadUsage, NbpipeError, ObjectMissing
from nbpipe.language.source_text import nearest
from nbpipe.model.datastores import DatastoreConfiguration, FolderListing, ObjectInfo, StoreTraits
from nbpipe.resolve.datastore_settings import configured_datastores
from nbpipe.resolve.store_path import StorePath
from nbpipe.resolve.workspace_layout import SETTINGS, WorkspaceLayout, find_workspace

_ADD = "Add one with: nbpipe datastores add NAME URL"


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
    """The configured datastores by name, each opened on first use; use it as a context manager, or ``close`` it."""

    layout: WorkspaceLayout
    configured: Mapping[str, DatastoreConfiguration]
    _opened: dict[str, ObjectStore] = field(default_factory=dict)

    @classmethod
    def near(cls, folder: Path) -> Datastores:
        """Return the datastores of the nearest settings file upward from a folder."""
        layout = find_workspace(folder)
        return cls(layout, configured_datastores(layout))

    def configuration(self, name: str) -> DatastoreConfiguration:
        """Return a datastore's configuration; raise BadUsage if there is none of this name."""
        if name not in self.configured:
            where = self.layout.settings_file or f"any {SETTINGS}"
            known = f"There are: {', '.join(self.configured)}." if self.configured else _ADD
            raise BadUsage(f"there is no datastore `{name}` in {where}", nearest(name, self.configured) or known)
        return self.configured[name]

    def store(self, name: str, *, writes: bool = False) -> ObjectStore:
        """Return a datastore's objects; raise BadUsage if it is to be written and is configured as read-only."""
        configuration = self.configuration(name)
        if writes and not configuration.writable:
            hint = f"Remove `write = false` from [datastores.{name}] in {SETTINGS} to write to it."
            raise BadUsage(f"the datastore `{name}` is read-only", hint)
        if name not in self._opened:
            self._opened[name] = open_store(configuration, os.environ)
        return self._opened[name]

    def test(self, names: Iterable[str]) -> list[StoreTest]:
        """Return what some datastores can do, tried on each, or why they cannot be used."""
        return [self._tested(self.configuration(name)) for name in names]

    def _tested(self, configuration: DatastoreConfiguration) -> StoreTest:
        begin = time.monotonic()
        try:
            store = self.store(configuration.name)
            store.list_folder()
            traits = probe(store) if configuration.writable else StoreTraits()
        except NbpipeError as error:
            return StoreTest(configuration, time.monotonic() - begin, error=error)
        return StoreTest(configuration, time.monotonic() - begin, traits)

    def listing(self, place: StorePath) -> FolderListing:
        """Return what is in a folder, or the one object of this name; raise ObjectMissing if there is neither."""
        store = self.store(place.store)
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
        for store in self._opened.values():
            store.close()
        self._opened.clear()


@contextmanager
def open_datastores(folder: Path) -> Iterator[Datastores]:
    """Yield the datastores of the nearest settings file upward from a folder."""
    found = Datastores.near(folder)
    try:
        yield found
    finally:
        found.close()


def missing(place: StorePath) -> ObjectMissing:
    """Return the error for a place where nothing is."""
    folder = place.key.rstrip("/").rpartition("/")[0]
    hint = f"Look with: nbpipe datastores ls {place.store}{'/' if folder else ''}{folder}"
    return ObjectMissing(f"`{place}` does not exist", hint)
