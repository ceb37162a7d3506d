"""Inputs in datastores, pinned by content: listed anew each time, read only if their store says that they changed."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from nbpipe.data.digests import Member, tree_digest
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.errors import FileMissing, ObjectChanged, StoreOutOfReach
from nbpipe.history.object_digests import ObjectDigest, ObjectDigestRepository
from nbpipe.model import PinnedFiles, PinnedKind
from nbpipe.model.datastores import DatastoreConfiguration, ObjectInfo
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.store_path import StorePath, parse_store_path
from nbpipe.resolve.workspace_layout import WorkspaceLayout

_AT_ONCE = 16


def open_remote_inputs(
    layout: WorkspaceLayout, digests: ObjectDigestRepository, environ: Mapping[str, str]
) -> RemoteInputs:
    """Return what pins inputs in datastores; raise BadUsage if a datastore is not configured correctly."""
    return RemoteInputs(OpenDatastores.of(layout, environ), digests, ObjectCache(cache_folder(environ, layout.root)))


def cache_folder(environ: Mapping[str, str], fallback: Path) -> Path:
    """Return this user's folder for copies of objects; one below the workspace if the user has no home."""
    home = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    folder = Path(home, "nbpipe")
    return folder if home and folder.is_absolute() else fallback / "cache"


@dataclass(frozen=True, slots=True)
class _Source:
    """An input's objects, with their paths relative to it and their digests; ``name`` is that of its file or folder."""

    place: StorePath
    kind: PinnedKind
    name: str
    objects: tuple[tuple[str, ObjectInfo, str], ...]

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple((path, info.size, digest) for path, info, digest in self.objects)


@dataclass(slots=True)
class RemoteInputs:
    """Pins inputs in datastores, and copies them to this machine."""

    datastores: OpenDatastores
    digests: ObjectDigestRepository
    cache: ObjectCache
    _pinned: dict[str, _Source] = field(default_factory=dict)

    def pin(self, text: str) -> PinnedFiles:
        """Return what an input names now, pinned by content; the copies of its files may still be missing.

        Raise FileMissing if there is nothing, and StoreOutOfReach if the datastore cannot be used.
        """
        place = parse_store_path(text)
        store = self.datastores.store(place.store)
        kind, name, found = _found(store, place)
        digests = self._digests(store, self.datastores.configuration(place.store), [info for _, info in found])
        objects = tuple((path, info, digests[info.key]) for path, info in found)
        source = self._pinned[text] = _Source(place, kind, name, objects)
        size = sum(info.size for _, info in found)
        if kind is PinnedKind.FILE:
            digest = objects[0][2]
            return PinnedFiles(kind, (str(self.cache.path(digest, name)),), digest, size, source.members)
        digest = tree_digest(source.members)
        folder = self.cache.folder_path(digest, name)
        paths = (folder,) if kind is PinnedKind.DIR else tuple(folder / path for path, _, _ in objects)
        return PinnedFiles(kind, tuple(map(str, paths)), digest, size, source.members)

    def objects(self, text: str) -> tuple[tuple[str, ObjectInfo, str], ...]:
        """Return the objects of a pinned input, with their paths in it and their digests."""
        return self._pinned[text].objects

    def is_unchanged(self, text: str) -> bool:
        """Return whether the datastore says the same about a pinned input as when it was pinned."""
        source = self._pinned[text]
        _, _, found = _found(self.datastores.store(source.place.store), source.place)
        return [info for _, info in found] == [info for _, info, _ in source.objects]

    def stage(self, text: str) -> None:
        """Make copies of a pinned input's files; raise ObjectChanged if one is no longer what was pinned."""
        source = self._pinned[text]
        store = self.datastores.store(source.place.store)
        missing = [
            (info, digest) for path, info, digest in source.objects
            if not self.cache.holds(digest, path.rpartition("/")[2], info.size)
        ]  # fmt: skip
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            read = list(pool.map(lambda each: self._read(store, each[0])[1], missing))
        for (info, digest), now in zip(missing, read, strict=True):
            if now != digest:
                message = f"`store:{store.name}/{info.key}` has changed since the run was submitted"
                raise ObjectChanged(message, "Run again.")
        with self._writing():
            if source.kind is not PinnedKind.FILE:
                self.cache.folder(tree_digest(source.members), source.name, source.members)
            self.cache.use([(digest, path.rpartition("/")[2]) for path, _, digest in source.objects])

    def _digests(
        self, store: ObjectStore, configuration: DatastoreConfiguration, infos: Sequence[ObjectInfo]
    ) -> dict[str, str]:
        """Return the digests of objects by key; those that are unknown or have changed are read."""
        address = configuration.address
        known = self.digests.recall(address, [info.key for info in infos])
        digests = {
            info.key: known[info.key].digest for info in infos if info.key in known and _is_same(known[info.key], info)
        }
        unknown = [info for info in infos if info.key not in digests]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            read = list(pool.map(lambda info: self._read(store, info), unknown))
        for info, (now, digest) in zip(unknown, read, strict=True):
            if (now.size, now.etag) != (info.size, info.etag):
                message = f"`store:{store.name}/{info.key}` keeps changing while it is read"
                raise ObjectChanged(message, "Wait until it is complete, or name a copy of it.")
            digests[info.key] = digest
        self.digests.remember(
            [
                ObjectDigest(address, info.key, info.size, info.etag, info.version, digests[info.key])
                for info in unknown
                if info.etag and not info.is_recent
            ]
        )
        return digests

    def _read(self, store: ObjectStore, info: ObjectInfo) -> tuple[ObjectInfo, str]:
        """Copy an object to this machine; return what the store says about it now, and its digest."""
        with self._writing():
            draft = self.cache.draft_folder() / uuid4().hex
        try:
            now = store.download(info.key, draft)
            with self._writing():
                return now, self.cache.keep(draft, info.key.rpartition("/")[2])
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"the copies of objects in {self.cache.root} cannot be written: {error.strerror or error}"
            raise StoreOutOfReach(message, "Free some space there, or name another folder: XDG_CACHE_HOME.") from error


