"""A folder in an object store: one manifest, which names its files and the objects that hold them.

Each file is an object of its own, named by its content, but small ones are put together in packs: thousands of files
would take thousands of requests. A folder that differs from an earlier one in a few files refers to the same objects,
and to new ones for these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nbpipe.codec import decode, encode_sparse
from nbpipe.data.digests import Member, bytes_digest, tree_digest
from nbpipe.data.object_keys import OBJECTS, hex_digits, object_key
from nbpipe.model import ObjectReference

SMALL = 64 << 10
"""Files of fewer bytes are put into packs."""

PACKS = "packs"

_PACK = 8 << 20
_PACK_KEY = re.compile(rf"{PACKS}/[0-9a-f]{{2}}/[0-9a-f]{{64}}")
_SUFFIX = ".tree"


@dataclass(frozen=True, slots=True)
class FolderMember:
    """A file of a folder: its relative path, and the object that holds its bytes, beginning at ``offset``."""

    path: str
    size: int
    digest: str
    object: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class FolderManifest:
    """All files of a folder."""

    members: tuple[FolderMember, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """Small files, one after the other, and the members that they become."""

    key: str
    content: bytes
    members: tuple[FolderMember, ...]


def manifest_key(reference: ObjectReference) -> str:
    """Return the key of a folder's manifest."""
    return object_key(reference) + _SUFFIX


def manifest_text(members: Iterable[FolderMember]) -> bytes:
    """Return the manifest of a folder as JSON."""
    return encode_sparse(FolderManifest(tuple(sorted(members, key=lambda each: each.path)))).encode()


def read_manifest(text: bytes, reference: ObjectReference) -> tuple[FolderMember, ...]:
    """Return the members of a folder; raise ValueError unless the manifest is that of the referenced content."""
    members = decode(text, FolderManifest).members
    if tree_digest((each.path, each.size, each.digest) for each in members) != reference.digest:
        raise ValueError("it is the manifest of another folder")
    for each in members:
        if any(part in ("", ".", "..") for part in each.path.split("/")) or "\0" in each.path:
            raise ValueError(f"it has a file that lies elsewhere: {each.path!r:.100}")
        if not _names_its_object(each) or each.offset < 0 or each.size < 0:
            raise ValueError(f"it has a file whose bytes cannot be where it says: {each.path!r:.100}")
    _require_apart([each.path for each in members])
    return members


def _names_its_object(member: FolderMember) -> bool:
    """Return whether a member is in a pack, or in an object of its own content: what is wrong there is removed."""
    key, digits = member.object, hex_digits(member.digest)
    if _PACK_KEY.fullmatch(key):
        return True
    own, _, name = key.rpartition("/")
    return own == f"{OBJECTS}/{digits[:2]}/{digits}" and name not in ("", ".", "..") and member.offset == 0


def _require_apart(paths: Sequence[str]) -> None:
    """Raise ValueError if a path is there twice, or a file lies below another one."""
    files = set(paths)
    for path in paths:
        if any(str(above) in files for above in PurePosixPath(path).parents) or len(files) < len(paths):
            raise ValueError(f"it has two files in one place: {path!r:.100}")


def member_of_own(member: Member) -> FolderMember:
    """Return a member with an object of its own, which is named by its content."""
    path, size, digest = member
    return FolderMember(path, size, digest, object_key(ObjectReference("", digest, "file", size)))


def packs_of(folder: Path, members: Sequence[Member]) -> Iterator[Pack]:
    """Yield packs with the small files of a folder."""
    content, packed = bytearray(), list[tuple[Member, int]]()
    for member in members:
        if content and len(content) + member[1] > _PACK:
            yield _pack(bytes(content), packed)
            content, packed = bytearray(), []
        packed.append((member, len(content)))
        content += (folder / member[0]).read_bytes()
    if packed:
        yield _pack(bytes(content), packed)


def _pack(content: bytes, packed: Sequence[tuple[Member, int]]) -> Pack:
    digits = hex_digits(bytes_digest(content))
    key = f"{PACKS}/{digits[:2]}/{digits}"
    members = (FolderMember(path, size, digest, key, offset) for (path, size, digest), offset in packed)
    return Pack(key, content, tuple(members))
