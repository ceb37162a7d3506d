"""Permissions of files in shared folders: a folder that is shared with its group passes that on."""

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
    """Return a folder's group permissions if it is shared: its group may write, or owns new files in it.

    A folder that everybody may write, such as the one for temporary files, is not shared.
    """
    return _group_bits(folder.stat().st_mode)


def _group_bits(mode: int) -> int:
    shared = mode & (stat.S_IWGRP | stat.S_ISGID) and not mode & stat.S_ISVTX
    return mode & _GROUP if shared else 0


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Create a folder and its missing parents; each inherits the group permissions of its parent."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode)
        share(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))


def share(path: Path) -> None:
    """Give a file or folder of ours the group and the group permissions of the shared folder above."""
    bits, above, status = group_bits(path.parent), path.parent.stat(), path.stat()
    if not bits or status.st_uid != os.geteuid():
        return
    if status.st_gid != above.st_gid:
        try:
            os.chown(path, -1, above.st_gid)
        except PermissionError:
            # A user outside of the group cannot share with it, and must not share with another one instead.
            return
    own = stat.S_IMODE(status.st_mode)
    path.chmod(own | bits | (above.st_mode & stat.S_ISGID) if path.is_dir() else own | bits & _FILE_BITS)


def is_shared_with_us(status: os.stat_result) -> bool:
    """Return whether a folder's owner has set it up on purpose for a group that this user belongs to."""
    in_group = status.st_gid == os.getegid() or status.st_gid in os.getgroups()
    return in_group and bool(_group_bits(status.st_mode))


def owner_of(path: Path) -> str:
    """Return the name of a file's owner, or the user id if it has no name, as in a container."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def may(path: Path, mode: int) -> bool:
    """Return whether this process may access a file or folder in this mode."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def barred(path: Path) -> Path:
    """Return what blocks the access to a path: the outermost folder that this user may not enter, or the path."""
    for above in reversed(path.absolute().parents):
        if above.exists() and not may(above, os.X_OK):
            return above
    return path


def culprit(path: Path) -> Path:
    """Return the file or folder whose permissions decide: a parent that blocks access, else the path or its parent."""
    outer = barred(path)
    return outer if outer != path else next(one for one in (path, *path.absolute().parents) if one.exists())
