"""The folders above a notebook whose settings and workspace count: those that no stranger could have put there."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from nbpipe.permissions import group_bits, is_shared_with_us, owner_of


@dataclass(slots=True)
class UpwardSearch:
    """A search from a folder upward, which ends below the first folder that strangers own or everybody may write.

    The folder itself always counts, because its notebook is what is asked for. ``passed_over`` are sentences about what
    would have been taken if it were not a stranger's.
    """

    near: Path
    passed_over: list[str] = field(default_factory=list)

    def first(self, file: str, folder: str | None = None) -> Path | None:
        """Return the nearest folder that has this file or folder, as far as the search goes."""
        every = [self.near, *self.near.parents]
        end = next((number for number, above in enumerate(every) if _distrust(above)), len(every))
        # The notebook's own folder counts, whoever owns it; who owns what is in it is looked at in any case.
        for above in every[: max(end, 1)]:
            if any(self._is_taken(path) for path in _present(above, file, folder)):
                return above
        beyond = next((path for above in every[max(end, 1) :] for path in _present(above, file, folder)), None)
        if beyond is not None:
            self._note(beyond, f"{every[end]} {_distrust(every[end])}")
        return None

    def _is_taken(self, path: Path) -> bool:
        """Return whether a file or folder is no stranger's; a workspace beside the notebook is looked at later."""
        if path.is_dir() and path.parent == self.near:
            return True
        ours = all(status.st_uid in (0, os.geteuid()) for status in (path.lstat(), path.stat()))
        if ours or (group_bits(path.parent) and not _distrust(path.parent)):
            return True
        self._note(path, f"it belongs to {owner_of(path)}")
        return False

    def _note(self, path: Path, reason: str) -> None:
        sentence = f"{path} is not used: {reason}"
        if sentence not in self.passed_over:
            self.passed_over.append(sentence)


def _present(above: Path, file: str, folder: str | None) -> list[Path]:
    """Return which of the two a folder has."""
    return [
        *([above / file] if (above / file).is_file() else []),
        *([above / folder] if folder and (above / folder).is_dir() else []),
    ]


def _distrust(folder: Path) -> str:
    """Return why nothing from a folder or from above it is taken; empty if it is this user's, root's or a group's."""
    try:
        status = folder.stat()
    except OSError:
        return "cannot be looked into"
    if status.st_mode & stat.S_IWOTH:
        return "may be written by everybody"
    if status.st_uid not in (0, os.geteuid()) and not is_shared_with_us(status):
        return f"belongs to {owner_of(folder)}"
    return ""
