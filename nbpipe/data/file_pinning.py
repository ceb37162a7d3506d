"""The author's files and modules pinned to what they are now."""

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
from nbpipe.data.file_systems import remote_devices
from nbpipe.data.local_modules import find_modules
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
    "tree_digest",
]

_TICK = 2.0


class PersistentDigestCache:
    """Digests that outlive the process: trusted only while nothing about a file's status has changed.

    A file that was touched less than a tick of the file system before it was noted is not kept, for it could change
    again without its status telling; nor is one on a file system that other hosts change too: its status may be an old
    one.
    """

    def __init__(
        self,
        recall: Callable[[Sequence[str]], Mapping[str, CachedDigest]],
        remember: Callable[[Sequence[CachedDigest]], None],
        clock: Callable[[], float],
    ) -> None:
        self._ask = recall
        self._remember = remember
        self._clock = clock
        self._known: dict[str, CachedDigest | None] = {}
        self._new: dict[str, CachedDigest] = {}
        self._lock = threading.Lock()
        self._far = remote_devices()

    def prefetch(self, paths: Iterable[Path]) -> None:
        """Ask once for all of these files."""
        with self._lock:
            unknown = [name for name in map(str, paths) if name not in self._known]
            if unknown:
                self._known |= {**dict.fromkeys(unknown), **self._ask(unknown)}

    def recall(self, path: Path) -> str | None:
        """Return the digest that was noted for the file, if its status is the same in every part."""
        name = str(path)
        if name not in self._known:
            self.prefetch([path])
        with self._lock:
            known = self._known[name]
        if known is None or known.device in self._far:
            return None
        found = os.stat(name)  # noqa: PTH116  # half the time, and a plan asks about thousands of files
        now = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        then = (known.device, known.inode, known.size, known.mtime_ns, known.ctime_ns)
        return known.digest if now == then else None

    def note(self, path: Path, digest: str) -> None:
        """Keep a digest for the next process, unless the file is too young or too far away to be sure of it."""
        entry = _entry(path, digest)
        youngest = max(entry.mtime_ns, entry.ctime_ns) / 1e9
        if entry.device in self._far or youngest > self._clock() - _TICK:
            return
        with self._lock:
            self._known[entry.path] = self._new[entry.path] = entry

    def flush(self) -> None:
        """Hand over what was noted since the last time."""
        with self._lock:
            entries, self._new = list(self._new.values()), {}
        if entries:
            self._remember(entries)


def _entry(path: Path, digest: str) -> CachedDigest:
    found = path.stat()
    return CachedDigest(
        str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, digest
    )


def pin_files(pattern: str, base: Path, digests: DigestCache) -> PinnedFiles:
    """Return a file, folder or glob by content; ``pattern`` is relative to ``base``, and ``~`` is an ordinary name."""
    try:
        return _pin(pattern, base, digests)
    except OSError as error:
        raise FileMissing(
            f"`{pattern}` cannot be read: {error.strerror} ({error.filename})", "Check who may read it."
        ) from error


def missing_file_error(pattern: str, base: Path) -> FileMissing | None:
    """Return the error for a file or folder that is missing, without reading any; None for others and for globs."""
    whole = Path(os.path.normpath(base.absolute() / pattern))
    return None if glob.has_magic(pattern) or os.path.lexists(whole) else _missing(pattern, whole)


def _pin(pattern: str, base: Path, digests: DigestCache) -> PinnedFiles:
    # Dots are taken out of the text and links are left in: the step shall see the path that its author wrote.
    whole = Path(os.path.normpath(base.absolute() / pattern))
    if whole.is_dir():
        return _pin_folder(whole, digests)
    if os.path.lexists(whole):
        if pattern.endswith("/"):
            raise FileMissing(f"`{pattern}` is a file, not a folder", "Leave out the `/` at its end.")
        return _pin_file(whole, digests)
    if glob.has_magic(pattern):
        return _pin_glob(pattern, base, digests)
    raise _missing(pattern, whole)


def _pin_file(path: Path, digests: DigestCache) -> PinnedFiles:
    require_file(path)
    digest, size = remembered_digest(path, digests), path.stat().st_size
    return PinnedFiles(PinnedKind.FILE, (str(path),), digest, size, ((path.name, size, digest),))


def _pin_folder(path: Path, digests: DigestCache) -> PinnedFiles:
    members = folder_members(path, digests)
    return PinnedFiles(PinnedKind.DIR, (str(path),), tree_digest(members), _total(members), members)


def _pin_glob(pattern: str, base: Path, digests: DigestCache) -> PinnedFiles:
    root = Path(os.path.normpath(base.absolute() / _fixed_part(pattern)))
    found = [Path(os.path.normpath(base.absolute() / match)) for match in _matches(pattern, base, root)]
    wanted = sorted({path for path in found if path.is_dir() == pattern.endswith("/")}, key=str)
    if not wanted:
        message = "matches only folders" if found else "matches no file"
        hint = "End the pattern with `/` to mean folders." if found else ""
        raise _missing(pattern, root / "*", message=message, hint=hint)
    members = tuple(member for path in wanted for member in _members_below(path, root, digests))
    return PinnedFiles(PinnedKind.GLOB, tuple(map(str, wanted)), tree_digest(members), _total(members), members)


def _matches(pattern: str, base: Path, root: Path) -> list[str]:
    if "**" in pattern and root.is_dir():
        # A ring is found by looking first: glob itself would follow it for ages.
        refuse_rings(root)
    # Not Path.glob, which takes hidden files that a shell, and so an author, leaves out.
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


def _missing(pattern: str, whole: Path, message: str = "is not there", hint: str = "") -> FileMissing:
    folder = whole.parent
    if pattern.startswith("~"):
        hint = "`~` is not expanded: write the whole path."
    if not folder.is_dir():
        return FileMissing(f"`{pattern}` {message}: there is no folder `{folder}`", hint or _near(folder))
    return FileMissing(f"`{pattern}` {message}: looked in `{folder}`", hint or _near(whole))


def _near(path: Path) -> str:
    """Return the names beside ``path`` that are nearly its own, as advice."""
    if not path.parent.is_dir():
        return "Check the path."
    close = difflib.get_close_matches(path.name, sorted(each.name for each in path.parent.iterdir()), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else "Check the path."
