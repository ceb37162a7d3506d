"""Places for bytes, kept by content: an object is put once, whole or not at all, and never changes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from nbpipe.data.digests import Forgetful, content_digest
from nbpipe.errors import FileMissing, StoreOutOfReach
from nbpipe.history.sharing import make_folder

_DIGEST = re.compile(r"blake3:([0-9a-f]{64})")
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_MANY = 32


class LocalStore:
    """Objects in a folder: ``objects/<first 2 hex>/<hex>/<basename>``, a file or a folder of that name."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        # Paths and addresses are put together as texts: a plan asks about thousands of objects.
        self._objects = str(self._root).rstrip("/") + "/objects/"
        self._address = self._root.as_uri().rstrip("/") + "/objects/"

    def put(self, staged: Path, digest: str, basename: str) -> str:
        """Move a file or folder into the store and get its address; an equal object that is there already stays."""
        target = self._place(digest, basename)
        with _reaching(f"the datastore `{self._root}`"):
            make_folder(target.parent)
            if not _is_whole(target, digest):
                self._replace(staged, target, digest)
        return target.as_uri()

    def path(self, digest: str, basename: str) -> Path:
        """Get where the object lies; StoreOutOfReach when it is not there."""
        target = self._objects + _below(digest, basename)
        if not _is_there(target):
            raise StoreOutOfReach(f"`{basename}` ({digest}) is not in the datastore `{self._root}`")
        return Path(target)

    def exists(self, digest: str, basename: str) -> bool:
        """Say whether there is such an object."""
        return _is_there(self._objects + _below(digest, basename))

    def uri(self, digest: str, basename: str) -> str:
        """Get the object's address, whether it is there or not."""
        return self._address + quote(os.fsencode(_below(digest, basename)))

    def _place(self, digest: str, basename: str) -> Path:
        return Path(self._objects + _below(digest, basename))

    def _replace(self, staged: Path, target: Path, digest: str) -> None:
        """Bring the bytes beside the target under a name of their own, make them safe, then rename."""
        fresh = target.parent / f".{uuid.uuid4().hex}.partial"
        try:
            _take(staged, fresh)
            _make_safe(fresh)
            _swap(fresh, target, digest)
            _sync(target.parent)
        finally:
            _remove(fresh)


class MemoryStore:
    """Objects in this process's memory, for tests and for what need not last; a reader gets a temporary copy."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], dict[str, bytes] | bytes] = {}
        self._shown = tempfile.mkdtemp(prefix="nbpipe-memory-")
        weakref.finalize(self, shutil.rmtree, self._shown, ignore_errors=True)

    def put(self, staged: Path, digest: str, basename: str) -> str:
        """Read a file or folder into the store and get its address; an equal object that is there already stays."""
        key = (_hex(digest), _one_part(basename))
        with _reaching("the datastore in memory"):
            held: dict[str, bytes] | bytes
            if staged.is_dir():
                held = {p.relative_to(staged).as_posix(): p.read_bytes() for p in staged.rglob("*") if p.is_file()}
            else:
                held = staged.read_bytes()
        self._objects.setdefault(key, held)
        return self.uri(digest, basename)

    def path(self, digest: str, basename: str) -> Path:
        """Get a copy on disk that lives as long as the store; StoreOutOfReach when the object is not there."""
        key = (_hex(digest), _one_part(basename))
        if key not in self._objects:
            raise StoreOutOfReach(f"`{basename}` ({digest}) is not in the datastore in memory")
        shown = Path(self._shown, *key)
        if not shown.exists():
            with _reaching("the temporary folder"):
                _show(self._objects[key], shown)
        return shown

    def exists(self, digest: str, basename: str) -> bool:
        """Say whether there is such an object."""
        return (_hex(digest), _one_part(basename)) in self._objects

    def uri(self, digest: str, basename: str) -> str:
        """Get the object's address, whether it is there or not."""
        return f"memory://{_hex(digest)}/{quote(_one_part(basename))}"


def _show(held: dict[str, bytes] | bytes, path: Path) -> None:
    files = {"": held} if isinstance(held, bytes) else held
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(held, bytes):
        path.mkdir()
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o444)


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreOutOfReach(f"there is no space left in {what}", "Free some space, then run again.") from error
        said = error.strerror or str(error)
        raise StoreOutOfReach(f"{what} cannot be written: {said}", "Check that it is there and writable.") from error


def _hex(digest: str) -> str:
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise ValueError(f"not a digest: {digest!r}")
    return found.group(1)


def _is_there(path: str) -> bool:
    """Say what ``Path.exists`` says, in half the time: an object that cannot be looked at is not a missing one."""
    try:
        os.stat(path)  # noqa: PTH116  # see above
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return False
    return True


def _below(digest: str, basename: str) -> str:
    key = _hex(digest)
    return f"{key[:2]}/{key}/{_one_part(basename)}"


def _one_part(basename: str) -> str:
    if basename in ("", ".", "..") or "/" in basename or "\0" in basename:
        raise ValueError(f"not the name of a file: {basename!r}")
    return basename


def _is_whole(target: Path, digest: str) -> bool:
    """Say whether the object is there with the bytes that its name promises; a damaged one is put anew."""
    try:
        return target.exists() and content_digest(target, Forgetful())[0] == digest
    except (FileMissing, FileNotFoundError):
        # Somebody is replacing a damaged one at this moment.
        return False


def _take(staged: Path, fresh: Path) -> None:
    """Move where a move is the same bytes, else copy: other devices, links, and files that have a second name."""
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


def _make_safe(fresh: Path) -> None:
    """Make an object read-only and flush it, so that its name never outlives its bytes."""
    below = sorted(fresh.rglob("*")) if fresh.is_dir() else []
    every = [*below, fresh]
    for path in every:
        path.chmod(0o755 if path.is_dir() else 0o444)
    if len(every) > _MANY:
        # One flush of everything costs less than one for each of many small files.
        os.sync()
        return
    for path in every:
        _sync(path)


def _swap(fresh: Path, target: Path, digest: str) -> None:
    """Give the object its name; where somebody has put the same folder meanwhile, theirs is as good as ours."""
    if _renamed(fresh, target) or _is_whole(target, digest):
        return
    aside = target.parent / f".{uuid.uuid4().hex}.damaged"
    target.rename(aside)
    _remove(aside)
    _renamed(fresh, target)


def _renamed(fresh: Path, target: Path) -> bool:
    try:
        fresh.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
