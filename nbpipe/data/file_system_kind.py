"""Properties of file systems by their kind, read from Linux's list of mounts."""

from __future__ import annotations

import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")

# File systems that several hosts, or a machine and its guests, change concurrently. Each host caches pages and
# attributes: no memory is shared between them, and a file's status may be stale.
_OF_SEVERAL_HOSTS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("ocfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
    )
)
# On a layered one two processes may open different files, so they do not share memory. But one kernel makes all
# changes, so a file's status is reliable: else containers, whose root is an overlay, would read all files for a plan.
_LAYERED = frozenset(("overlay",))
# A file system in user space that names its program (``fuse.sshfs``), or none (``fuse``), may lie anywhere. ``fuseblk``
# is a local disk: its status is reliable, but it may not support shared memory.
_LOCAL_FUSE = "fuseblk"


def shares_memory(path: Path) -> bool:
    """Return whether all who open a file at ``path`` share its mapped memory, as SQLite's write-ahead log needs it.

    A system without a list of mounts is trusted.
    """
    kind = kind_of(path.resolve(), _listing())
    return kind not in _OF_SEVERAL_HOSTS and kind not in _LAYERED and not kind.startswith("fuse")


def remote_devices() -> frozenset[int]:
    """Return the device numbers of the file systems on which a file's status may be stale."""
    devices = (_device(line) for line in _listing().splitlines() if _is_remote(_kind(line)))
    return frozenset(device for device in devices if device is not None)


def kind_of(path: Path, listing: str) -> str:
    """Return the kind of the file system that holds the absolute ``path``, read from the text of Linux's mountinfo."""
    best, kind = -1, ""
    for line in listing.splitlines():
        if not _kind(line):
            continue
        point = Path(_unescaped(line.split(" ")[4]))
        # Of two mounts at one path the later one hides the earlier one.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), _kind(line)
    return kind


def _is_remote(kind: str) -> bool:
    return kind in _OF_SEVERAL_HOSTS or (kind.startswith("fuse") and kind != _LOCAL_FUSE)


def _listing() -> str:
    try:
        return _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _kind(line: str) -> str:
    return line.partition(" - ")[2].partition(" ")[0]


def _device(line: str) -> int | None:
    major, _, minor = line.split(" ")[2].partition(":")
    return os.makedev(int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point
