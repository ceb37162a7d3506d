"""The interface to a datastore's objects, and what all kinds of datastores share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from nbpipe.errors import BadUsage
from nbpipe.model.datastores import FolderListing, ObjectInfo

Progress = Callable[[int], None]
"""Is called with the number of bytes that were transferred since the last call."""


def no_progress(_count: int) -> None:
    """Ignore how far a transfer is."""


class ObjectStore(Protocol):
    """Objects by key; a key is a path relative to the datastore's root, with ``/`` between its parts.

    All methods raise StoreOutOfReach, with the datastore and the key named, if the datastore cannot be used; those with
    a key raise BadUsage if it leads out of the root.
    """

    @property
    def name(self) -> str:
        """Return the datastore's name."""

    @property
    def is_conditional(self) -> bool:
        """Return whether the store itself decides on conditional writes; else another writer may come in between."""

    @property
    def can_list(self) -> bool:
        """Return whether the store tells which objects it has; else only those that are named can be read."""

    def url(self, key: str) -> str:
        """Return the address of an object, whether it exists or not."""

    def require_reachable(self) -> None:
        """Raise StoreOutOfReach if the store cannot be reached, or refuses the credentials."""

    def put_new(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write a new object, from a file or bytes; raise ObjectExists if there is one.

        Readers see all of it or nothing.
        """

    def put(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write an object, from a file or bytes, or replace it; readers see all of the new one or the previous one."""

    def replace_if(self, key: str, content: bytes, etag: str) -> ObjectInfo:
        """Replace an object if it still has this ETag; raise ObjectChanged if not."""

    def read(self, key: str, version: str = "") -> bytes:
        """Return an object's content, or that of a version of it; raise ObjectMissing if it does not exist."""

    def download(self, key: str, target: Path, version: str = "", progress: Progress = no_progress) -> ObjectInfo:
        """Write an object's content to a new file at ``target``; raise ObjectMissing if it does not exist."""

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """Yield an object's content in pieces; raise ObjectMissing if it does not exist."""

    def find(self, key: str) -> ObjectInfo | None:
        """Return what the store says about an object; None if it does not exist."""

    def find_many(self, keys: Iterable[str]) -> list[ObjectInfo | None]:
        """Return what the store says about several objects, in their order."""

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects below a folder, sorted by key."""

    def list_folder(self, folder: str = "") -> FolderListing:
        """Return what is right below a folder; it is empty if the folder does not exist."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are passed over."""

    def copy(self, key: str, target: str) -> ObjectInfo:
        """Copy an object within the store, without transferring it; raise ObjectMissing if it does not exist."""

    def sign(self, key: str, seconds: int) -> str:
        """Return an address from which anyone can read an object for some time; raise BadUsage if there is none."""

    def close(self) -> None:
        """End its connections."""


def checked_key(store: str, key: str) -> str:
    """Return a key without a trailing slash; raise BadUsage if it is empty, leads out of the root or is no path."""
    parts = key.rstrip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        hint = "Write a path below the datastore's root, for example: store:lake/raw/data.csv"
        raise BadUsage(f"`store:{store}/{key}` is not the path of an object", hint)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in key) or not _encodes(key):
        raise BadUsage(f"{f'store:{store}/{key}'!r} has characters that no path may have")
    return "/".join(parts)


def checked_folder(store: str, folder: str) -> str:
    """Return the key of a folder; empty for the root."""
    return checked_key(store, folder) if folder.strip("/") else ""


def _encodes(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
