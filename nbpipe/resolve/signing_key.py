"""The secret key of this user, which marks what nbpipe has made for them; it lies outside of every workspace."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
from functools import lru_cache
from pathlib import Path

from nbpipe.data.atomic_file import create_file, draft_beside, put_in_place

_KEY = re.compile(rb"[0-9a-f]{64}\n")
_MACHINE = Path("/etc/machine-id")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def signing_key() -> bytes:
    """Return this user's key, made on first use.

    Where no file for it can be had, as without a home, it is derived from the machine and the user: such a key is the
    same in every process, but other users of the machine can work it out.
    """
    return _key_of(os.geteuid(), _data_folder())


@lru_cache(maxsize=8)
def _key_of(user: int, folder: Path) -> bytes:
    try:
        return _stored_key(folder / "nbpipe" / "key")
    except OSError:
        return _derived_key(user)


def _data_folder() -> Path:
    """Return the folder for this user's data, by the XDG specification: a relative path in its variable is ignored."""
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    return named if named.is_absolute() else Path(os.path.expanduser("~")) / ".local" / "share"  # noqa: PTH111


def _stored_key(path: Path) -> bytes:
    try:
        return _read_key(path)
    except (FileNotFoundError, ValueError) as error:
        _make_private(path.parent)
        with draft_beside(path) as draft:
            create_file(draft, secrets.token_hex(32).encode() + b"\n", mode=0o600, durable=True)
            if isinstance(error, ValueError):
                put_in_place(draft, path, durable=True)
            else:
                _link(draft, path)
    try:
        return _read_key(path)
    except ValueError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def _make_private(folder: Path) -> None:
    """Create a folder and its missing parents for this user alone: others could put their own in its place."""
    for each in reversed((folder, *folder.parents)):
        if not each.is_dir():
            each.mkdir(0o700, exist_ok=True)


def _link(draft: Path, path: Path) -> None:
    """Give a key its name, unless another process was first: all of them must use the same one."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:
        # Not every file system has hard links.
        put_in_place(draft, path, durable=True)


def _read_key(path: Path) -> bytes:
    """Return the key in a file of this user; raise PermissionError for a file of others, ValueError for no key."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            raise PermissionError(errno.EPERM, "not a file of this user", str(path))
        if status.st_mode & _OTHERS:
            os.fchmod(descriptor, 0o600)
        content = file.read(100)
    if not _KEY.fullmatch(content):
        raise ValueError(f"{path} holds no key")
    return bytes.fromhex(content.decode())


def _derived_key(user: int) -> bytes:
    try:
        machine = _MACHINE.read_bytes().strip()
    except OSError:
        machine = b""
    return hmac.digest(machine, f"nbpipe {user}".encode(), hashlib.sha256)
