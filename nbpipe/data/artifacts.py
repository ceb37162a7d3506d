"""Outputs by content: published from a step's staging folder, checked before reuse, copied out for people."""

from __future__ import annotations

import shutil
from pathlib import Path

from nbpipe.data.atomic_file import draft_beside, flush, put_in_place
from nbpipe.data.datastores import DEFAULT_STORE
from nbpipe.data.digests import DigestCache, NoDigestCache, content_digest, walk
from nbpipe.data.integrity import find_damage
from nbpipe.data.materializer import Datastore, Materializer
from nbpipe.errors import BadUsage, FileMissing, StoreOutOfReach
from nbpipe.model import Artifact, Reference


class _ByInode:
    """Remembers files by what a rename keeps, so that what was moved is not read again, and what was copied is."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def recall(self, path: Path) -> str | None:
        """Return the digest of a file that was read under any name."""
        return self._known.get(_inode(path))

    def note(self, path: Path, digest: str) -> None:
        """Keep the digest that the file has now."""
        self._known[_inode(path)] = digest


def _inode(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def publish(datastore: Datastore, staged: Path, *, name: str, format: str, store: str = DEFAULT_STORE) -> Artifact:
    """Put what a step staged into the datastore of that name; the digest is of the bytes on disk, before and after."""
    stored_as = "file" if format.startswith("file.") else format
    if not staged.exists() or staged.is_dir() != (stored_as == "dir"):
        found = "nothing was" if not staged.exists() else "a folder was" if staged.is_dir() else "a file was"
        raise FileMissing(f"output `{name}` is declared as {format}, but {found} written")
    seen = _ByInode()
    digest, size = content_digest(staged, seen)
    made = Artifact(name, stored_as, Reference(store, digest, staged.name, size))
    datastore.put(staged, made.reference)
    damage = find_damage(datastore.locate(made.reference), made.reference, folder=made.is_folder, digests=seen)
    if damage is not None:
        message = f"output `{name}` did not reach its datastore whole: it {damage}"
        raise StoreOutOfReach(message, "Check the store, then run again.")
    return made


def check(materializer: Materializer, artifact: Artifact, digests: DigestCache) -> str | None:
    """Return what is wrong with a stored output, None when its bytes are those that were published.

    Raise StoreOutOfReach when nobody can tell: its datastore is unknown, or does not let it be read.
    """
    message, reference = f"output `{artifact.name}`", artifact.reference
    try:
        path = materializer.locate(reference)
    except ValueError as error:
        return f"{message} is recorded wrongly: {error}"
    damage = find_damage(path, reference, folder=artifact.is_folder, digests=digests)
    return None if damage is None else f"{message} {damage}"


def copy_out(materializer: Materializer, artifact: Artifact, target: Path) -> None:
    """Write an output's bytes to exactly ``target``, a folder as a folder; what was there is replaced at once."""
    source = materializer.path(artifact.reference)
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


def _copy(source: Path, draft: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, draft, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, draft)
        flush(draft)
