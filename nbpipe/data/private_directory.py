"""Temporary directories that nobody else can enter, named by their owner, and swept when that owner has died.

A folder for temporary files is everybody's: any user may put anything under any name there. What is not a directory of
this user, named by one of our purposes and a process, is therefore neither used nor removed.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from itertools import chain
from pathlib import Path

DASK = "nbpipe-dask-"
HERE = "nbpipe-here-"
MEMORY = "nbpipe-memory-"
# Short, because a socket's path must fit in 107 bytes; a kernel adds some 30 to its directory's.
_SOCKETS = "nbk"
_LONGEST_FOR_SOCKETS = 70
# Private copies of a database: nbpipe.history makes them, a floor below this one.
_DATABASE = "nbpipe-database-"
# Where they are made when there is no space elsewhere.
_IN_MEMORY = "/dev/shm"  # noqa: S108  # only looked into
_NAMED = re.compile(rf"(?:{DASK}|{_DATABASE}|{HERE}|{MEMORY}|{_SOCKETS})(\d{{1,10}})-\w+")


def temporary_root() -> str:
    """Return the folder for temporary files.

    Python looks for it once. When that one has been removed since, another is looked for.
    """
    if not Path(tempfile.gettempdir()).is_dir():
        tempfile.tempdir = None
    return tempfile.gettempdir()


def make(purpose: str) -> str:
    """Make a directory of this process that only this user can enter, and return its path."""
    return tempfile.mkdtemp(prefix=f"{purpose}{os.getpid()}-", dir=temporary_root())


def make_for_sockets() -> str:
    """Make a directory of this process whose path is short enough for a socket's, and return its path."""
    root = temporary_root()
    if len(os.fsencode(root)) > _LONGEST_FOR_SOCKETS:
        root = "/tmp"  # noqa: S108  # the directory made in it is private
    return tempfile.mkdtemp(prefix=f"{_SOCKETS}{os.getpid()}-", dir=root)


def shared(name: str) -> str:
    """Return a lasting directory that all processes of this user share, and nobody else can enter; make it if needed.

    Raise OSError if there is something else under its name, such as another user's.
    """
    path = Path(temporary_root(), f"{name}-{os.geteuid()}")
    path.mkdir(0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(errno.EACCES, "it is not a directory of this user alone", str(path))
    return str(path)


def remove(directory: str) -> None:
    """Remove a directory with all that is in it, as far as that is possible."""
    shutil.rmtree(directory, ignore_errors=True)


def sweep() -> None:
    """Remove the directories of those of this user's processes that died before they could do it themselves."""
    for entry in chain(*map(_entries, dict.fromkeys((temporary_root(), _IN_MEMORY)))):
        match = _NAMED.fullmatch(entry.name)
        if match and _is_own_directory(entry) and not _is_running(int(match[1])):
            remove(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _is_own_directory(entry: os.DirEntry[str]) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        # Another user's process has the number now.
        return False
    return True
