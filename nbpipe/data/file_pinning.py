"""The author's files and modules, pinned to their current content."""

from __future__ import annotations

import difflib
import glob
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from nbpipe.data.digests import (
    DigestCache,
    Member,
    NoDigestCache,
    file_digest,
    folder_members,
    refuse_rings,
    remembered_digest,
    require_file,
    tree_digest,
)
from nbpipe.data.file_system_kind import remote_devices
from nbpipe.data.local_modules import find_modules, shadowed_modules
from nbpipe.errors import FileMissing
from nbpipe.history.digest_cache import CachedDigest
from nbpipe.model import PinnedFiles, PinnedKind

__all__ = [
    "DigestCache",
    "NoDigestCache",
    "PersistentDigestCache",
    "file_digest",
    "find_modules",
    "pin_files",
    "shadowed_modules",
    "tree_digest",
]

_TICK = 2.0


class PersistentDigestCache:
    """A persistent cache of digests: valid only while a file's status is unchanged.

    A file that was changed just before is not cached, because it could change again within the resolution of its
    timestamps; nor is one on a file system that other hosts change too, because its status may be stale.
    """

    def __init__(
        self,
        recall: Callable[[Sequence[str]], Mapping[str, CachedDigest]],
        remember: Callable[[Sequence[CachedDigest]], None],
        clock: Callable[[], float],
    ) -> None:
        self._recall = recall
        self._remember = remember
        self._clock = clock
        self._cached: dict[str, CachedDigest | None] = {}
        self._new: dict[str, CachedDigest] = {}
        self._lock = threading.Lock()
        self._remote = remote_devices()

    def prefetch(self, paths: Iterable[Path]) -> None:
        """Look up all of these files at once."""
        with self._lock:
            unknown = [name for name in map(str, paths) if name not in self._cached]
            if unknown:
                self._cached |= {**dict.fromkeys(unknown), **self._recall(unknown)}

    def recall(self, path: Path) -> str | None:
        """Return the cached digest of the file if its status is unchanged."""
        name = str(path)
        if name not in self._cached:
            self.prefetch([path])
        with self._lock:
            cached = self._cached[name]
        if cached is None or cached.device in self._remote:
            return None
        status = os.stat(name)  # noqa: PTH116  # half the time, and a plan asks about thousands of files
        now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        then = (cached.device, cached.inode, cached.size, cached.mtime_ns, cached.ctime_ns)
        return cached.digest if now == then else None

    def note(self, path: Path, digest: str) -> None:
        """Cache a digest for later processes, unless the file is too new or on a remote file system."""
        entry = _entry(path, digest)
        youngest = max(entry.mtime_ns, entry.ctime_ns) / 1e9
        if entry.device in self._remote or youngest > self._clock() - _TICK:
            return
        with self._lock:
            self._cached[entry.path] = self._new[entry.path] = entry

    def flush(self) -> None:
        """Store the digests noted since the last flush."""
        with self._lock:
            entries, self._new = list(self._new.values()), {}
        if entries:
            self._remember(entries)


def _entry(path: Path, digest: str) -> CachedDigest:
    status = path.stat()
    return CachedDigest(
        str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, digest
    )


def pin_files(pattern: str, base: Path, digests: DigestCache) -> PinnedFiles:
    """Pin a file, folder or glob by content; ``pattern`` is relative to ``base``, and ``~`` is not expanded."""
    try:
        return _pin(pattern, base, digests)
    except OSError as error:
        raise FileMissing(
            f"`{pattern}` cannot be read: {error.strerror} ({error.filename})", "Check who may read it."
        ) from error


def missing_file_error(pattern: str, base: Path) -> FileMissing | None:
    """Return the error for a missing file or folder, without reading any; None if it exists, and for globs."""
    path = Path(os.path.normpath(base.absolute() / pattern))
    return None if glob.has_magic(pattern) or os.path.lexists(path) else _missing(pattern, path)


def _pin(pattern: str, base: Path, digests: DigestCache) -> PinnedFiles:
    # Normalise dots but keep links: the step should see the path that its author wrote.
    path = Path(os.path.normpath(base.absolute() / pattern))
    if path.is_dir():
        return _pin_folder(path, digests)
    if os.path.lexists(path):
        if pattern.endswith("/"):
            raise FileMissing(f"`{pattern}` is a file, not a folder", "Leave out the `/` at its end.")
        return _pin_file(path, digests)
    if glob.has_magic(pattern):
        return _pin_glob(pattern, base, digests)
    raise _missing(pattern, path)


def _pin_file(path: Path, digests: DigestCache) -> PinnedFiles:
    require_file(path)
    digest, size = remembered_digest(path, digests), path.stat().st_size
    return PinnedFiles(PinnedKind.FILE, (str(path),), digest, size, ((path.name, size, digest),))


def _pin_folder(path: Path, digests: DigestCache) -> PinnedFiles:
    members = folder_members(path, digests)
    return PinnedFiles(PinnedKind.DIR, (str(path),), tree_digest(members), _total(members), members)


def _pin_glob(pattern: str, base: Path, digests: DigestCache) -> PinnedFiles:
    root = glob_root(pattern, base)
    matches = [Path(os.path.normpath(base.absolute() / match)) for match in _matches(pattern, base, root)]
    paths = sorted({each for each in matches if each.is_dir() == pattern.endswith("/")}, key=str)
    if not paths:
        message = "matches only folders" if matches else "matches no file"
        hint = "End the pattern with `/` to mean folders." if matches else ""
        raise _missing(pattern, root / "*", message=message, hint=hint)
    members = tuple(member for each in paths for member in _members_below(each, root, digests))
    return PinnedFiles(PinnedKind.GLOB, tuple(map(str, paths)), tree_digest(members), _total(members), members)


def glob_root(pattern: str, base: Path) -> Path:
    """Return the folder that the paths of a glob's members are relative to."""
    return Path(os.path.normpath(base.absolute() / _fixed_part(pattern)))


def _matches(pattern: str, base: Path, root: Path) -> list[str]:
    if "**" in pattern and root.is_dir():
        # Check for link loops first: glob itself would follow them for very long.
        refuse_rings(root)
    # Not Path.glob, which includes hidden files, unlike a shell.
    return glob.glob(pattern, root_dir=base.absolute(), recursive=True)  # noqa: PTH207  # see above


def _members_below(path: Path, root: Path, digests: DigestCache) -> tuple[Member, ...]:
    name = os.path.relpath(path, root)
    if path.is_dir():
        return tuple((f"{name}/{below}", size, digest) for below, size, digest in folder_members(path, digests))
    require_file(path)
    digest = remembered_digest(path, digests)
    return ((name, path.stat().st_size, digest),)


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    magic = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:magic]) or ("/" if pattern.startswith("/") else ".")


def _total(members: tuple[Member, ...]) -> int:
    return sum(size for _, size, _ in members)


def _missing(pattern: str, path: Path, message: str = "is not there", hint: str = "") -> FileMissing:
    folder = path.parent
    if pattern.startswith("~"):
        hint = "`~` is not expanded: write the whole path."
    if not folder.is_dir():
        return FileMissing(f"`{pattern}` {message}: there is no folder `{folder}`", hint or _near(folder))
    return FileMissing(f"`{pattern}` {message}: looked in `{folder}`", hint or _near(path))


def _near(path: Path) -> str:
    """Return a hint with similar names in the folder of ``path``."""
    if not path.parent.is_dir():
        return "Check the path."
    close = difflib.get_close_matches(path.name, sorted(each.name for each in path.parent.iterdir()), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else "Check the path."
