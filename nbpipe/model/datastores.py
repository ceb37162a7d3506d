"""Datastores, as they are configured, and the objects in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class CredentialSource(StrEnum):
    """Where a credential is read from when a datastore is used."""

    ENV = "env"
    FILE = "file"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class CredentialReference:
    """A credential by reference: an environment variable, a file, or ``SERVICE/USER`` in the keyring."""

    source: CredentialSource
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"


@dataclass(frozen=True, slots=True)
class DatastoreConfiguration:
    """A datastore as configured; it is never written to unless it is ``writable``.

    ``uses_profile``: the cloud's own chain finds the credentials. Without that and without ``credentials``, access is
    anonymous.
    """

    name: str
    url: str
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    credentials: Mapping[str, CredentialReference] = field(default_factory=dict)
    uses_profile: bool = False
    writable: bool = True

    @property
    def address(self) -> str:
        """Return what identifies the datastore: two names for one place have the same address."""
        endpoint = self.options.get("endpoint", "")
        return f"{endpoint} {self.url}".strip()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a datastore: its key, its size in bytes, and what the store says about its content.

    ``etag`` changes with the content, but equal content may have different ones. ``version`` identifies the content for
    good, in stores that keep versions. ``modified`` is in seconds since the epoch. ``is_recent``: it was modified so
    recently that one more change would not show in the ETag.
    """

    key: str
    size: int
    etag: str = ""
    version: str = ""
    modified: float = 0.0
    is_recent: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that nbpipe wrote to a datastore: what the store says about it, and the digest of its bytes."""

    store: str
    info: ObjectInfo
    digest: str


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """What opens a datastore on another machine; ``credentials`` are values, which are never written to disk."""

    configuration: DatastoreConfiguration
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The folders and the objects right below a folder of a datastore, sorted by name."""

    folders: tuple[str, ...]
    objects: tuple[ObjectInfo, ...]


@dataclass(frozen=True, slots=True)
class StoreTraits:
    """What a datastore has been seen to do; ``writes`` is false where that could not be tried.

    ``creates``: of several writers of a new key only the first succeeds. ``swaps``: an object is replaced only if it is
    still the one that was read. ``lists_at_once``: a listing has what was just written. ``keeps_versions``: the content
    of an overwritten object can still be read.
    """

    writes: bool = False
    creates: bool = False
    swaps: bool = False
    lists_at_once: bool = False
    keeps_versions: bool = False
