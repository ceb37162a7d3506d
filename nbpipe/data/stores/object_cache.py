"""Local copies of objects of datastores, by content: each is read from its datastore once, and checked.

A folder or a glob is shown as a folder of links to the copies, with the names that its files have in the datastore.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from nbpipe.data.atomic_file import draft_beside, put_in_place
from nbpipe.data.digests import Member, content_digest, file_digest, remembered_digest, short_digest
from nbpipe.errors import FileMissing, StoreOutOfReach
from nbpipe.permissions import make_folder

LIMIT = 20 << 30
"""The bytes above which copies are removed that have not been used for a day."""

_HOUR = 3600
_DAY = 24 * _HOUR
# Thousands of copies are not looked through for each step.
_TRIM_SECONDS = 300
_HEX = 64
_FAN = 2


class _Verified:
    """The digests of copies that this process has read, while their status is unchanged."""

    def __init__(self) -> None:
        self._digests: dict[Path, tuple[tuple[int, ...], str]] = {}

    def recall(self, path: Path) -> str | None:
        """Return the digest of a copy that has not been touched since it was read, else None."""
        status, digest = self._digests.get(path, ((), ""))
        return digest if status == _status(path) else None

    def note(self, path: Path, digest: str) -> None:
        """Store the copy's current digest."""
        self._digests[path] = (_status(path), digest)


def _status(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


_VERIFIED = _Verified()


@dataclass(frozen=True, slots=True)
class ObjectCache:
    """The copies in a folder of this user."""

    root: Path

    def path(self, digest: str, name: str) -> Path:
        """Return the path of the copy of an object, whether it exists or not."""
        key = short_digest(digest, _HEX)
        return self.root / "objects" / key[:_FAN] / key / name

    def holds(self, digest: str, name: str, size: int) -> bool:
        """Return whether there is a copy with these bytes: a step may have changed what it was given to read."""
        path = self.path(digest, name)
        try:
            return path.stat().st_size == size and remembered_digest(path, _VERIFIED) == digest
        except (OSError, FileMissing):
            return False

    def holds_folder(self, digest: str, name: str) -> bool:
        """Return whether there is a folder of copies with exactly these files."""
        path = self.folder_path(digest, name)
        try:
            return path.is_dir() and content_digest(path, _VERIFIED)[0] == digest
        except (OSError, FileMissing):
            return False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise StoreOutOfReach, with what to do, if the block cannot write copies."""
        try:
            yield
        except OSError as error:
            message = f"the copies of objects in {self.root} cannot be written: {error.strerror or error}"
            raise StoreOutOfReach(message, "Free some space there, or name another folder: XDG_CACHE_HOME.") from error

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield a path for a copy whose digest is not known yet; remove what is left there."""
        with self.writing():
            draft = self._draft_folder() / uuid4().hex
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _draft_folder(self) -> Path:
        folder = self.root / "drafts"
        make_folder(folder)
        return folder

    def keep(self, draft: Path, name: str) -> str:
        """Give a copy that was written to a draft its place, and return its digest."""
        digest = file_digest(draft)
        self._put(draft, digest, name)
        return digest

    def adopt(self, file: Path, digest: str, name: str) -> None:
        """Move a file with a known digest to its place as a copy."""
        if file.is_symlink() or file.stat().st_dev != self._draft_folder().stat().st_dev:
            draft = self._draft_folder() / uuid4().hex
            shutil.copyfile(file, draft)
            file.unlink()
            file = draft
        self._put(file, digest, name)

    def adopt_folder(self, folder: Path, digest: str, name: str, members: Iterable[Member]) -> None:
        """Move the files of a folder, whose digests are known, to their places as copies, and show them as a folder."""
        every = list(members)
        shown = self.folder_path(digest, name)
        make_folder(shown.parent)
        for path, _, member in every:
            self.adopt(folder / path, member, Path(path).name)
        self.folder(digest, name, every)

    def _put(self, draft: Path, digest: str, name: str) -> None:
        target = self.path(digest, name)
        make_folder(target.parent)
        draft.chmod(0o400)
        put_in_place(draft, target, durable=False)
        # It is trusted as long as nobody touches it.
        _VERIFIED.note(target, digest)

    def folder_path(self, digest: str, name: str) -> Path:
        """Return the path of a folder of copies, whether it exists or not."""
        return self.root / "folders" / short_digest(digest, _HEX) / name

    def folder(self, digest: str, name: str, members: Iterable[Member]) -> Path:
        """Return a folder of this name with the copies of its members, which must be there."""
        shown = self.folder_path(digest, name)
        if self.holds_folder(digest, name):
            os.utime(shown)
            return shown
        make_folder(shown.parent)
        with draft_beside(shown) as draft:
            draft.mkdir()
            for path, _, member in members:
                target = draft / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(self.path(member, target.name), target)
            put_in_place(draft, shown, durable=False, keep=lambda: self.holds_folder(digest, name))
        return shown

    def use(self, copies: Iterable[tuple[str, str]]) -> None:
        """Note that copies are used now, and trim them unless that was done a short while ago."""
        now = time.time()
        for digest, name in copies:
            with suppress(OSError):
                path = self.path(digest, name)
                # A touched copy is read again before it is used.
                if path.stat().st_mtime < now - _HOUR:
                    os.utime(path, (now, now))
        if not self._was_trimmed(now):
            self.trim()

    def trim(self, limit: int = LIMIT) -> None:
        """Remove the copies that were used longest ago, as long as all together are above the limit.

        A copy that was used within a day is never removed: a step may be reading it.
        """
        now = time.time()
        found = []
        for path in (self.root / "objects").glob("*/*/*"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            if total <= limit or used > now - _DAY:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._remove_old_folders(now)

    def _was_trimmed(self, now: float) -> bool:
        """Return whether the copies were looked through a short while ago; note that they are now, if not."""
        mark = self.root / "trimmed"
        with suppress(OSError):
            if 0 <= now - mark.stat().st_mtime < _TRIM_SECONDS:
                return True
        mark.touch()
        return False

    def _remove_old_folders(self, now: float) -> None:
        """Remove folders of links one of whose files has no copy any more: their bytes would stay."""
        for folder in (self.root / "folders").glob("*/*"):
            with suppress(OSError):
                links = [path for path in folder.rglob("*") if path.is_file()]
                if any(path.stat().st_nlink == 1 for path in links) and folder.stat().st_mtime < now - _DAY:
                    shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
