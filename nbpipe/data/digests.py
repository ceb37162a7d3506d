"""Digests of content: of bytes, of a file, of a folder, of a list of files.

Every digest is BLAKE3, written ``blake3:<hex>``, as are the keys of :mod:`nbpipe.planning.fingerprint`. Names derived
from a digest (of a step's folder, a cache file, a stored text) are the first digits of it. The one exception, noted in
the code, is what a step's kernel computes, which has only the standard library.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from blake3 import blake3

from nbpipe.errors import FileMissing

Member = tuple[str, int, str]
_Identity = tuple[int, int]

_BLOCK = 4 << 20
_SMALL_BLOCK = 64 << 10
_TRIES = 5
_TREE = b"nbpipe tree 1"


class DigestCache(Protocol):
    """A cache of the digests of files."""

    def recall(self, path: Path) -> str | None:
        """Return the cached digest of a file if it is unchanged, else None."""

    def note(self, path: Path, digest: str) -> None:
        """Store the file's current digest."""


@runtime_checkable
class PrefetchingDigestCache(Protocol):
    """A cache that looks up many files at once faster."""

    def prefetch(self, paths: Iterable[Path]) -> None:
        """Load the cached digests of these files."""


class NoDigestCache:
    """No cache: every file is read."""

    def recall(self, path: Path) -> str | None:
        """Return None."""

    def note(self, path: Path, digest: str) -> None:
        """Do nothing."""


def bytes_digest(content: bytes) -> str:
    """Return the digest of bytes."""
    return f"blake3:{blake3(content).hexdigest()}"


def short_digest(digest: str, length: int) -> str:
    """Return the first hex digits of a digest, for use in names."""
    return digest.removeprefix("blake3:")[:length]


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes; a file that changes while it is read is read again."""
    for _ in range(_TRIES):
        with path.open("rb", buffering=0) as file:
            before = _status(os.fstat(file.fileno()))
            digest = _read_digest(file.fileno(), before[0])
            if before == _status(os.fstat(file.fileno())):
                return digest
    raise FileMissing(f"`{path}` keeps changing while it is read", "Wait until it is complete, or give a copy of it.")


def tree_digest(members: Iterable[Member]) -> str:
    """Return the digest of a folder or a list of files: of their relative paths, sizes and digests, in any order.

    Each part is prefixed with its length, so that different lists of members have different encodings.
    """
    tree = blake3(_TREE)
    for path, size, digest in sorted(members, key=lambda member: member[0].encode("utf-8", "surrogateescape")):
        for part in (path.encode("utf-8", "surrogateescape"), str(size).encode(), digest.encode()):
            tree.update(len(part).to_bytes(8, "big") + part)
    return f"blake3:{tree.hexdigest()}"


def remembered_digest(path: Path, digests: DigestCache) -> str:
    """Return a file's digest, from the cache if possible."""
    cached = digests.recall(path)
    if cached is not None:
        return cached
    digest = file_digest(path)
    digests.note(path, digest)
    return digest


def content_digest(path: Path, digests: DigestCache) -> tuple[str, int]:
    """Return the digest and size of a file or folder."""
    if not os.path.isdir(path):  # noqa: PTH112  # half the time, and a plan asks about thousands of files
        return remembered_digest(path, digests), os.stat(path).st_size  # noqa: PTH116  # as above
    members = folder_members(path, digests)
    return tree_digest(members), sum(size for _, size, _ in members)


def folder_members(folder: Path, digests: DigestCache) -> tuple[Member, ...]:
    """Return all files below a folder, links followed, as sorted (relative path, size, digest)."""
    files = sorted(walk(folder), key=lambda path: path.relative_to(folder).as_posix())
    if isinstance(digests, PrefetchingDigestCache):
        digests.prefetch(files)
    return tuple(
        (path.relative_to(folder).as_posix(), path.stat().st_size, remembered_digest(path, digests)) for path in files
    )


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, following links; raise FileMissing for link loops and special files."""
    yield from _walk(folder, ())


def refuse_rings(folder: Path) -> None:
    """Raise FileMissing if a link below the folder leads back to a folder above it."""
    _refuse_rings(folder, ())


def _refuse_rings(folder: Path, above: tuple[_Identity, ...]) -> None:
    here = _identity(folder, above)
    with os.scandir(folder) as entries:
        below = [folder / entry.name for entry in entries if entry.is_dir()]
    for path in below:
        _refuse_rings(path, (*above, here))


def _walk(folder: Path, above: tuple[_Identity, ...]) -> Iterator[Path]:
    here = _identity(folder, above)
    with os.scandir(folder) as entries:
        below = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in below:
        if is_folder:
            yield from _walk(folder / name, (*above, here))
        else:
            require_file(folder / name)
            yield folder / name


def _identity(folder: Path, above: tuple[_Identity, ...]) -> _Identity:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise FileMissing(f"`{folder}` is a link that leads back to a folder above it", "Remove the link.")
    return here


def require_file(path: Path) -> None:
    """Raise FileMissing unless the path is a regular file with a name in UTF-8."""
    try:
        str(path).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        raise FileMissing(f"{str(path)!a} has a name that is not UTF-8", "Rename it.") from None
    except OSError as error:
        problem = (
            f"is a link to nothing ({path.readlink()})" if path.is_symlink() else f"is not there ({error.strerror})"
        )
        raise FileMissing(f"`{path}` {problem}", "Put the file there, or change the path.") from None
    if not stat.S_ISREG(mode):
        raise FileMissing(f"`{path}` is neither a file nor a folder", "Only files have content that can be kept.")


def _status(result: os.stat_result) -> tuple[int, int, int]:
    return result.st_size, result.st_mtime_ns, result.st_ctime_ns


def _read_digest(descriptor: int, size: int) -> str:
    # Read, not mapped: truncating a mapped file would kill the process that reads it.
    digest = blake3(max_threads=blake3.AUTO)
    # Most files are small, and clearing a large block for each of them would take longer than reading them.
    block = bytearray(min(max(size, _SMALL_BLOCK), _BLOCK))
    view = memoryview(block)
    while read := os.readv(descriptor, [block]):
        digest.update(view[:read])
    return f"blake3:{digest.hexdigest()}"
