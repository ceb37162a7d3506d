"""Whether a workspace is this user's own, and why one is not used.

A workspace holds what steps and notebooks load: pickles, HTML, parsed notebooks. So one is used only if nbpipe made it
for this user, if this user has accepted it, or if its owner shares it with a group of theirs on purpose. The first two
are said by a mark in the workspace, which nobody can write without this user's key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shlex
import stat
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nbpipe.data.atomic_file import write_file
from nbpipe.errors import StoreOutOfReach
from nbpipe.permissions import close_to_all, is_shared_with_us, make_folder, owner_of
from nbpipe.resolve.git import is_tracked
from nbpipe.resolve.signing_key import signing_key

MARKS = "trusted"
# What is loaded from a workspace or believed of it; a folder with none of these is still to become one.
CONTENT = frozenset(
    {"history.db", "history.db-wal", "history.db-shm", "history.db-journal", "id", "readings", "runs", "store"}
)
_LONGEST_MARK = 300


class TrustObjection(StrEnum):
    """Why a workspace is not used; all but the last can be accepted."""

    UNMARKED = "unmarked"
    FOREIGN = "foreign"
    TRACKED = "tracked"
    OPEN_TO_ALL = "open"


_REASONS = {
    TrustObjection.UNMARKED: "it was not made by nbpipe for this user",
    TrustObjection.FOREIGN: "it belongs to {owner}",
    TrustObjection.TRACKED: "git tracks it, so it may hold what others have committed",
    TrustObjection.OPEN_TO_ALL: "everybody may write to it",
}


@dataclass(frozen=True, slots=True)
class _Mark:
    """A workspace's random id, and what its user has accepted of it."""

    id: str
    accepted: frozenset[str] = frozenset()

    def text(self) -> str:
        """Return the mark as the line in its file."""
        text = f"{self.id} {','.join(sorted(self.accepted)) or '-'}"
        return f"{text} {_mac(text)}\n"


def objections(root: Path) -> tuple[TrustObjection, ...]:
    """Return why a workspace is not to be used; nothing if it is trusted, or not there yet."""
    try:
        status = root.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError:
        return (TrustObjection.UNMARKED,)
    mark = _valid_mark(root)
    accepted = mark.accepted if mark else frozenset[str]()
    reasons: list[TrustObjection] = [] if not status.st_mode & stat.S_IWOTH else [TrustObjection.OPEN_TO_ALL]
    if status.st_uid != os.geteuid():
        if TrustObjection.FOREIGN not in accepted and not is_shared_with_us(status):
            reasons.append(TrustObjection.FOREIGN)
    elif mark is None and not _is_new(root):
        reasons.append(TrustObjection.UNMARKED)
    if TrustObjection.TRACKED not in accepted and is_tracked(root):
        reasons.append(TrustObjection.TRACKED)
    return tuple(reasons)


def is_trusted(root: Path) -> bool:
    """Return whether what a workspace holds may be loaded."""
    return not objections(root)


def is_marked(root: Path) -> bool:
    """Return whether a workspace has this user's mark."""
    return _valid_mark(root) is not None


def untrusted_words(root: Path, reasons: Collection[TrustObjection]) -> str:
    """Return in words that a workspace is not used, and why."""
    return f"the workspace {root} is not trusted: {reason_words(root, reasons)}"


def reason_words(root: Path, reasons: Collection[TrustObjection]) -> str:
    """Return objections in words; empty if there are none."""
    return ", and ".join(_REASONS[each].format(owner=owner_of(root)) for each in reasons)


def trust_hint(root: Path) -> str:
    """Return what to do about a workspace that is not trusted."""
    command = f"nbpipe trust --workspace {shlex.quote(str(root))}"
    return f"If you know where it is from, accept it: {command} (in a notebook: %nbpipe trust); otherwise remove it."


def mark_new(root: Path) -> None:
    """Mark a workspace that holds nothing yet as made for this user; any other one stays as it is."""
    if root.stat().st_uid == os.geteuid() and _is_new(root) and _valid_mark(root) is None:
        _write(root, _Mark(secrets.token_hex(16)))


def accept(root: Path) -> tuple[TrustObjection, ...]:
    """Mark a workspace as accepted by this user, whatever was to be said against it, and return that.

    Raise StoreOutOfReach if the mark cannot be written.
    """
    reasons = objections(root)
    before = _valid_mark(root) or _Mark(secrets.token_hex(16))
    try:
        close_to_all(root)
        _write(
            root,
            _Mark(before.id, before.accepted | set(reasons) - {TrustObjection.UNMARKED, TrustObjection.OPEN_TO_ALL}),
        )
    except OSError as error:
        message = f"the workspace {root} cannot be accepted: its mark cannot be written: {error.strerror}"
        raise StoreOutOfReach(message, "Check that there is space, and that you may write to the workspace.") from error
    return reasons


def _is_new(root: Path) -> bool:
    return CONTENT.isdisjoint(os.listdir(root))  # noqa: PTH208  # names are enough


def _valid_mark(root: Path) -> _Mark | None:
    """Return this user's mark in a workspace; None if there is none, or one that was not made with this user's key."""
    if not os.path.lexists(root / MARKS):
        # Without a question, no key is made for the user.
        return None
    try:
        descriptor = os.open(_mark_path(root), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            identifier, accepted, mac = file.read(_LONGEST_MARK).decode("ascii").split()
    except (OSError, ValueError):
        return None
    if not hmac.compare_digest(mac, _mac(f"{identifier} {accepted}")):
        return None
    return _Mark(identifier, frozenset(accepted.split(",")) - {"-"})


def _write(root: Path, mark: _Mark) -> None:
    path = _mark_path(root)
    if os.path.lexists(path.parent) and not stat.S_ISDIR(path.parent.lstat().st_mode):
        path.parent.unlink()
    make_folder(path.parent)
    write_file(path, mark.text().encode(), mode=0o600, durable=False)


def _mark_path(root: Path) -> Path:
    # Named by the key too: a user with two keys, such as in a container, can accept a workspace with each.
    return root / MARKS / f"{os.geteuid()}-{_mac('name')[:16]}"


def _mac(text: str) -> str:
    return hmac.new(signing_key(), f"nbpipe workspace {text}".encode(), hashlib.sha256).hexdigest()
