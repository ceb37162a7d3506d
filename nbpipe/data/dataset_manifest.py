"""The stored list of the files of a referenced version of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nbpipe.codec import ALWAYS, decode, encode_sparse
from nbpipe.data.atomic_file import create_file
from nbpipe.data.digests import Member, tree_digest
from nbpipe.data.regular_file import read_regular
from nbpipe.errors import REPAIR, StoreOutOfReach
from nbpipe.model.datasets import MANIFEST_SUFFIX, DatasetMember


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """The files of a version, sorted by their paths in it."""

    members: tuple[DatasetMember, ...]
    version: Literal[1] = field(default=1, metadata=ALWAYS)


def write_manifest(folder: Path, name: str, members: Iterable[DatasetMember]) -> Path:
    """Write the list of the files of a version whose readers see ``name``, and return the file."""
    path = folder / f"{name}{MANIFEST_SUFFIX}"
    ordered = tuple(sorted(members, key=lambda member: member.path))
    create_file(path, encode_sparse(DatasetManifest(ordered)).encode(), durable=True)
    return path


def read_manifest(path: Path) -> tuple[DatasetMember, ...]:
    """Return the files of a version; raise StoreOutOfReach if the list is damaged or gone."""
    try:
        members = decode(read_regular(path), DatasetManifest).members
        for member in members:
            _require_inside(member.path)
    except (OSError, ValueError) as error:
        raise StoreOutOfReach(f"the list {path} of a dataset's files cannot be read: {error}", REPAIR) from error
    return members


def content_of_members(members: Iterable[DatasetMember], *, folder: bool) -> str:
    """Return the digest of the content that files are together: of a folder, or of a single file."""
    files: list[Member] = [(member.path, member.size, member.digest) for member in members]
    return tree_digest(files) if folder else files[0][2]


def _require_inside(path: str) -> None:
    if not path or any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
        raise ValueError(f"{path!r:.60} is not a path in a dataset")
