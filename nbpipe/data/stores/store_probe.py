"""What a datastore can do, found out by doing it: some servers accept a condition and ignore it."""

from __future__ import annotations

import os
from contextlib import suppress

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.errors import ObjectChanged, ObjectExists, StoreOutOfReach
from nbpipe.model.datastores import StoreTraits

_FIRST, _SECOND, _THIRD = b"first", b"second", b"third"


def probe(store: ObjectStore) -> StoreTraits:
    """Return what a datastore does with a few small objects, which are deleted again.

    Raise StoreOutOfReach if it cannot be written.
    """
    key = f".nbpipe-probe-{os.urandom(8).hex()}"
    try:
        first = store.put_new(key, _FIRST)
        lists_at_once = any(info.key == key for info in store.list_folder().objects)
        creates = _refuses_second(store, key) and store.is_conditional
        current = store.find(key)
        swaps = store.is_conditional and current is not None and _refuses_stale(store, key, current.etag)
        keeps_versions = bool(first.version) and _has_version(store, key, first.version)
    finally:
        with suppress(StoreOutOfReach):
            store.delete([key])
    return StoreTraits(
        writes=True, creates=creates, swaps=swaps, lists_at_once=lists_at_once, keeps_versions=keeps_versions
    )


def _refuses_second(store: ObjectStore, key: str) -> bool:
    try:
        store.put_new(key, _SECOND)
    except ObjectExists:
        return store.read(key) == _FIRST
    return False


def _refuses_stale(store: ObjectStore, key: str, etag: str) -> bool:
    try:
        store.replace_if(key, _THIRD, etag)
        if store.read(key) != _THIRD:
            return False
        store.replace_if(key, _SECOND, etag)
    except ObjectChanged:
        return store.read(key) == _THIRD
    except StoreOutOfReach:
        return False
    return False


def _has_version(store: ObjectStore, key: str, version: str) -> bool:
    try:
        return store.read(key, version) == _FIRST
    except StoreOutOfReach:
        return False
