"""Stored outputs: published from a step's staging folder, checked before reuse, copied to a path on request."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from nbpipe.data.atomic_file import draft_beside, flush, put_in_place
from nbpipe.data.digests import DigestCache, NoDigestCache, content_digest, walk
from nbpipe.data.integrity import find_damage
from nbpipe.data.materializer import ArtifactStore, DistantStore, Materializer
from nbpipe.errors import BadUsage, FileMissing, StoreOutOfReach
from nbpipe.model import Artifact, ObjectReference


class _ByInode:
    """Caches digests by inode and status: a moved file is not read again, a copied one is."""

    def __init__(self) -> None:
        self._digests: dict[tuple[int, ...], str] = {}

    def recall(self, path: Path) -> str | None:
        """Return the digest of a file that was read before, under any name."""
        return self._digests.get(_inode(path))

    def note(self, path: Path, digest: str) -> None:
        """Store the file's current digest."""
        self._digests[_inode(path)] = digest


def _inode(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def publish(
    store: ArtifactStore, staged: Path, *, name: str, format: str, like: ObjectReference | None = None
) -> Artifact:
    """Store a staged output, and check that the stored bytes have the digest of the staged ones.

    ``like`` is a folder in the same store that may have many of the same files.
    """
    stored_as = "file" if format.startswith("file.") else format
    if not staged.exists() or staged.is_dir() != (stored_as == "dir"):
        problem = "nothing was" if not staged.exists() else "a folder was" if staged.is_dir() else "a file was"
        raise FileMissing(f"output `{name}` is declared as {format}, but {problem} written")
    digests = _ByInode()
    with _flushing(staged, name, store):
        digest, size = content_digest(staged, digests)
    artifact = Artifact(name, stored_as, ObjectReference(store.name, digest, staged.name, size))
    store.put(staged, artifact, like if like is not None and like.store == store.name else None)
    damage = store.find_damage(artifact, digests)
    if damage is not None:
        message = f"output `{name}` was not stored completely: it {damage}"
        raise StoreOutOfReach(message, "Check the store, then run again.")
    return artifact


@contextmanager
def _flushing(staged: Path, name: str, store: ArtifactStore) -> Iterator[None]:
    """Flush a file while it is read: the disk writes, the processor digests, and the store then has little to flush."""
    if isinstance(store, DistantStore) or not staged.is_file():
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(flush, staged)
        yield
    try:
        flushed.result()
    except OSError as error:
        # Of a failed flush the system tells once: the store's own would succeed.
        message = f"output `{name}` cannot be written to the disk: {error.strerror}"
        raise StoreOutOfReach(message, "Check the disk and its free space, then run again.") from error


def check(materializer: Materializer, artifact: Artifact, digests: DigestCache) -> str | None:
    """Return what is wrong with a stored output; None if its bytes are those that were published.

    Raise StoreOutOfReach if that cannot be checked: its datastore is unknown or cannot be read.
    """
    message = "what the step displayed" if artifact.is_display else f"output `{artifact.name}`"
    try:
        damage = materializer.find_damage(artifact, digests)
    except ValueError as error:
        return f"{message} has an invalid record: {error}"
    return None if damage is None else f"{message} {damage}"


def copy_out(materializer: Materializer, artifact: Artifact, target: Path) -> None:
    """Write an output's bytes to exactly ``target``, a folder as a folder, and replace what was there atomically."""
    source = materializer.path(artifact)
    _require_replaceable(source, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft_beside(target) as draft:
            _copy(source, draft)
            damage = find_damage(draft, artifact.reference, folder=artifact.is_folder, digests=NoDigestCache())
            if damage is not None:
                raise StoreOutOfReach(f"output `{artifact.name}` {damage}", "Run the step again.")
            put_in_place(draft, target, durable=False)
    except OSError as error:
        raise BadUsage(f"`{target}` cannot be written: {error.strerror}", "Name a path that you may write.") from error


def _require_replaceable(source: Path, target: Path) -> None:
    """Raise BadUsage if a folder would replace a file or vice versa, or if files in a folder would be lost."""
    if not target.exists():
        return
    if source.is_dir() != target.is_dir():
        existing, expected = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise BadUsage(f"`{target}` is a {existing}, and the output is a {expected}", "Name another path.")
    if target.is_dir():
        ours = {path.relative_to(source) for path in walk(source)}
        lost = sorted(str(path) for path in walk(target) if path.relative_to(target) not in ours)
        if lost:
            raise BadUsage(f"`{target}` holds `{lost[0]}`, which the output does not have", "Name another folder.")


def _copy(source: Path, draft: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, draft, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, draft)
        flush(draft)
