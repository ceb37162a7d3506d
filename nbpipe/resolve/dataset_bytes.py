"""The files of a version of a dataset: kept or referenced, compared with what was registered whenever they are used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nbpipe.data.dataset_manifest import read_manifest
from nbpipe.data.digests import (
    DigestCache,
    PrefetchingDigestCache,
    folder_members,
    remembered_digest,
    walk,
)
from nbpipe.data.integrity import find_damage
from nbpipe.data.materializer import Materializer
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.errors import DataChanged, DataGone, FileMissing, NbpipeError, ObjectMissing, StoreOutOfReach
from nbpipe.model.datasets import DatasetFiles, DatasetKind, DatasetMember, DatasetVersion
from nbpipe.model.datastores import ObjectInfo
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.remote_inputs import cache_folder
from nbpipe.resolve.store_path import SCHEME, StorePath, parse_store_path
from nbpipe.resolve.workspace_layout import WorkspaceLayout

_AT_ONCE = 16


@dataclass(slots=True)
class DatasetBytes:
    """Reads versions of datasets; the datastores are opened when a version is in one of them."""

    materializer: Materializer
    digests: DigestCache
    datastores: Callable[[], OpenDatastores]
    cache: ObjectCache
    _members: dict[str, tuple[DatasetMember, ...]] = field(default_factory=dict)

    def members(self, version: DatasetVersion) -> tuple[DatasetMember, ...]:
        """Return the files of a version, sorted by their paths in it."""
        if str(version) not in self._members:
            self._members[str(version)] = self._listed(version)
        return self._members[str(version)]

    def check(self, version: DatasetVersion) -> None:
        """Raise DataGone or DataChanged if a version's files cannot be had as they were registered.

        Kept versions are compared when they are read. Objects are compared by what their datastores say about them.
        """
        if version.content.kind is DatasetKind.KEPT:
            return
        members = self.members(version)
        local = [member for member in members if not _is_remote(member)]
        if isinstance(self.digests, PrefetchingDigestCache):
            self.digests.prefetch(map(_local_path, local))
        for member in local:
            self._require_local(version, member)
        self._require_objects(version, [member for member in members if _is_remote(member)])

    def local(self, version: DatasetVersion) -> DatasetFiles:
        """Return a version's files on this machine, with the bytes that were registered.

        Raise DataGone or DataChanged if that is not possible any more.
        """
        if version.content.kind is DatasetKind.KEPT:
            return self._kept(version)
        return self.fetched(version, self.members(version))

    def fetched(self, version: DatasetVersion, members: Sequence[DatasetMember]) -> DatasetFiles:
        """Return referenced files on this machine; ``version`` says what they are to be."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            paths = list(pool.map(lambda member: self._fetched(version, member), members))
        files = tuple(zip((member.path for member in members), paths, strict=True))
        if not version.content.recipe.is_folder:
            return DatasetFiles(files[0][1], files)
        return DatasetFiles(self._folder(version, members, files), files)

    def _listed(self, version: DatasetVersion) -> tuple[DatasetMember, ...]:
        if version.content.kind is DatasetKind.REFERENCED:
            return read_manifest(self._stored(version))
        path = self._stored(version)
        if not version.content.recipe.is_folder:
            return (DatasetMember(path.as_uri(), path.name, version.content.bytes, version.content.digest),)
        found = folder_members(path, self.digests)
        return tuple(DatasetMember((path / each).as_uri(), each, size, digest) for each, size, digest in found)

    def _stored(self, version: DatasetVersion) -> Path:
        """Return the path of what nbpipe stores of a version, once it is checked to be intact."""
        stored = version.stored
        try:
            path = self.materializer.path(stored)
            damage = find_damage(path, stored.reference, folder=stored.is_folder, digests=self.digests)
        except StoreOutOfReach as error:
            raise DataGone(f"`{version}` cannot be read: {error.message}", _again(version)) from error
        if damage is not None:
            raise DataChanged(f"`{version}` cannot be read: `{stored.basename}` {damage}", _again(version))
        return path

    def _kept(self, version: DatasetVersion) -> DatasetFiles:
        path = self._stored(version)
        if not version.stored.is_folder:
            return DatasetFiles(path, ((path.name, path),))
        return DatasetFiles(path, tuple((each.relative_to(path).as_posix(), each) for each in sorted(walk(path))))

    def _require_local(self, version: DatasetVersion, member: DatasetMember) -> Path:
        path = _local_path(member)
        try:
            size = path.stat().st_size
            digest = remembered_digest(path, self.digests)
        except (OSError, FileMissing) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message
            raise DataGone(f"`{version}` is gone: {path} cannot be read ({reason})", _cure(version)) from error
        if size != member.size:
            raise _changed(version, str(path), f"it has {size:,} bytes, not {member.size:,}")
        if digest != member.digest:
            raise _changed(version, str(path), "its bytes are others")
        return path

    def _require_objects(self, version: DatasetVersion, members: Sequence[DatasetMember]) -> None:
        unknown = [member for member in members if not self._is_cached(member)]
        by_store: dict[str, list[tuple[DatasetMember, StorePath]]] = {}
        for member in unknown:
            place = parse_store_path(member.uri)
            by_store.setdefault(place.store, []).append((member, place))
        for name, places in by_store.items():
            found = self.datastores().store(name).find_many(place.key for _, place in places)
            for (member, _), info in zip(places, found, strict=True):
                if not member.version:
                    _require_same(version, member, info)

    def _is_cached(self, member: DatasetMember) -> bool:
        return self.cache.holds(member.digest, member.path.rpartition("/")[2], member.size)

    def _fetched(self, version: DatasetVersion, member: DatasetMember) -> Path:
        """Return the path of a file, of an object that of a copy with the registered bytes."""
        if not _is_remote(member):
            return self._require_local(version, member)
        name = member.path.rpartition("/")[2]
        if not self._is_cached(member):
            self._download(version, member, name)
        self.cache.use([(member.digest, name)])
        return self.cache.path(member.digest, name)

    def _download(self, version: DatasetVersion, member: DatasetMember, name: str) -> None:
        place = parse_store_path(member.uri)
        with self.cache.draft() as draft, self.cache.writing():
            try:
                self.datastores().store(place.store).download(place.key, draft, member.version)
            except ObjectMissing as error:
                raise DataGone(f"`{version}` is gone: {error.message}", _cure(version)) from error
            if (size := draft.stat().st_size) != member.size:
                raise _changed(version, member.uri, f"it has {size:,} bytes, not {member.size:,}")
            if self.cache.keep(draft, name) != member.digest:
                raise _changed(version, member.uri, "its bytes are others")

    def _folder(
        self, version: DatasetVersion, members: Sequence[DatasetMember], files: Sequence[tuple[str, Path]]
    ) -> Path:
        """Return a folder with exactly these files: their own, or one that is made of copies."""
        root = Path(str(files[0][1]).removesuffix(f"/{files[0][0]}"))
        if all(path == root / relative for relative, path in files) and _has_only(root, len(files)):
            return root
        for member, (_, path) in zip(members, files, strict=True):
            if not self._is_cached(member):
                self._copy(version, member, path)
        triples = [(member.path, member.size, member.digest) for member in members]
        return self.cache.folder(version.content.digest, version.basename, triples)

    def _copy(self, version: DatasetVersion, member: DatasetMember, path: Path) -> None:
        with self.cache.draft() as draft:
            shutil.copyfile(path, draft)
            if self.cache.keep(draft, path.name) != member.digest:
                raise _changed(version, str(path), "its bytes are others")


