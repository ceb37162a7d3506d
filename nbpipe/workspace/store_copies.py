"""Copies of objects and folders: into a datastore, out of it, within it, and from one to another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nbpipe.data.atomic_file import draft_beside, put_in_place, put_new_in_place
from nbpipe.data.stores.object_store import ObjectStore, Progress
from nbpipe.errors import BadUsage, FileMissing, ObjectExists
from nbpipe.resolve.store_path import SCHEME, StorePath, parse_store_path
from nbpipe.workspace.datastores import Datastores

_AT_ONCE = 8
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _LocalPath:
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def below(self, relative: str) -> _LocalPath:
        return _LocalPath(self.path / relative)


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """One file or object to copy, with its size in bytes."""

    source: _LocalPath | StorePath
    target: _LocalPath | StorePath
    size: int


@dataclass(slots=True)
class StoreCopier:
    """Copies between places; paths without ``store:`` are local, relative to ``base``."""

    datastores: Datastores
    base: Path

    def plan(self, source: str, target: str, *, replaces: bool) -> list[PlannedCopy]:
        """Return what is to be copied: a file, or all files of a folder; a target with a slash at its end is a folder.

        Raise ObjectExists if something would be replaced and not ``replaces``.
        """
        begin, end = self._place(source), self._place(target)
        if isinstance(begin, _LocalPath) and isinstance(end, _LocalPath):
            raise BadUsage("both places are local", "Write the one in a datastore as store:NAME/path.")
        if isinstance(end, StorePath):
            self.datastores.store(end.store, writes=True)
        found = self._files(begin)
        if len(found) == 1 and not found[0][0]:
            name = begin.path.name if isinstance(begin, _LocalPath) else begin.key.rpartition("/")[2]
            is_into = target.endswith("/") or self._is_folder(end)
            copies = [PlannedCopy(begin, end.below(name) if is_into else end, found[0][1])]
        else:
            copies = [PlannedCopy(begin.below(below), end.below(below), size) for below, size in found]
        if not replaces:
            self._refuse_existing(copies)
        return copies

    def carry_out(self, copies: list[PlannedCopy], progress: Progress, *, replaces: bool) -> None:
        """Copy files and objects, several at once; each appears whole or not at all."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(lambda one: self._copy(one, progress, replaces=replaces), copies):
                pass

    def _place(self, text: str) -> _LocalPath | StorePath:
        if text.startswith(SCHEME):
            return parse_store_path(text)
        return _LocalPath(self.base / Path(text).expanduser())

    def _files(self, place: _LocalPath | StorePath) -> list[tuple[str, int]]:
        """Return the files of a place, relative to it, with their sizes; of a single file the empty path."""
        if isinstance(place, StorePath):
            top = place.key.rstrip("/")
            return [(info.key[len(top) :].lstrip("/"), info.size) for info in self.datastores.objects(place)]
        if place.path.is_file():
            return [("", place.path.stat().st_size)]
        if not place.path.is_dir():
            raise FileMissing(f"{place.path} does not exist", "In a datastore it is written as store:NAME/path.")
        files = sorted(path for path in place.path.rglob("*") if path.is_file())
        if not files:
            raise FileMissing(f"{place.path} has no files", "Name a folder with files.")
        return [(path.relative_to(place.path).as_posix(), path.stat().st_size) for path in files]

    def _is_folder(self, place: _LocalPath | StorePath) -> bool:
        return place.path.is_dir() if isinstance(place, _LocalPath) else not place.key

    def _refuse_existing(self, copies: list[PlannedCopy]) -> None:
        local = [copy.target for copy in copies if isinstance(copy.target, _LocalPath)]
        existing = [str(target) for target in local if os.path.lexists(target.path)]
        remote = [copy.target for copy in copies if isinstance(copy.target, StorePath)]
        if remote:
            store = self.datastores.store(remote[0].store)
            found = store.find_many(target.key for target in remote)
            existing += [str(target) for target, info in zip(remote, found, strict=True) if info is not None]
        if existing:
            more = f" and {len(existing) - _SHOWN} more" if len(existing) > _SHOWN else ""
            listed = ", ".join(f"`{each}`" for each in existing[:_SHOWN])
            exists = "exists" if len(existing) == 1 else "exist"
            raise ObjectExists(f"{listed}{more} {exists} already", "Replace what is there with --replace.")

    def _copy(self, copy: PlannedCopy, progress: Progress, *, replaces: bool) -> None:
        match copy.source, copy.target:
            case _LocalPath(path), StorePath(name, key):
                store = self.datastores.store(name, writes=True)
                (store.put if replaces else store.put_new)(key, path, progress)
            case StorePath(name, key), _LocalPath(path):
                _download(self.datastores.store(name), key, path, progress, replaces=replaces)
            case StorePath(name), StorePath(other) if name == other:
                self.datastores.store(other, writes=True).copy(copy.source.key, copy.target.key)
                progress(copy.size)
            case StorePath(name, key), StorePath(other, other_key):
                store = self.datastores.store(other, writes=True)
                with tempfile.TemporaryDirectory() as folder:
                    passing = Path(folder, "object")
                    self.datastores.store(name).download(key, passing)
                    (store.put if replaces else store.put_new)(other_key, passing, progress)


def _download(store: ObjectStore, key: str, path: Path, progress: Callable[[int], None], *, replaces: bool) -> None:
    """Write an object to a local path; the file appears when it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_beside(path) as draft:
            store.download(key, draft, progress=progress)
            if replaces:
                put_in_place(draft, path, durable=False)
            else:
                put_new_in_place(draft, path, durable=False)
    except FileExistsError:
        raise ObjectExists(f"`{path}` exists already", "Replace what is there with --replace.") from None
    except OSError as error:
        raise BadUsage(f"`{path}` cannot be written: {error.strerror}", "Name a path that you may write.") from error
