"""A datastore in a local folder, or in one that is mounted."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nbpipe.data.atomic_file import draft_beside, is_draft, put_in_place, put_new_in_place
from nbpipe.data.stores.object_store import Progress, checked_folder, checked_key, no_progress
from nbpipe.data.stores.store_errors import changed, exists, missing, named
from nbpipe.errors import BadUsage, ObjectMissing, StoreOutOfReach
from nbpipe.model.datastores import FolderListing, ObjectInfo

_CHUNK = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class FolderStore:
    """The files below a folder; links that lead out of it are not followed."""

    is_conditional = True
    can_list = True

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = Path(os.path.realpath(root))

    def url(self, key: str) -> str:
        """Return the address of a file, whether it exists or not."""
        return f"file://{self._root / key}"

    def require_reachable(self) -> None:
        """Raise StoreOutOfReach if nothing can be listed."""
        self.list_folder()

    def put_new(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write a new file; raise ObjectExists if there is one."""
        return self._put(key, source, progress, is_new=True)

    def put(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write or replace a file."""
        return self._put(key, source, progress, is_new=False)

    def replace_if(self, key: str, content: bytes, etag: str) -> ObjectInfo:
        """Replace a file if it has not changed; writers take turns."""
        path = self._path(key)
        with self._reaching(key), self._locked():
            found = self.find(key)
            if found is None or found.etag != etag:
                raise changed(self.name, key)
            with draft_beside(path) as draft:
                _write(draft, content, no_progress)
                put_in_place(draft, path, durable=True)
        return self._found(key)

    def read(self, key: str, version: str = "") -> bytes:
        """Return a file's content."""
        return b"".join(self.stream(key, version))

    def download(self, key: str, target: Path, version: str = "", progress: Progress = no_progress) -> ObjectInfo:
        """Copy a file to ``target``."""
        self._require_no_version(key, version)
        info = self._found(key)
        with self._reaching(key):
            file = self._path(key).open("rb")
        try:
            with file, target.open("xb") as copy:
                _transfer(file, copy, progress)
        except OSError as error:
            message = f"`{named(self.name, key)}` cannot be copied to {target}: {error.strerror or error}"
            raise StoreOutOfReach(message, "Check that the folder is there, and the free space.") from error
        return info

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """Yield a file's content in pieces."""
        self._require_no_version(key, version)
        self._found(key)
        with self._reaching(key), self._path(key).open("rb") as file:
            while piece := file.read(_CHUNK):
                yield piece

    def find(self, key: str) -> ObjectInfo | None:
        """Return a file's size and the time of its last change; None if it does not exist."""
        path = self._path(key)
        with self._reaching(key):
            return _info(key, path) if path.is_file() else None

    def find_many(self, keys: Iterable[str]) -> list[ObjectInfo | None]:
        """Return what :meth:`find` does, for several files."""
        return [self.find(key) for key in keys]

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Yield all files below a folder, sorted by key."""
        key = checked_folder(self.name, folder)
        top = self._path(key) if key else self._root
        with self._reaching(key):
            # As keys are sorted, a folder's name is compared with its slash.
            names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(top)) if top.is_dir() else []
        for name in names:
            below = f"{key}/{name}" if key else name
            if name.endswith("/"):
                if self._is_inside(top / name[:-1]):
                    yield from self.list(below)
            elif self._is_shown(top / name):
                yield _info(below, top / name)

    def list_folder(self, folder: str = "") -> FolderListing:
        """Return the files and folders right below a folder."""
        key = checked_folder(self.name, folder)
        top = self._path(key) if key else self._root
        with self._reaching(key):
            paths = sorted(top.iterdir()) if top.is_dir() else []
            folders = tuple(path.name for path in paths if path.is_dir() and self._is_inside(path))
            files = [path for path in paths if self._is_shown(path)]
            return FolderListing(folders, tuple(_info(f"{key}/{f.name}" if key else f.name, f) for f in files))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files, and folders that are empty afterwards."""
        for key in keys:
            path = self._path(key)
            with self._reaching(key):
                path.unlink(missing_ok=True)
                self._remove_empty(path.parent)

    def copy(self, key: str, target: str) -> ObjectInfo:
        """Copy a file within the folder."""
        self._found(key)
        return self.put(target, self._path(key))

    def sign(self, key: str, seconds: int) -> str:
        """Raise BadUsage: nobody serves a folder."""
        raise BadUsage(f"the datastore `{self.name}` is a folder, so `{key}` has no address for {seconds} s")

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _put(self, key: str, source: Path | bytes, progress: Progress, *, is_new: bool) -> ObjectInfo:
        path = self._path(key)
        with self._reaching(key):
            if is_new and os.path.lexists(path):
                raise exists(self.name, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft_beside(path) as draft:
                _write(draft, source, progress)
                try:
                    if is_new:
                        put_new_in_place(draft, path, durable=True)
                    else:
                        put_in_place(draft, path, durable=True)
                except FileExistsError:
                    raise exists(self.name, key) from None
        return self._found(key)

    def _path(self, key: str) -> Path:
        """Return the path of a key; raise StoreOutOfReach if a link on the way leads out of the folder."""
        path = self._root / checked_key(self.name, key)
        if not self._is_inside(path):
            message = f"`{named(self.name, key)}` is behind a link that leads out of the datastore"
            raise StoreOutOfReach(message, "Make the folder that it leads to a datastore of its own.")
        return path

    def _is_inside(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return real.is_relative_to(self._root)

    def _is_shown(self, path: Path) -> bool:
        return path.is_file() and self._is_inside(path) and not is_draft(path.name)

    def _found(self, key: str) -> ObjectInfo:
        found = self.find(key)
        if found is None:
            raise missing(self.name, key)
        return found

    def _require_no_version(self, key: str, version: str) -> None:
        if version:
            raise ObjectMissing(f"`{named(self.name, key)}` has no version {version}: a folder keeps only the last one")

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    @contextmanager
    def _reaching(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE:
                message = f"there is no space left in the datastore `{self.name}` ({self._root})"
                raise StoreOutOfReach(message, "Free some space, then try again.") from error
            message = f"`{named(self.name, key)}` cannot be used: {error.strerror or error} ({self._root / key})"
            raise StoreOutOfReach(message, f"Check it with: nbpipe datastores test {self.name}") from error


def _info(key: str, path: Path) -> ObjectInfo:
    status = path.stat()
    etag = f"{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
    return ObjectInfo(key, status.st_size, etag, "", status.st_mtime)


def _write(draft: Path, source: Path | bytes, progress: Progress) -> None:
    """Write a draft and flush it to the disk."""
    with draft.open("xb") as copy:
        if isinstance(source, bytes):
            copy.write(source)
            progress(len(source))
        else:
            with source.open("rb") as file:
                _transfer(file, copy, progress)
        copy.flush()
        os.fsync(copy.fileno())


def _transfer(file: BinaryIO, copy: BinaryIO, progress: Progress) -> None:
    if progress is no_progress:
        # The system copies without showing us the bytes, where it can.
        shutil.copyfileobj(file, copy, _CHUNK)
        return
    while piece := file.read(_CHUNK):
        copy.write(piece)
        progress(len(piece))
