"""The digest of an object in a datastore, computed while it is read, without a copy."""

from __future__ import annotations

from blake3 import blake3

from nbpipe.data.stores.object_store import ObjectStore


def stored_digest(store: ObjectStore, key: str) -> str:
    """Return the digest of an object's bytes; raise StoreOutOfReach if it cannot be read."""
    digest = blake3(max_threads=blake3.AUTO)
    for piece in store.stream(key):
        digest.update(piece)
    return f"blake3:{digest.hexdigest()}"
