"""A datastore on a file server that fsspec knows, such as one that speaks SFTP.

Such servers have neither writes that create only, nor versions: a new object is looked for before it is written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from nbpipe.data.atomic_file import is_draft
from nbpipe.data.stores.object_store import Progress, checked_folder, checked_key, no_progress
from nbpipe.data.stores.store_errors import changed, exists, missing, named, require_complete
from nbpipe.errors import BadUsage, ObjectMissing, StoreOutOfReach
from nbpipe.model.datastores import FolderListing, ObjectInfo

_CHUNK = 1 << 20
# The times of such servers are whole seconds, and their clocks may differ from ours a little.
_CLOCK_STEP = 3.0


class ServerStore:
    """The files below a folder of a server; ``files`` is an fsspec file system.

    ``failures`` are what its library raises beside OSError.
    """

    is_conditional = False

    def __init__(self, name: str, files: Any, root: str, url: str, failures: tuple[type[Exception], ...] = ()) -> None:
        self.name = name
        self._files: Any = files
        self._root = root.rstrip("/")
        self._url = url.rstrip("/")
        self._failures: tuple[type[Exception], ...] = (OSError, *failures)

    def url(self, key: str) -> str:
        """Return the address of a file, whether it exists or not."""
        return f"{self._url}/{key}"

    def put_new(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write a new file; raise ObjectExists if there is one. Another writer at the same time may replace it."""
        if self.find(key) is not None:
            raise exists(self.name, key)
        return self.put(key, source, progress)

    def put(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write or replace a file: a draft beside it takes its name."""
        path = self._path(key)
        folder = path.rpartition("/")[0]
        draft = f"{folder}/.{os.urandom(16).hex()}.partial"
        with self._reaching(key):
            self._files.makedirs(folder, exist_ok=True)
            with ExitStack() as stack:
                stack.callback(self._remove, draft)
                with self._files.open(draft, "wb") as copy:
                    for piece in _pieces(source):
                        copy.write(piece)
                        progress(len(piece))
                self._rename(draft, path)
                stack.pop_all()
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        info = self._found(key)
        require_complete(self.name, key, info.size, size)
        return info

    def replace_if(self, key: str, content: bytes, etag: str) -> ObjectInfo:
        """Replace a file if it has not changed; another writer at the same time may do so, too."""
        found = self.find(key)
        if found is None or found.etag != etag:
            raise changed(self.name, key)
        return self.put(key, content)

    def read(self, key: str, version: str = "") -> bytes:
        """Return a file's content."""
        return b"".join(self.stream(key, version))

    def download(self, key: str, target: Path, version: str = "", progress: Progress = no_progress) -> ObjectInfo:
        """Write a file's content to a new local file; raise StoreOutOfReach if it arrives incomplete."""
        info = self._found(key)
        count = 0
        with target.open("xb") as copy:
            for piece in self.stream(key, version):
                count += copy.write(piece)
                progress(len(piece))
        require_complete(self.name, key, count, info.size)
        return info

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """Yield a file's content in pieces."""
        if version:
            raise ObjectMissing(
                f"`{named(self.name, key)}` has no version {version}: the server keeps only the last one"
            )
        with self._reaching(key), self._files.open(self._path(key), "rb") as file:
            while piece := file.read(_CHUNK):
                yield piece

    def find(self, key: str) -> ObjectInfo | None:
        """Return a file's size and the time of its last change; None if it does not exist."""
        path = self._path(key)
        with self._reaching(key):
            try:
                found = self._files.info(path)
            except FileNotFoundError:
                return None
        return self._info(found) if found["type"] == "file" else None

    def find_many(self, keys: Iterable[str]) -> list[ObjectInfo | None]:
        """Return what :meth:`find` does, for several files."""
        return [self.find(key) for key in keys]

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Yield all files below a folder, sorted by key."""
        listing = self.list_folder(folder)
        key = checked_folder(self.name, folder)
        below = {f"{key}/{name}/" if key else f"{name}/": None for name in listing.folders}
        for each in sorted([*below, *(info.key for info in listing.objects)]):
            if each in below:
                yield from self.list(each)
            else:
                yield next(info for info in listing.objects if info.key == each)

    def list_folder(self, folder: str = "") -> FolderListing:
        """Return the files and folders right below a folder."""
        key = checked_folder(self.name, folder)
        with self._reaching(key):
            try:
                found = self._files.ls(self._path(key) if key else self._root or "/", detail=True)
            except FileNotFoundError:
                return FolderListing((), ())
        folders = [str(each["name"]).rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]
        files = [self._info(each) for each in found if each["type"] == "file"]
        shown = [info for info in files if not is_draft(info.key.rpartition("/")[2])]
        return FolderListing(tuple(sorted(folders)), tuple(sorted(shown, key=lambda info: info.key)))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; those that do not exist are passed over."""
        for key in keys:
            with self._reaching(key), suppress(FileNotFoundError):
                self._files.rm_file(self._path(key))

    def copy(self, key: str, target: str) -> ObjectInfo:
        """Copy a file: its content passes through this machine."""
        self._found(key)
        return self.put(target, self.read(key))

    def sign(self, key: str, seconds: int) -> str:
        """Raise BadUsage: a file server has no addresses that anyone can read."""
        raise BadUsage(f"the datastore `{self.name}` has no address for `{key}` that is open for {seconds} s")

    def close(self) -> None:
        """Let go of the file system, which ends its connections when nothing refers to it."""
        self._files = None

    def _remove(self, path: str) -> None:
        with suppress(*self._failures):
            self._files.rm_file(path)

    def _rename(self, draft: str, path: str) -> None:
        try:
            self._files.mv(draft, path)
        except self._failures:
            # Some servers do not rename over another file.
            if not self._files.exists(path):
                raise
            self._files.rm_file(path)
            self._files.mv(draft, path)

    def _path(self, key: str) -> str:
        return f"{self._root}/{checked_key(self.name, key)}"

    def _info(self, found: dict[str, Any]) -> ObjectInfo:
        key = str(found["name"])[len(self._root) :].lstrip("/")
        size, changed = int(found["size"] or 0), found.get("mtime") or found.get("modified") or 0
        modified = changed.timestamp() if isinstance(changed, datetime) else float(changed)
        is_recent = time.time() - modified < _CLOCK_STEP
        return ObjectInfo(key, size, f"{modified:.6f}-{size:x}", "", modified, is_recent)

    def _found(self, key: str) -> ObjectInfo:
        found = self.find(key)
        if found is None:
            raise missing(self.name, key)
        return found

    @contextmanager
    def _reaching(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise missing(self.name, key) from None
        except PermissionError:
            message = f"the datastore `{self.name}` refuses access to `{named(self.name, key)}` ({self._url})"
            raise StoreOutOfReach(message, "Check what its user may read and write there.") from None
        except self._failures as error:
            message = f"the datastore `{self.name}` is out of reach ({self._url}): {str(error) or type(error).__name__}"
            raise StoreOutOfReach(message, f"Check it with: nbpipe datastores test {self.name}") from error


def _pieces(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece
