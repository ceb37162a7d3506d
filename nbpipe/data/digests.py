"""Content as a digest: of bytes, of a file, of a folder, of a list of files.

Every digest is BLAKE3, written ``blake3:<hex>``; the keys of :mod:`nbpipe.planning.fingerprint` are as well. Names made
from a digest (of a step's folder, a cache's file, a text's row) are the beginning of the same digest's digits. The one
exception is said where it is made: what a step's kernel computes, which has the standard library alone.
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
_TRIES = 5
_TREE = b"nbpipe tree 1"


class DigestCache(Protocol):
    """What remembers the digests of files that were read before."""

    def recall(self, path: Path) -> str | None:
        """Return the digest of a file that is still the same, else None."""

    def note(self, path: Path, digest: str) -> None:
        """Keep the digest that the file has now."""


@runtime_checkable
class PrefetchingDigestCache(Protocol):
    """A memory that is asked faster for many files at once."""

    def prefetch(self, paths: Iterable[Path]) -> None:
        """Be ready for questions about these files."""


class NoDigestCache:
    """A memory that knows nothing: every file is read."""

    def recall(self, path: Path) -> str | None:
        """Return nothing."""

    def note(self, path: Path, digest: str) -> None:
        """Keep nothing."""


def bytes_digest(content: bytes) -> str:
    """Return the digest of bytes."""
    return f"blake3:{blake3(content).hexdigest()}"


def short_digest(digest: str, length: int) -> str:
    """Return the first hex digits of a digest, to make a name of."""
    return digest.removeprefix("blake3:")[:length]


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes; a file that changes while it is read is read again."""
    for _ in range(_TRIES):
        with path.open("rb", buffering=0) as file:
            before = _status(os.fstat(file.fileno()))
            digest = _read_digest(file.fileno())
            if before == _status(os.fstat(file.fileno())):
                return digest
    raise FileMissing(f"`{path}` keeps changing while it is read", "Wait until it is complete, or give a copy of it.")


def tree_digest(members: Iterable[Member]) -> str:
    """Return the digest of a folder or a list of files: of their relative paths, sizes and digests, in any order.

    Each part is written with its length, so that no two lists of members are written alike.
    """
    tree = blake3(_TREE)
    for path, size, digest in sorted(members, key=lambda member: member[0].encode("utf-8", "surrogateescape")):
        for part in (path.encode("utf-8", "surrogateescape"), str(size).encode(), digest.encode()):
            tree.update(len(part).to_bytes(8, "big") + part)
    return f"blake3:{tree.hexdigest()}"


def remembered_digest(path: Path, digests: DigestCache) -> str:
    """Return a file's digest, read only if it is not remembered."""
    known = digests.recall(path)
    if known is not None:
        return known
    digest = file_digest(path)
    digests.note(path, digest)
    return digest


def content_digest(path: Path, digests: DigestCache) -> tuple[str, int]:
    """Return digest and size of a file or of a whole folder."""
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
    """Return every file below a folder, links followed; refuses a link into its own parents and what is no file."""
    yield from _walk(folder, ())


def refuse_rings(folder: Path) -> None:
    """Raise FileMissing when a link below the folder leads back to a folder above it."""
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
    """Raise FileMissing unless the path is a file with bytes to read and a name that can be written down."""
    try:
        str(path).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        raise FileMissing(f"{str(path)!a} has a name that is not UTF-8", "Rename it.") from None
    except OSError as error:
        found = f"is a link to nothing ({path.readlink()})" if path.is_symlink() else f"is not there ({error.strerror})"
        raise FileMissing(f"`{path}` {found}", "Put the file there, or change the path.") from None
    if not stat.S_ISREG(mode):
        raise FileMissing(f"`{path}` is neither a file nor a folder", "Only files have content that can be kept.")


def _status(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read_digest(descriptor: int) -> str:
    # Read, not mapped: a mapped file that somebody cuts short kills the process that reads it.
    digest = blake3(max_threads=blake3.AUTO)
    block = bytearray(_BLOCK)
    view = memoryview(block)
    while read := os.readv(descriptor, [block]):
        digest.update(view[:read])
    return f"blake3:{digest.hexdigest()}"
