"""Which file system a path lies on, as far as the database must know."""

from __future__ import annotations

from pathlib import Path

# Write-ahead logging needs memory shared by all who have the file open. File systems of several hosts do not give it,
# and a layered one may give two openers different files.
_WITHOUT_SHARED_MEMORY = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("ocfs2", "overlay", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
    )
)
_MOUNTS = Path("/proc/self/mountinfo")


def shares_memory(path: Path) -> bool:
    """Say whether write-ahead logging is safe for a database at ``path``; a system that lists no mounts is trusted."""
    try:
        listing = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return True
    kind = kind_of(path.resolve(), listing)
    return kind not in _WITHOUT_SHARED_MEMORY and not kind.startswith("fuse")


def kind_of(path: Path, listing: str) -> str:
    """Get the type of the file system that holds the absolute ``path``, read from the text of Linux's mountinfo."""
    best, kind = -1, ""
    for line in listing.splitlines():
        mounted, separator, described = line.partition(" - ")
        if not separator:
            continue
        point = Path(_unescaped(mounted.split(" ")[4]))
        # Of two mounts at one place the later one covers the earlier one.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), described.split(" ")[0]
    return kind


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point
