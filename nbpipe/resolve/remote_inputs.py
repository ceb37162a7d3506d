"""Inputs in datastores and on the web, pinned by content: looked for each time, read only if they may have changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from nbpipe.data.digests import Member, tree_digest
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.opening import open_web_files
from nbpipe.errors import ObjectChanged, StoreOutOfReach
from nbpipe.history.remembered_objects import ObjectDigestRepository, RememberedObject
from nbpipe.model import PinnedFiles, PinnedKind
from nbpipe.model.datastores import DatastoreConfiguration, ObjectInfo
from nbpipe.resolve.found_objects import FoundObjects, find_in_store, find_on_web
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.store_path import SCHEME, parse_store_path
from nbpipe.resolve.web_settings import web_settings
from nbpipe.resolve.workspace_layout import WorkspaceLayout

_AT_ONCE = 16


def open_remote_inputs(
    layout: WorkspaceLayout, digests: ObjectDigestRepository, environ: Mapping[str, str]
) -> RemoteInputs:
    """Return what pins remote inputs; raise BadUsage if a datastore is not configured correctly."""
    return RemoteInputs(OpenDatastores.of(layout, environ), digests, ObjectCache(cache_folder(environ, layout.root)))


def cache_folder(environ: Mapping[str, str], fallback: Path) -> Path:
    """Return this user's folder for copies of objects; one below the workspace if the user has no home."""
    home = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    folder = Path(home, "nbpipe")
    return folder if home and folder.is_absolute() else fallback / "cache"


@dataclass(frozen=True, slots=True)
class _PinnedObject:
    """An object of an input as it was read: its path relative to the input, its true size, and its digest."""

    path: str
    info: ObjectInfo
    digest: str

    @property
    def name(self) -> str:
        """Return the name of its copy."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _PinnedSource:
    """An input's objects, in the order in which they were found."""

    found: FoundObjects
    objects: tuple[_PinnedObject, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple((each.path, each.info.size, each.digest) for each in self.objects)


@dataclass
class RemoteInputs:
    """Pins inputs in datastores and on the web, and copies them to this machine."""

    datastores: OpenDatastores
    digests: ObjectDigestRepository
    cache: ObjectCache
    _pinned: dict[str, _PinnedSource] = field(default_factory=dict)

    def pin(self, text: str) -> PinnedFiles:
        """Return what an input names now, pinned by content; the copies of its files may still be missing.

        Raise FileMissing if there is nothing, and StoreOutOfReach if it cannot be read.
        """
        source = self._pinned[text] = self._read_unknown(self._find(text))
        found, members = source.found, source.members
        size = sum(member[1] for member in members)
        if found.kind is PinnedKind.FILE:
            digest = source.objects[0].digest
            return PinnedFiles(found.kind, (str(self.cache.path(digest, found.name)),), digest, size, members)
        digest = tree_digest(members)
        folder = self.cache.folder_path(digest, found.name)
        paths = (folder,) if found.kind is PinnedKind.DIR else tuple(folder / path for path, _, _ in members)
        return PinnedFiles(found.kind, tuple(map(str, paths)), digest, size, members)

    def is_unchanged(self, text: str) -> bool:
        """Return whether a pinned input is still what it was; what no store vouches for is read again."""
        before, found = self._pinned[text].objects, self._find(text)
        if [path for path, _ in found.objects] != [old.path for old in before]:
            return False
        pairs = list(zip(before, (info for _, info in found.objects), strict=True))
        if not all(_is_same(old.info, new) for old, new in pairs if old.info.etag or new.etag):
            return False
        doubtful = [old for old, new in pairs if not (old.info.etag or new.etag)]
        return [now.digest for now in self._read_all(found, doubtful)] == [old.digest for old in doubtful]

    def stage(self, text: str) -> None:
        """Make copies of a pinned input's files; raise ObjectChanged if one is no longer what was pinned."""
        source = self._pinned[text]
        missing = [
            each for each in source.objects if not self.cache.holds(each.digest, each.name, each.info.size)
        ]  # fmt: skip
        for old, now in zip(missing, self._read_all(source.found, missing), strict=True):
            if now.digest != old.digest:
                message = f"`{source.found.spelled(old.info.key)}` has changed since the run was submitted"
                raise ObjectChanged(message, "Run again.")
        with self._writing():
            if source.found.kind is not PinnedKind.FILE:
                self.cache.folder(tree_digest(source.members), source.found.name, source.members)
            self.cache.use([(each.digest, each.name) for each in source.objects])

    @cached_property
    def _web(self) -> ObjectStore:
        return open_web_files(web_settings(self.datastores.layout), self.datastores.environ)

    def _find(self, text: str) -> FoundObjects:
        if not text.startswith(SCHEME):
            return find_on_web(text, self._web)
        place = parse_store_path(text)
        store = self.datastores.store(place.store)
        return find_in_store(text, place, store, _address(self.datastores.configuration(place.store)))

    def _read_unknown(self, found: FoundObjects) -> _PinnedSource:
        """Return the objects with their digests; those that are unknown or have changed are read."""
        pinned = self._remembered(found)
        unknown = [each for each in pinned if not each.digest]
        read = self._read_all(found, unknown)
        for old, now in zip(unknown, read, strict=True):
            if now.info.etag != old.info.etag or (old.info.size >= 0 and now.info.size != old.info.size):
                message = f"`{found.spelled(old.info.key)}` keeps changing while it is read"
                raise ObjectChanged(message, "Wait until it is complete, or name a copy of it.")
        self.digests.remember(
            [
                RememberedObject(
                    found.address, now.info.key, now.info.size, now.info.etag, old.info.version, now.digest
                )
                for old, now in zip(unknown, read, strict=True) if now.info.etag
            ]
        )  # fmt: skip
        new = {each.path: each for each in read}
        return _PinnedSource(found, tuple(new.get(each.path, each) for each in pinned))

    def _remembered(self, found: FoundObjects) -> list[_PinnedObject]:
        """Return the objects, each with its digest if it is still what it was when it was read, else with none."""
        known = self.digests.recall(found.address, [info.key for _, info in found.objects])
        pinned = []
        for path, info in found.objects:
            before = known.get(info.key)
            if before is not None and _is_same(before, info):
                pinned.append(_PinnedObject(path, replace(info, size=before.size), before.digest))
            else:
                pinned.append(_PinnedObject(path, info, ""))
        return pinned

    def _read_all(self, found: FoundObjects, objects: Sequence[_PinnedObject]) -> list[_PinnedObject]:
        """Copy objects to this machine; return each with what its store says now, and the digest of the copy."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda each: self._read(found.store, each), objects))

    def _read(self, store: ObjectStore, each: _PinnedObject) -> _PinnedObject:
        with self._writing():
            draft = self.cache.draft_folder() / uuid4().hex
        try:
            now = store.download(each.info.key, draft)
            with self._writing():
                return _PinnedObject(each.path, now, self.cache.keep(draft, each.name))
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"the copies of objects in {self.cache.root} cannot be written: {error.strerror or error}"
            raise StoreOutOfReach(message, "Free some space there, or name another folder: XDG_CACHE_HOME.") from error


def _address(configuration: DatastoreConfiguration) -> str:
    endpoint = configuration.options.get("endpoint", "")
    return f"{endpoint} {configuration.url}".strip()


def _is_same(known: RememberedObject | ObjectInfo, info: ObjectInfo) -> bool:
    """Return whether an object is the one that was known, by all that the store says."""
    version = known.version == info.version or not (known.version and info.version)
    size = known.size == info.size or info.size < 0
    return bool(info.etag) and size and known.etag == info.etag and version
