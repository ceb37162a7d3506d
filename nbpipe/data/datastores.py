"""Content-addressed datastores: an object is stored once, atomically, and never changes."""

from __future__ import annotations

import errno
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from nbpipe.data import private_directory
from nbpipe.data.atomic_file import draft_beside, flush, put_in_place, remove_tree
from nbpipe.data.digests import DigestCache, NoDigestCache
from nbpipe.data.integrity import find_damage
from nbpipe.data.object_keys import OBJECTS, key_below, key_parts
from nbpipe.errors import REPAIR, StoreOutOfReach
from nbpipe.model import DEFAULT_STORE, Artifact, ObjectReference
from nbpipe.permissions import make_folder, protect

DRAFT = ".draft-"
"""What the names of drafts begin with that are prepared beside the objects."""

_FAN = 2
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class LocalStore:
    """Objects in a folder: ``objects/<first 2 hex>/<hex>/<basename>``, a file or a folder of that name."""

    def __init__(self, root: Path, name: str = DEFAULT_STORE) -> None:
        self.name = name
        self._root = root.absolute()
        # Paths are built as text, because a plan checks thousands of objects.
        self._objects = str(self._root).rstrip("/") + f"/{OBJECTS}/"

    def put(self, staged: Path, artifact: Artifact, _like: ObjectReference | None = None, /) -> None:
        """Move a file or folder into the store; an existing equal object stays."""
        target, reference, folder = self.locate(artifact), artifact.reference, staged.is_dir()

        def is_there() -> bool:
            return find_damage(target, reference, folder=folder, digests=NoDigestCache()) is None

        with _reaching(f"the datastore `{self._root}`"):
            make_folder(target.parent)
            if is_there():
                return
            with draft_beside(target) as draft:
                _take(staged, draft)
                _make_read_only(draft)
                # The name must not become durable before the bytes.
                flush(draft)
                put_in_place(draft, target, durable=True, keep=is_there)

    def locate(self, artifact: Artifact) -> Path:
        """Return the object's path, whether it exists or not; raise StoreOutOfReach if a link leads to it."""
        below = key_below(artifact.reference)
        key = below.index("/", _FAN + 1)
        for part in (self._objects[:-1], *(self._objects + below[:end] for end in (_FAN, key, None))):
            # A plan checks thousands of objects, and pathlib would take several times as long.
            if os.path.islink(part):  # noqa: PTH114  # see above
                raise StoreOutOfReach(f"the datastore `{self._root}` is damaged: {part} is a link", REPAIR)
        return Path(self._objects + below)

    def fetch(self, artifact: Artifact) -> Path:
        """Return the output's path; it may be missing."""
        return self.locate(artifact)

    def find_damage(self, artifact: Artifact, digests: DigestCache, /) -> str | None:
        """Return what is wrong with an output; None if its bytes are those that were published."""
        path = self.locate(artifact)
        return find_damage(path, artifact.reference, folder=artifact.is_folder, digests=digests)

    def keys_of(self, artifact: Artifact) -> set[str]:
        """Return the one key of an output; of one whose record is invalid, none."""
        try:
            return {key_below(artifact.reference)}
        except ValueError:
            return set()

    def stored(self) -> Iterator[tuple[str, int]]:
        """Yield the keys and sizes of all objects, and of what a killed process has left beside them."""
        for path in Path(self._objects).glob("??/*/*"):
            if not path.parents[0].is_symlink() and not path.parents[1].is_symlink():
                yield path.relative_to(self._objects).as_posix(), _size(path)
        for path in self._root.glob(f"{DRAFT}*"):
            yield path.name, _size(path)

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Return those keys whose objects are not there now."""
        return {key for key in keys if not os.path.lexists(self._path(key))}

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects, and the folders that are empty without them."""
        for key in keys:
            path = self._path(key)
            with _reaching(f"the datastore `{self._root}`"):
                remove_tree(path)
                for folder in path.parents[:2] if path.parent != self._root else ():
                    with suppress(OSError):
                        folder.rmdir()

    def _path(self, key: str) -> Path:
        return self._root / key if key.startswith(DRAFT) else Path(self._objects, key)

    def url(self, artifact: Artifact) -> str:
        """Return the object's address. Nothing in it is quoted: fsspec takes what follows ``file://`` as the path."""
        return f"file://{self._objects}{key_below(artifact.reference)}"


def _size(path: Path) -> int:
    files = [path] if not path.is_dir() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.lstat().st_size for each in files)


class MemoryStore:
    """Objects in this process's memory, for tests and temporary data; readers get a temporary copy."""

    def __init__(self, name: str = DEFAULT_STORE) -> None:
        self.name = name
        self._objects: dict[tuple[str, str], dict[str, bytes] | bytes] = {}
        self._folder = private_directory.make(private_directory.MEMORY)
        weakref.finalize(self, private_directory.remove, self._folder)

    def put(self, staged: Path, artifact: Artifact, _like: ObjectReference | None = None, /) -> None:
        """Read a file or folder into the store; an existing equal object stays."""
        key = key_parts(artifact.reference)
        with _reaching("the datastore in memory"):
            content: dict[str, bytes] | bytes
            if staged.is_dir():
                content = {p.relative_to(staged).as_posix(): p.read_bytes() for p in staged.rglob("*") if p.is_file()}
            else:
                content = staged.read_bytes()
        self._objects.setdefault(key, content)

    def locate(self, artifact: Artifact) -> Path:
        """Return the path of a copy on disk that lives as long as the store; it is missing if nothing was stored."""
        key = key_parts(artifact.reference)
        shown = Path(self._folder, *key)
        if key in self._objects and not shown.exists():
            with _reaching("the temporary folder"):
                _show(self._objects[key], shown)
        return shown

    def fetch(self, artifact: Artifact) -> Path:
        """Return the output's path; it may be missing."""
        return self.locate(artifact)

    def find_damage(self, artifact: Artifact, digests: DigestCache, /) -> str | None:
        """Return what is wrong with an output; None if its bytes are those that were published."""
        path = self.locate(artifact)
        return find_damage(path, artifact.reference, folder=artifact.is_folder, digests=digests)

    def url(self, artifact: Artifact) -> str:
        """Return the object's address, whether it exists or not."""
        key, basename = key_parts(artifact.reference)
        return f"memory://{key}/{quote(basename)}"


def _show(stored: dict[str, bytes] | bytes, path: Path) -> None:
    files = {"": stored} if isinstance(stored, bytes) else stored
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(stored, bytes):
        path.mkdir()
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o400)


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreOutOfReach(f"there is no space left in {what}", "Free some space, then run again.") from error
        message = error.strerror or str(error)
        raise StoreOutOfReach(f"{what} cannot be written: {message}", "Check that it is there and writable.") from error


def _take(staged: Path, fresh: Path) -> None:
    """Move if possible, else copy: across devices, and for symbolic or hard links."""
    if _is_sole(staged):
        try:
            staged.rename(fresh)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return
    if staged.is_dir():
        shutil.copytree(staged, fresh, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(staged, fresh)


def _is_sole(staged: Path) -> bool:
    every = [staged, *staged.rglob("*")] if staged.is_dir() and not staged.is_symlink() else [staged]
    return not any(path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1) for path in every)


def _make_read_only(draft: Path) -> None:
    # From the top down, because each inherits from the folder above.
    for path in (draft, *(draft.rglob("*") if draft.is_dir() else ())):
        protect(path, 0o700 if path.is_dir() else 0o400)
