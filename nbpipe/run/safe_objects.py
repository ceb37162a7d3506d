"""Makes the objects of a finished attempt safe from a collection, before a record refers to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from nbpipe.data.materializer import Materializer, SweptStore
from nbpipe.errors import NbpipeError, StoreOutOfReach
from nbpipe.history.object_state import ObjectState
from nbpipe.history.store import History
from nbpipe.model import Artifact
from nbpipe.run.process_identity import is_alive

_PAUSE = 0.05


def find_lost(
    history: History, materializer: Materializer, clock: Callable[[], float], stored: Iterable[Artifact]
) -> str | None:
    """Return the name of one of these outputs that was deleted after it was found there; None if all are safe.

    They were stored by a run that goes on: until it ends, nothing is deleted that is condemned after this.
    """
    if not history.condemnation.is_any():
        return None
    for artifact in stored:
        store = materializer.store(artifact.reference.store)
        # What cannot be found out is no reason to rely on it.
        with suppress(StoreOutOfReach):
            if not isinstance(store, SweptStore) or not _lost_of(history, store, clock, artifact):
                continue
        return artifact.name
    return None


def is_gone(materializer: Materializer, output: Artifact) -> bool:
    """Return whether an output is missing from its datastore now; False if that cannot be found out."""
    with suppress(KeyError, NbpipeError):
        store = materializer.store(output.reference.store)
        return isinstance(store, SweptStore) and bool(store.missing(store.keys_of(output)))
    return False


def _lost_of(history: History, store: SweptStore, clock: Callable[[], float], artifact: Artifact) -> set[str]:
    """Return the objects of an output that are missing, after those that are being deleted now are."""
    name, keys = artifact.reference.store, store.keys_of(artifact)
    # What a process was about to delete that was killed, nobody deletes.
    while ObjectState.DELETING in history.condemnation.acquit(name, keys).values():
        if not history.claims.is_collecting(now=clock(), alive=is_alive):
            break
        time.sleep(_PAUSE)
    return store.missing(keys)