def open_dataset_bytes(
    layout: WorkspaceLayout, materializer: Materializer, digests: DigestCache, environ: Mapping[str, str]
) -> DatasetBytes:
    """Return what reads the versions of a workspace's datasets."""
    opened: list[OpenDatastores] = []

    def datastores() -> OpenDatastores:
        if not opened:
            opened.append(OpenDatastores.of(layout, environ))
        return opened[0]

    return DatasetBytes(materializer, digests, datastores, ObjectCache(cache_folder(environ, layout.root)))


def _is_remote(member: DatasetMember) -> bool:
    return member.uri.startswith(SCHEME)


def _local_path(member: DatasetMember) -> Path:
    return Path(unquote(urlsplit(member.uri).path))


def _has_only(root: Path, count: int) -> bool:
    """Return whether a folder has no more files than these."""
    return sum(len(names) for _, _, names in os.walk(root)) == count


def _require_same(version: DatasetVersion, member: DatasetMember, info: ObjectInfo | None) -> None:
    if info is None:
        raise DataGone(f"`{version}` is gone: `{member.uri}` does not exist any more", _cure(version))
    if info.size != member.size:
        raise _changed(version, member.uri, f"it has {info.size:,} bytes, not {member.size:,}")
    if info.etag != member.etag:
        raise _changed(version, member.uri, f"its ETag is {info.etag}, not {member.etag}")


def _changed(version: DatasetVersion, where: str, what: str) -> NbpipeError:
    return DataChanged(f"`{version}` has changed: `{where}` is not what was registered, {what}", _cure(version))


def _cure(version: DatasetVersion) -> str:
    return (
        f"`{version}` was registered as a reference. Put the bytes back, or register them as a new version; "
        "`nbpipe datasets pin` keeps a copy of a version while its bytes are there."
    )


def _again(version: DatasetVersion) -> str:
    made = f"Run step {version.origin.step} again" if version.origin.step else "Register its source again"
    return f"{made}: the same bytes are the same version."
