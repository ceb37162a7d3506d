"""What is said about an object of a datastore that is missing, in the way, changed or incomplete."""

from __future__ import annotations

from nbpipe.errors import ObjectChanged, ObjectExists, ObjectMissing, StoreOutOfReach


def named(store: str, key: str) -> str:
    """Return an object as authors write it."""
    return f"store:{store}/{key}"


def missing(store: str, key: str, version: str = "") -> ObjectMissing:
    """Return the error for an object, or a version of it, that does not exist."""
    gone = f"has no version {version}" if version else "does not exist"
    return ObjectMissing(f"`{named(store, key)}` {gone}", f"Look with: nbpipe datastores ls {store}")


def exists(store: str, key: str) -> ObjectExists:
    """Return the error for a new object where there is one."""
    return ObjectExists(f"`{named(store, key)}` exists already", "Choose another path, or have it replaced.")


def changed(store: str, key: str) -> ObjectChanged:
    """Return the error for an object that was replaced since it was read."""
    return ObjectChanged(f"`{named(store, key)}` is no longer the one that was read", "Read it again.")


def require_complete(store: str, key: str, count: int, size: int) -> None:
    """Raise StoreOutOfReach if not all bytes of an object were transferred."""
    if count != size:
        message = f"`{named(store, key)}` has {count} bytes and not {size}"
        raise StoreOutOfReach(message, "It may have been replaced meanwhile: try again.")