def _is_same(known: ObjectDigest, info: ObjectInfo) -> bool:
    """Return whether an object is the one whose digest is known, by all that the store says."""
    version = known.version == info.version or not (known.version and info.version)
    return bool(info.etag) and (known.size, known.etag) == (info.size, info.etag) and version


def _found(store: ObjectStore, place: StorePath) -> tuple[PinnedKind, str, list[tuple[str, ObjectInfo]]]:
    """Return the kind of what is at a place, its name, and its objects with their relative paths."""
    key = place.key.rstrip("/")
    if glob.has_magic(place.key):
        root = _fixed_part(place.key)
        matches = re.compile(_pattern(place.key))
        found = [info for info in store.list(root) if matches.fullmatch(info.key)]
        if not found:
            raise FileMissing(f"`{place}` matches no object", _look(place.store, root))
        return PinnedKind.GLOB, root.rpartition("/")[2] or place.store, _below(root, found)
    info = None if place.is_folder else store.find(key)
    if info is not None:
        return PinnedKind.FILE, key.rpartition("/")[2], [(key.rpartition("/")[2], info)]
    found = list(store.list(key))
    if not found:
        raise FileMissing(f"`{place}` is not there", _look(place.store, key.rpartition("/")[0]))
    return PinnedKind.DIR, key.rpartition("/")[2] or place.store, _below(key, found)


def _below(root: str, found: Sequence[ObjectInfo]) -> list[tuple[str, ObjectInfo]]:
    return [(info.key[len(root) :].lstrip("/"), info) for info in found]


def _look(store: str, folder: str) -> str:
    return f"Look with: nbpipe datastores ls {store}{'/' if folder else ''}{folder}"


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    magic = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:magic])


def _pattern(pattern: str) -> str:
    """Return a regular expression for the keys that a glob matches: as a shell does, without hidden names."""
    translated = []
    for part in pattern.split("/"):
        if part == "**":
            translated.append(r"(?:(?!\.)[^/]+/)*")
            continue
        text = fnmatch.translate(part).removeprefix("(?s:").removesuffix(")\\Z").replace(".*", "[^/]*")
        hidden = "" if part.startswith(".") else r"(?!\.)"
        translated.append(f"{hidden}{text}/" if glob.has_magic(part) else f"{re.escape(part)}/")
    return "".join(translated).removesuffix("/") if not pattern.endswith("**") else "".join(translated) + r"(?!\.)[^/]+"
