"""Who else may use what is made in a folder: a folder that its group shares passes that on."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

_GROUP = stat.S_IRWXG
_FILE_BITS = stat.S_IRGRP | stat.S_IWGRP


def group_bits(folder: Path) -> int:
    """Return what a folder lets its group do, if it is shared by it: the group may write, or owns what is made there.

    A folder where everybody may write, as the one for temporary files, is nobody's.
    """
    mode = folder.stat().st_mode
    shared = mode & (stat.S_IWGRP | stat.S_ISGID) and not mode & stat.S_ISVTX
    return mode & _GROUP if shared else 0


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, as far as they are not there; each passes on what its group may do."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode)
        share(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))


def share(path: Path) -> None:
    """Let the group use a file or folder of ours as the shared folder above says."""
    bits, above, found = group_bits(path.parent), path.parent.stat(), path.stat()
    if not bits or found.st_uid != os.geteuid():
        return
    if found.st_gid != above.st_gid:
        try:
            os.chown(path, -1, above.st_gid)
        except PermissionError:
            # Whoever is not of the group cannot give to it, and must not give to another one instead.
            return
    own = stat.S_IMODE(found.st_mode)
    path.chmod(own | bits | (above.st_mode & stat.S_ISGID) if path.is_dir() else own | bits & _FILE_BITS)


def owner_of(path: Path) -> str:
    """Return the name of a file's owner; a container may know none for the owner's number."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def may(path: Path, mode: int) -> bool:
    """Say whether this process may read or write a file or folder."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def barred(path: Path) -> Path:
    """Return what keeps this process from a path: the outermost folder that it may not enter, or the path itself."""
    for above in reversed(path.absolute().parents):
        if above.exists() and not may(above, os.X_OK):
            return above
    return path


def culprit(path: Path) -> Path:
    """Return the file or folder whose permissions decide about a path: one above that is closed, or what is there."""
    outer = barred(path)
    return outer if outer != path else next(one for one in (path, *path.absolute().parents) if one.exists())
