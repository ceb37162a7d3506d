"""Atomic writes of files: a draft beside the target takes its name in one step.

This is the only module that does so. It is shipped to steps' kernels and imports only the standard library and what is
shipped as well.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nbpipe.permissions import open_private

# A rename does not replace a folder that is not empty, nor a file by a folder or vice versa.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_DRAFT = re.compile(r"\.[0-9a-f]{32}\.partial")
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MANY = 32


def write_file(path: Path, content: bytes, *, mode: int | None = None, durable: bool) -> None:
    """Write a file so that every reader sees either all of it or the previous content.

    Without a ``mode`` it is its owner's, and the group's with which its folder is shared. A ``durable`` file survives a
    power cut after the return; any other may be lost.
    """
    with draft_beside(path) as draft:
        create_file(draft, content, mode=mode, durable=durable)
        put_in_place(draft, path, durable=durable)


def create_file(path: Path, content: bytes, *, mode: int | None = None, durable: bool) -> None:
    """Write a new file; raise FileExistsError if it exists."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(open_private(path, flags) if mode is None else os.open(path, flags, mode), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def draft_beside(target: Path) -> Iterator[Path]:
    """Yield a path for a draft on the target's file system; remove the draft if it was not put in place."""
    draft = _beside(target)
    try:
        yield draft
    finally:
        _remove(draft)


def put_in_place(draft: Path, target: Path, *, durable: bool, keep: Callable[[], bool] = lambda: False) -> None:
    """Rename a draft, a file or a folder, to the target's name.

    An existing folder is moved aside first, because no system call replaces it in one step, unless ``keep`` says that
    it should stay because somebody else has put the same there.
    """
    if _renamed(draft, target):
        if durable:
            _flush_one(target.parent)
    elif not keep():
        _swap(draft, target, keep)
        if durable:
            _flush_one(target.parent)


def put_new_in_place(draft: Path, target: Path, *, durable: bool) -> None:
    """Give a draft, a file, the target's name; raise FileExistsError if that is taken.

    On a file system without hard links, another process that does the same at the same time may replace it.
    """
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        draft.replace(target)
    if durable:
        _flush_one(target.parent)


def flush(path: Path) -> None:
    """Flush a file, or a folder with everything below it, to the disk."""
    below = sorted(path.rglob("*")) if path.is_dir() else []
    if len(below) > _MANY:
        # One sync costs less than one flush for each of many small files.
        os.sync()
        return
    for each in (*below, path):
        _flush_one(each)


def is_draft(name: str) -> bool:
    """Return whether a file's name is that of a draft, which a process that was killed may have left."""
    return _DRAFT.fullmatch(name) is not None


def _beside(target: Path) -> Path:
    # Not derived from the target's name, which may have the maximum length.
    return target.parent / f".{os.urandom(16).hex()}.partial"


def _renamed(draft: Path, target: Path) -> bool:
    try:
        draft.replace(target)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        return False
    return True


def _swap(draft: Path, target: Path, keep: Callable[[], bool]) -> None:
    aside = _beside(target)
    # It is missing if another process swaps concurrently.
    with suppress(FileNotFoundError):
        target.rename(aside)
    try:
        if not _renamed(draft, target) and not keep():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    except OSError:
        with suppress(OSError):
            aside.rename(target)
        raise
    finally:
        _remove(aside)


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder, in which all may be read-only; what does not exist is passed over."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            with suppress(OSError):
                Path(folder).chmod(0o700)
    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
