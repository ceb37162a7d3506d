"""Permissions of what nbpipe makes: its owner's alone, and the group's where the folder above is shared with it.

Whatever the umask says, nobody else has any. It is shipped to steps' kernels and imports only the standard library.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

_FOLDER = stat.S_IRWXU
_FILE = stat.S_IRUSR | stat.S_IWUSR


def group_bits(folder: Path) -> int:
    """Return a folder's group permissions if it is shared: its group may write, or owns new files in it.

    A folder that everybody may write is not shared: it was not set up for a group.
    """
    return _group_bits(folder.stat().st_mode)


def _group_bits(mode: int) -> int:
    shared = mode & (stat.S_IWGRP | stat.S_ISGID) and not mode & (stat.S_ISVTX | stat.S_IWOTH)
    return mode & stat.S_IRWXG if shared else 0


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, for its owner and those with whom the folder above is shared."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(_FOLDER)
        protect(path, _FOLDER)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))


def open_private(path: Path, flags: int) -> int:
    """Return a descriptor of a file, which is created for its owner and those with whom its folder is shared."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, _FILE)
    if flags & os.O_EXCL or os.fstat(descriptor).st_size == 0:
        protect(path, _FILE)
    return descriptor


def protect(path: Path, mode: int) -> None:
    """Give a file or folder of ours its owner's mode, and the same to the group with which the folder above is shared.

    Nobody else gets any permission.
    """
    above, status = path.parent.stat(), path.stat()
    if status.st_uid != os.geteuid():
        return
    bits = _group_bits(above.st_mode)
    if bits and status.st_gid != above.st_gid:
        try:
            os.chown(path, -1, above.st_gid)
        except PermissionError:
            # A user outside of the group cannot share with it, and must not share with another one instead.
            bits = 0
    passed_on = above.st_mode & stat.S_ISGID if bits and stat.S_ISDIR(status.st_mode) else 0
    wanted = mode | (mode >> 3 & bits) | passed_on
    if stat.S_IMODE(path.stat().st_mode) != wanted:
        path.chmod(wanted)


def close_to_all(folder: Path) -> None:
    """Take from everybody but the owner and the group what they may do in a folder of ours."""
    status = folder.stat()
    if status.st_uid == os.geteuid() and status.st_mode & stat.S_IRWXO:
        folder.chmod(stat.S_IMODE(status.st_mode) & ~stat.S_IRWXO)


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
