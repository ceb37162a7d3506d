"""Outputs by content: published from a step's staging folder, checked before reuse, copied out for people."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from nbpipe.data.digests import Digests, Forgetful, content_digest, walk
from nbpipe.errors import BadUsage, FileMissing, StoreOutOfReach
from nbpipe.model import Artifact


class Datastore(Protocol):
    """A place for bytes under their digest; putting the same again changes nothing."""

    def put(self, staged: Path, digest: str, basename: str) -> str:
        """Take a file or folder, whole or not at all, and get its address."""

    def path(self, digest: str, basename: str) -> Path:
        """Get a local path to read it from."""

    def exists(self, digest: str, basename: str) -> bool:
        """Say whether it is there."""

    def uri(self, digest: str, basename: str) -> str:
        """Get its address."""


def publish(store: Datastore, staged: Path, *, name: str, format: str) -> Artifact:
    """Put what a step staged into the store; the digest is of the bytes on disk, before and after."""
    kept = "file" if format.startswith("file.") else format
    if not staged.exists() or staged.is_dir() != (kept == "dir"):
        found = "nothing was" if not staged.exists() else "a folder was" if staged.is_dir() else "a file was"
        raise FileMissing(f"output `{name}` is declared as {format}, but {found} written")
    digest, size = content_digest(staged, Forgetful())
    before = staged.stat()
    uri = store.put(staged, digest, staged.name)
    stored = store.path(digest, staged.name)
    moved = stored.stat()
    # A rename keeps the bytes; anything else is read again, for a copy may be short.
    same = (before.st_dev, before.st_ino) == (moved.st_dev, moved.st_ino) and (kept == "dir" or moved.st_size == size)
    if not same and content_digest(stored, Forgetful()) != (digest, size):
        raise StoreOutOfReach(
            f"output `{name}` did not reach its datastore whole ({uri})", "Check the store, then run again."
        )
    return Artifact(name, kept, digest, size, uri, staged.name)


def check(store: Datastore, artifact: Artifact, digests: Digests) -> str | None:
    """Get what is wrong with a stored output, or None when its bytes are those that were published."""
    said = f"output `{artifact.name}`"
    try:
        uri = store.uri(artifact.digest, artifact.basename)
    except ValueError as error:
        return f"{said} is recorded wrongly: {error}"
    if artifact.uri != uri:
        return f"{said} lies in another datastore ({artifact.uri})"
    try:
        path = store.path(artifact.digest, artifact.basename)
    except StoreOutOfReach:
        return f"{said} is no longer in its datastore"
    try:
        digest, size = content_digest(path, digests)
    except (OSError, FileMissing) as error:
        return f"{said} cannot be read: {error}"
    if size != artifact.bytes:
        return f"{said} has {size} bytes in its datastore, not the {artifact.bytes} that were published"
    return None if digest == artifact.digest else f"{said} is damaged in its datastore"


def local_path(artifact: Artifact) -> Path:
    """Get the path of an output that lies on this machine."""
    begin, _, rest = artifact.uri.partition("file:///")
    if not begin and "?" not in rest and "#" not in rest:
        return Path("/" + unquote(rest, errors="surrogateescape"))
    found = urlsplit(artifact.uri)
    if found.scheme != "file" or found.netloc not in ("", "localhost"):
        raise StoreOutOfReach(f"output `{artifact.name}` does not lie on this machine ({artifact.uri})")
    # as_uri quotes `?` and `#`, so that the path is all there is.
    return Path(unquote(found.path, errors="surrogateescape"))


def copy_out(artifact: Artifact, target: Path) -> None:
    """Write an output's bytes to exactly ``target``, a folder as a folder; what was there is replaced at once."""
    source = local_path(artifact)
    if not source.exists():
        raise StoreOutOfReach(
            f"output `{artifact.name}` is no longer in its datastore ({source})", "Run the step again."
        )
    _require_replaceable(source, target)
    fresh = target.parent / f".{uuid.uuid4().hex}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(source, fresh)
        if content_digest(fresh, Forgetful()) != (artifact.digest, artifact.bytes):
            raise StoreOutOfReach(f"output `{artifact.name}` is damaged in its datastore", "Run the step again.")
        _put_in_place(fresh, target)
    except OSError as error:
        raise BadUsage(f"`{target}` cannot be written: {error.strerror}", "Name a path that you may write.") from error
    finally:
        _remove(fresh)


def _require_replaceable(source: Path, target: Path) -> None:
    """Refuse to replace a folder by a file, a file by a folder, or a folder that holds what the copy would not."""
    if not target.exists():
        return
    if source.is_dir() != target.is_dir():
        was, wanted = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise BadUsage(f"`{target}` is a {was}, and the output is a {wanted}", "Name another path.")
    if target.is_dir():
        ours = {path.relative_to(source) for path in walk(source)}
        lost = sorted(str(path) for path in walk(target) if path.relative_to(target) not in ours)
        if lost:
            raise BadUsage(f"`{target}` holds `{lost[0]}`, which the output does not have", "Name another folder.")


def _copy(source: Path, fresh: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, fresh, copy_function=shutil.copyfile)
        return
    shutil.copyfile(source, fresh)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())


def _put_in_place(fresh: Path, target: Path) -> None:
    if not target.is_dir():
        fresh.replace(target)
        return
    aside = target.parent / f".{uuid.uuid4().hex}.old"
    target.rename(aside)
    fresh.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
