"""Whether a stored object is what was published: one check for storing, reuse, verification and copying."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from nbpipe.data.digests import DigestCache, content_digest, file_digest, remembered_digest
from nbpipe.errors import FileMissing, StoreOutOfReach
from nbpipe.model import ObjectReference

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)


def find_damage(path: Path, reference: ObjectReference, *, folder: bool, digests: DigestCache) -> str | None:
    """Return what is wrong with the object at a path, its kind, size or bytes; None if it is intact.

    Raise StoreOutOfReach if it cannot be read, which says nothing about the object.
    """
    try:
        return _compare(path, reference, folder=folder, digests=digests)
    except FileMissing as error:
        return f"is damaged in its datastore: {error.message}"
    except OSError as error:
        if error.errno in _ABSENT:
            return "is no longer in its datastore"
        message = f"`{reference.basename}` cannot be read in its datastore: {error.strerror or error} ({path})"
        raise StoreOutOfReach(message, "Check who may read it.") from error


def _compare(path: Path, reference: ObjectReference, *, folder: bool, digests: DigestCache) -> str | None:
    # A plan checks thousands of objects, and pathlib would take twice the time. A link may lead anywhere: nothing of
    # ours is one.
    status = os.lstat(path)
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        return f"is damaged in its datastore: it is not a {'folder' if folder else 'file'}"
    size = status.st_size
    digest = ""
    if folder:
        digest, size = content_digest(path, digests)
    if size != reference.bytes:
        return f"has {size} bytes in its datastore, not the {reference.bytes} that were published"
    digest = digest or remembered_digest(path, digests)
    if digest != reference.digest and not folder:
        # What is remembered may itself be damaged.
        digest = file_digest(path)
        digests.note(path, digest)
    return None if digest == reference.digest else "is damaged in its datastore"
