"""Resolves stored outputs to the local path of their bytes, and to their address for other programs.

Nothing else knows the locations of datastores, so a workspace may be moved, copied or mounted elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from nbpipe.data.digests import DigestCache
from nbpipe.errors import REPAIR, Refused, StoreOutOfReach
from nbpipe.model import Artifact, JobInput, ObjectReference
from nbpipe.model.datastores import StoredObject


class ArtifactStore(Protocol):
    """A store of outputs by digest; storing the same one again changes nothing.

    All methods raise ValueError for a reference that names no object, and StoreOutOfReach if the store cannot be used.
    """

    @property
    def name(self) -> str:
        """Return the name of its datastore."""

    def put(self, staged: Path, artifact: Artifact, like: ObjectReference | None = None, /) -> None:
        """Store a file or folder atomically; ``like`` is a stored folder that may have many of the same files."""

    def locate(self, artifact: Artifact) -> Path:
        """Return the local path that an output is read from, whether it is there or not."""

    def fetch(self, artifact: Artifact) -> Path:
        """Return the local path of an output, after it was copied to this machine if need be.

        Raise StoreOutOfReach for a copy that is not what was published. An output that is in place may be missing.
        """

    def find_damage(self, artifact: Artifact, digests: DigestCache, /) -> str | None:
        """Return what is wrong with an output; None if it is what was published."""

    def url(self, artifact: Artifact) -> str:
        """Return an output's address as fsspec reads it, whether it exists or not."""


@runtime_checkable
class DistantStore(Protocol):
    """A store that is asked about many outputs at once, and reports which objects it wrote."""

    def look_up(self, artifacts: Iterable[Artifact]) -> None:
        """Find out at once what is known of several outputs, for the checks that follow."""

    def doubt(self) -> None:
        """From now on read all bytes of what is checked, whatever the datastore vouches for."""

    def take_written(self) -> tuple[StoredObject, ...]:
        """Return the objects that were written to a datastore since the last call."""


def _no_others(name: str) -> ArtifactStore:
    raise KeyError(name)


@runtime_checkable
class SweptStore(Protocol):
    """A store from which objects that no output needs can be removed."""

    def keys_of(self, artifact: Artifact) -> set[str]:
        """Return the keys of the objects that an output consists of; raise StoreOutOfReach if they are unknown."""

    def stored(self) -> Iterator[tuple[str, int]]:
        """Yield the keys and sizes of all that nbpipe has stored; nothing else that lies there."""

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Return those keys whose objects are not there now."""

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that do not exist are passed over."""


class Materializer:
    """The stores of a workspace's outputs, by the names of their datastores.

    ``open_other`` opens those that are not given; it raises KeyError if there is none of a name.
    """

    def __init__(
        self, stores: Mapping[str, ArtifactStore], open_other: Callable[[str], ArtifactStore] = _no_others
    ) -> None:
        self._stores = dict(stores)
        self._open_other = open_other
        self._doubts = False

    def locate(self, artifact: Artifact) -> Path:
        """Return the local path that an output is read from, whether it is there or not.

        Raise StoreOutOfReach if its datastore is unknown, ValueError for a reference that names no object.
        """
        return self._store_of(artifact).locate(artifact)

    def fetch(self, artifact: Artifact) -> Path:
        """Return the local path of an output, copied to this machine if need be; one in place may be missing."""
        with _named(artifact.reference):
            return self._store_of(artifact).fetch(artifact)

    def path(self, artifact: Artifact) -> Path:
        """Return the local path of an output; raise StoreOutOfReach if it is missing or its datastore unknown."""
        path, reference = self.fetch(artifact), artifact.reference
        try:
            path.stat()
        except OSError as error:
            message = f"`{reference.basename}` ({reference.digest}) is no longer in the datastore `{reference.store}`"
            hint = "Run the step that makes it again."
            raise StoreOutOfReach(f"{message}: {path} ({error.strerror})", hint) from error
        return path

    def find_damage(self, artifact: Artifact, digests: DigestCache) -> str | None:
        """Return what is wrong with a stored output; None if its bytes are those that were published."""
        return self._store_of(artifact).find_damage(artifact, digests)

    def doubt(self) -> None:
        """From now on have all bytes read of outputs in datastores that are checked."""
        self._doubts = True
        for store in self._stores.values():
            if isinstance(store, DistantStore):
                store.doubt()

    def look_up(self, artifacts: Iterable[Artifact]) -> None:
        """Find out at once what is known of several outputs; what cannot be found out is told when it is checked."""
        by_store: dict[str, list[Artifact]] = {}
        for artifact in artifacts:
            by_store.setdefault(artifact.reference.store, []).append(artifact)
        for name, asked in by_store.items():
            with suppress(KeyError, StoreOutOfReach, Refused):
                store = self.store(name)
                if isinstance(store, DistantStore):
                    store.look_up(asked)

    def url(self, artifact: Artifact) -> str:
        """Return an output's address as fsspec reads it; raise StoreOutOfReach if its datastore is unknown."""
        store = self._store_of(artifact)
        with _named(artifact.reference):
            return store.url(artifact)

    def store(self, name: str) -> ArtifactStore:
        """Return a store by the name of its datastore; raise KeyError if there is none."""
        if name not in self._stores:
            store = self._stores[name] = self._open_other(name)
            if self._doubts and isinstance(store, DistantStore):
                store.doubt()
        return self._stores[name]

    def _store_of(self, artifact: Artifact) -> ArtifactStore:
        reference = artifact.reference
        try:
            return self.store(reference.store)
        except KeyError:
            names = ", ".join(f"`{name}`" for name in sorted(self._stores))
            message = (
                f"`{reference.basename}` is in the datastore `{reference.store}`, which this workspace does not know"
            )
            raise StoreOutOfReach(message, f"It knows: {names}.") from None


def with_paths(inputs: Iterable[JobInput], stores: Materializer) -> tuple[JobInput, ...]:
    """Return inputs with the paths of those that are stored outputs, which are copied to this machine if need be."""
    return tuple(
        each if each.artifact is None else replace(each, paths=(str(stores.fetch(each.artifact)),)) for each in inputs
    )


@contextmanager
def _named(reference: ObjectReference) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        message = f"a record names an object of the datastore `{reference.store}` as none is named: {error}"
        raise StoreOutOfReach(message, REPAIR) from error
