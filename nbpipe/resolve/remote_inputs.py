"""Inputs in datastores and on the web, pinned by content: looked for each time, read only if they may have changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from nbpipe.data.digests import Member, tree_digest
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.object_store import ObjectStore, Progress, no_progress
from nbpipe.data.stores.opening import open_web_files
from nbpipe.errors import ObjectChanged
from nbpipe.history.object_digests import ObjectDigestRepository
from nbpipe.model import PinnedFiles, PinnedKind, UnreadFiles
from nbpipe.model.datastores import ObjectInfo, StoredObject
from nbpipe.resolve.found_objects import FoundObjects, find_in_store, find_on_web
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.store_path import SCHEME, parse_store_path
from nbpipe.resolve.web_settings import web_settings
from nbpipe.resolve.workspace_layout import WorkspaceLayout

_AT_ONCE = 16
Transfer = Callable[[str, int], AbstractContextManager[Progress]]
"""Shows the progress of a transfer, given what it is and its size in bytes."""

SMALL = 64 << 20
"""The bytes that a plan reads in all; more is read by the run. Also what is read again to see if it has changed."""


def open_remote_inputs(
    layout: WorkspaceLayout, digests: ObjectDigestRepository, environ: Mapping[str, str], transfer: Transfer
) -> RemoteInputs:
    """Return what pins remote inputs; raise BadUsage if a datastore is not configured correctly."""
    cache = ObjectCache(cache_folder(environ, layout.root))
    return RemoteInputs(OpenDatastores.of(layout, environ), digests, cache, transfer)


def cache_folder(environ: Mapping[str, str], fallback: Path) -> Path:
    """Return this user's folder for copies of objects; one below the workspace if the user has no home."""
    home = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    folder = Path(home, "nbpipe")
    return folder if home and folder.is_absolute() else fallback / "cache"


