"""Local copies of objects of datastores, by content: each is read from its datastore once, and checked.

A folder or a glob is shown as a folder of links to the copies, with the names that its files have in the datastore.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nbpipe.data.atomic_file import draft_beside, put_in_place
from nbpipe.data.digests import Member, file_digest, short_digest
from nbpipe.permissions import make_folder

LIMIT = 20 << 30
"""The bytes above which copies are removed that have not been used for a day."""

_DAY = 24 * 3600
_HEX = 64
_FAN = 2


@dataclass(frozen=True, slots=True)
class ObjectCache:
    """The copies in a folder of this user."""

    root: Path

    def path(self, digest: str, name: str) -> Path:
        """Return the path of the copy of an object, whether it exists or not."""
        key = short_digest(digest, _HEX)
        return self.root / "objects" / key[:_FAN] / key / name

    def holds(self, digest: str, name: str, size: int) -> bool:
        """Return whether there is a copy of this size; copies are written once, and their bytes were checked then."""
        try:
            return self.path(digest, name).stat().st_size == size
        except OSError:
            return False

    def draft_folder(self) -> Path:
        """Return the folder in which copies are written before their digest is known."""
        folder = self.root / "drafts"
        make_folder(folder)
        return folder

    def keep(self, draft: Path, name: str) -> str:
        """Give a copy that was written to a draft its place, and return its digest."""
        digest = file_digest(draft)
        target = self.path(digest, name)
        make_folder(target.parent)
        draft.chmod(0o400)
        put_in_place(draft, target, durable=False)
        return digest

    def folder_path(self, digest: str, name: str) -> Path:
        """Return the path of a folder of copies, whether it exists or not."""
        return self.root / "folders" / short_digest(digest, _HEX) / name

    def folder(self, digest: str, name: str, members: Iterable[Member]) -> Path:
        """Return a folder of this name with the copies of its members, which must be there."""
        shown = self.folder_path(digest, name)
        if shown.is_dir():
            os.utime(shown)
            return shown
        make_folder(shown.parent)
        with draft_beside(shown) as draft:
            draft.mkdir()
            for path, _, member in members:
                target = draft / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(self.path(member, target.name), target)
            put_in_place(draft, shown, durable=False, keep=shown.is_dir)
        return shown

    def use(self, copies: Iterable[tuple[str, str]], limit: int = LIMIT) -> None:
        """Note that copies are used now; above the limit, remove those that were used longest ago.

        A copy that was used within a day is never removed: a step may be reading it.
        """
        now = time.time()
        for digest, name in copies:
            with suppress(OSError):
                os.utime(self.path(digest, name), (now, now))
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