class _TooLargeError(Exception):
    """There is more to read than a plan reads."""


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
    """Pins inputs in datastores and on the web, and copies them to this machine.

    ``transfer`` shows what a plan reads.
    """

    datastores: OpenDatastores
    digests: ObjectDigestRepository
    cache: ObjectCache
    transfer: Transfer
    _pinned: dict[str, _PinnedSource] = field(default_factory=dict)
    _left: int = field(default_factory=lambda: SMALL)
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def pin(self, text: str) -> PinnedFiles | UnreadFiles:
        """Return what an input names now, pinned by content; the copies of its files may still be missing.

        Content that is unknown and too large to be read for a plan is left unread. Raise FileMissing if there is
        nothing, and StoreOutOfReach if it cannot be read.
        """
        found = self._find(text)
        pinned = self._remembered(found)
        unknown = [each.info.size for each in pinned if not each.digest]
        count = sum(size for size in unknown if size >= 0)
        if count > self._left:
            return UnreadFiles(text, found.kind, count if min(unknown) >= 0 else -1)
        try:
            with self.transfer(f"reading {text}", count) as shown:
                source = self._pinned[text] = self._read_unknown(found, pinned, self._counted(shown))
        except _TooLargeError:
            return UnreadFiles(text, found.kind, -1)
        return self._files(source)

    def read(self, text: str, progress: Progress) -> PinnedFiles:
        """Return what an input names, pinned by content, however much there is to read; once for all steps."""
        with self._reading:
            if text not in self._pinned:
                found = self._find(text)
                self._pinned[text] = self._read_unknown(found, self._remembered(found), progress)
            return self._files(self._pinned[text])

    def _counted(self, shown: Progress) -> Progress:
        """Return a progress function that counts towards what a plan may read, and ends the reading beyond it."""
        lock = threading.Lock()

        def progress(count: int) -> None:
            shown(count)
            with lock:
                self._left -= count
                if self._left < 0:
                    raise _TooLargeError

        return progress

    def _files(self, source: _PinnedSource) -> PinnedFiles:
        found, members = source.found, source.members
        size = sum(member[1] for member in members)
        if found.kind is PinnedKind.FILE:
            digest = source.objects[0].digest
            return PinnedFiles(found.kind, (str(self.cache.path(digest, found.name)),), digest, size, members)
        digest = tree_digest(members)
        folder = self.cache.folder_path(digest, found.name)
        paths = (folder,) if found.kind is PinnedKind.DIR else tuple(folder / path for path, _, _ in members)
        return PinnedFiles(found.kind, tuple(map(str, paths)), digest, size, members)

    def objects(self, text: str) -> tuple[tuple[str, ObjectInfo, str], ...]:
        """Return the objects of a pinned input, with their paths in it and their digests."""
        return tuple((each.path, each.info, each.digest) for each in self._pinned[text].objects)

    def is_unchanged(self, text: str) -> bool:
        """Return whether a pinned input is still what it was; what no store vouches for is read again."""
        before, found = self._pinned[text].objects, self._find(text)
        if [path for path, _ in found.objects] != [old.path for old in before]:
            return False
        pairs = list(zip(before, (info for _, info in found.objects), strict=True))
        if not all(old.info.is_still(new) for old, new in pairs if old.info.etag or new.etag):
            return False
        doubtful = [(old, new) for old, new in pairs if not (old.info.etag or new.etag)]
        if sum(old.info.size for old, _ in doubtful) > SMALL:
            # To read so much again is not worth it: the step has read its copy, whatever is there now.
            return all(old.info.modified == new.modified and _may_be_of(old, new) for old, new in doubtful)
        again = self._read_all(found, [old for old, _ in doubtful], no_progress)
        return [now.digest for now in again] == [old.digest for old, _ in doubtful]

    def unstaged(self, text: str) -> int:
        """Return the bytes of a pinned input's files that have no copy here."""
        return sum(each.info.size for each in self._missing(self._pinned[text]))

    def stage(self, text: str, progress: Progress = no_progress) -> None:
        """Make copies of a pinned input's files; raise ObjectChanged if one is no longer what was pinned."""
        source = self._pinned[text]
        missing = self._missing(source)
        for old, now in zip(missing, self._read_all(source.found, missing, progress), strict=True):
            if now.digest != old.digest:
                message = f"`{source.found.spelled(old.info.key)}` has changed since the run was submitted"
                raise ObjectChanged(message, "Run again.")
        with self.cache.writing():
            if source.found.kind is not PinnedKind.FILE:
                self.cache.folder(tree_digest(source.members), source.found.name, source.members)
            self.cache.use([(each.digest, each.name) for each in source.objects])

    def _missing(self, source: _PinnedSource) -> list[_PinnedObject]:
        return [each for each in source.objects if not self.cache.holds(each.digest, each.name, each.info.size)]

    @cached_property
    def _web(self) -> ObjectStore:
        return open_web_files(web_settings(self.datastores.layout), self.datastores.environ)

    def _find(self, text: str) -> FoundObjects:
        if not text.startswith(SCHEME):
            return find_on_web(text, self._web)
        place = parse_store_path(text)
        store = self.datastores.store(place.store)
        return find_in_store(text, place, store, self.datastores.configuration(place.store).address)

    def _read_unknown(self, found: FoundObjects, pinned: Sequence[_PinnedObject], progress: Progress) -> _PinnedSource:
        """Return the objects with their digests; those that are unknown or have changed are read."""
        unknown = [each for each in pinned if not each.digest]
        read = self._read_all(found, unknown, progress)
        for old, now in zip(unknown, read, strict=True):
            if now.info.etag.strip('"') != old.info.etag.strip('"') or not _may_be_of(now, old.info):
                message = f"`{found.spelled(old.info.key)}` keeps changing while it is read"
                raise ObjectChanged(message, "Wait until it is complete, or name a copy of it.")
        self.digests.remember(
            [
                StoredObject(found.address, replace(now.info, version=old.info.version), now.digest)
                for old, now in zip(unknown, read, strict=True)
            ]
        )
        new = {each.path: each for each in read}
        return _PinnedSource(found, tuple(new.get(each.path, each) for each in pinned))

    def _remembered(self, found: FoundObjects) -> list[_PinnedObject]:
        """Return the objects, each with its digest if it is still what it was when it was read, else with none."""
        known = self.digests.recall(found.address, [info.key for _, info in found.objects])
        pinned = []
        for path, info in found.objects:
            before = known.get(info.key)
            if before is not None and before.info.is_still(info):
                pinned.append(_PinnedObject(path, replace(info, size=before.info.size), before.digest))
            else:
                pinned.append(_PinnedObject(path, info, ""))
        return pinned

    def _read_all(
        self, found: FoundObjects, objects: Sequence[_PinnedObject], progress: Progress
    ) -> list[_PinnedObject]:
        """Copy objects to this machine; return each with what its store says now, and the digest of the copy."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda each: self._read(found.store, each, progress), objects))

    def _read(self, store: ObjectStore, each: _PinnedObject, progress: Progress) -> _PinnedObject:
        with self.cache.draft() as draft:
            now = store.download(each.info.key, draft, progress=progress)
            with self.cache.writing():
                return _PinnedObject(each.path, now, self.cache.keep(draft, each.name))


def _may_be_of(read: _PinnedObject, info: ObjectInfo) -> bool:
    """Return whether what was read has the size that the store announces, if it announces one."""
    return info.size < 0 or read.info.size == info.size
