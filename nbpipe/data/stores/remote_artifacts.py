"""Outputs in a configured datastore: uploaded once, read through verified copies on this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbpipe.data.digests import DigestCache, NoDigestCache, bytes_digest, folder_members
from nbpipe.data.object_keys import OBJECTS, key_parts, object_key
from nbpipe.data.stores.folder_manifest import (
    PACKS,
    SMALL,
    FolderMember,
    manifest_key,
    manifest_text,
    member_of_own,
    packs_of,
    read_manifest,
)
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.stored_digest import stored_digest
from nbpipe.errors import ObjectMissing, StoreOutOfReach
from nbpipe.model import Artifact, ObjectReference
from nbpipe.model.datastores import ObjectInfo, StoredObject

_AT_ONCE = 16
# What a store has said about an object is believed for so long, in seconds: a plan asks about many at once, once.
_FRESH = 30.0
# A listing tells about a thousand objects in one request, of which at least so many must be of interest.
_MANY = 100
_WORTH_LISTING = 20
_OWN = re.compile(r"objects/([0-9a-f]{2})/\1[0-9a-f]{62}/[^/]+|packs/([0-9a-f]{2})/\2[0-9a-f]{62}")
_AGAIN = "Run the step that makes it again."

Recall = Callable[[str, Sequence[str]], Mapping[str, StoredObject]]
"""Returns what is remembered of those objects of a datastore, given by its address and their keys, that are known."""


def recall_nothing(_address: str, _keys: Sequence[str]) -> Mapping[str, StoredObject]:
    """Return nothing."""
    return {}


@dataclass(slots=True)
class RemoteArtifacts:
    """Outputs in a datastore at ``address``, and their copies in a cache.

    What a store says about an object (its size, its ETag) is compared with what it said when the bytes were last
    written or read. An object of which it says something else is read and its digest is computed. ``count`` returns
    about how many objects of a datastore there are, given its address.
    """

    objects: ObjectStore
    cache: ObjectCache
    address: str
    recall: Recall = recall_nothing
    count: Callable[[str], int] = lambda _address: 0
    _found: dict[str, tuple[float, ObjectInfo | None]] = field(default_factory=dict)
    _known: dict[str, StoredObject] = field(default_factory=dict)
    _written: list[StoredObject] = field(default_factory=list)
    _doubts: bool = False

    @property
    def name(self) -> str:
        """Return the name of the datastore."""
        return self.objects.name

    def put(self, staged: Path, artifact: Artifact, like: ObjectReference | None = None, /) -> None:
        """Upload a file or folder, and keep it as this machine's copy."""
        reference = artifact.reference
        if artifact.is_folder:
            self._put_folder(staged, reference, like)
            return
        # An object that is there already is written again: its bytes may not be what its name says.
        self._note(self.objects.put(object_key(reference), staged), reference.digest)
        if self.cache.holds(reference.digest, reference.basename, reference.bytes):
            return
        with self.cache.writing():
            self.cache.adopt(staged, reference.digest, reference.basename)

    def locate(self, artifact: Artifact) -> Path:
        """Return the path of this machine's copy, whether it is there or not."""
        digits, basename = key_parts(artifact.reference)
        path = self.cache.folder_path if artifact.is_folder else self.cache.path
        return path(digits, basename)

    def fetch(self, artifact: Artifact) -> Path:
        """Return the path of this machine's copy, which is downloaded if it is missing."""
        path, reference = self.locate(artifact), artifact.reference
        if artifact.is_folder:
            if not self.cache.holds_folder(reference.digest, reference.basename):
                self._fetch_folder(reference)
        elif not self.cache.holds(reference.digest, reference.basename, reference.bytes):
            self._download(object_key(reference), reference.digest, reference.basename)
        with self.cache.writing():
            self.cache.use([] if artifact.is_folder else [(reference.digest, reference.basename)])
        return path

    def find_damage(self, artifact: Artifact, _digests: DigestCache, /) -> str | None:
        """Return what is wrong with an output in the datastore; its bytes are read only if they may have changed."""
        key, reference = _key(artifact), artifact.reference
        if self._doubts:
            return self._damage_in_bytes(artifact)
        self._ask([key])
        info = self._found[key][1]
        if info is None:
            return "is no longer in its datastore"
        if not artifact.is_folder and info.size != reference.bytes:
            return f"has {info.size} bytes in its datastore, not the {reference.bytes} that were published"
        known = self._known.get(key)
        if known is None or not is_same_object(known.info, info):
            known = self._read_again(key, info, artifact)
        return None if known.digest == reference.digest else "is damaged in its datastore"

    def doubt(self) -> None:
        """From now on read all bytes of what is checked, whatever the datastore vouches for."""
        self._doubts = True

    def _damage_in_bytes(self, artifact: Artifact) -> str | None:
        """Return what is wrong with an output, found by reading all of its objects."""
        reference = artifact.reference
        only = FolderMember("", reference.bytes, reference.digest, "")
        try:
            members = self._manifest(reference) if artifact.is_folder else (replace(only, object=_key(artifact)),)
            objects: dict[str, list[FolderMember]] = {}
            for each in members:
                objects.setdefault(each.object, []).append(each)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                intact = all(pool.map(lambda item: self._has(*item), objects.items()))
        except ObjectMissing:
            return "is no longer in its datastore"
        except ValueError:
            intact = False
        return None if intact else "is damaged in its datastore"

    def _has(self, key: str, members: Sequence[FolderMember]) -> bool:
        """Return whether an object holds these files."""
        if not key.startswith(f"{PACKS}/"):
            return {stored_digest(self.objects, key)} == {each.digest for each in members}
        content = self.objects.read(key)
        return all(bytes_digest(content[each.offset : each.offset + each.size]) == each.digest for each in members)

    def look_up(self, artifacts: Iterable[Artifact]) -> None:
        """Ask the datastore about several outputs at once, for the checks that follow."""
        keys = []
        for artifact in artifacts:
            with suppress(ValueError):
                keys.append(_key(artifact))
        self._ask(keys)

    def url(self, artifact: Artifact) -> str:
        """Return an output's address; that of a folder is its manifest's."""
        return self.objects.url(_key(artifact))

    def take_written(self) -> tuple[StoredObject, ...]:
        """Return the objects that were written, or read again, since the last call."""
        written, self._written = tuple(self._written), []
        return written

    def keys_of(self, artifact: Artifact) -> set[str]:
        """Return the keys of the objects that an output consists of: a folder's manifest names them."""
        try:
            key = _key(artifact)
        except ValueError:
            return set()
        if not artifact.is_folder:
            return {key}
        try:
            return {key, *(each.object for each in self.members(artifact.reference))}
        except ObjectMissing:
            # Without its manifest nothing can be read of the folder.
            return {key}

    def stored(self) -> Iterator[tuple[str, int]]:
        """Yield the keys and sizes of all objects that are named by their content."""
        for folder in (OBJECTS, PACKS):
            for info in self.objects.list(folder):
                if _OWN.fullmatch(info.key):
                    yield info.key, info.size

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Return those keys whose objects are not there now."""
        asked = list(keys)
        now, found = time.monotonic(), self.objects.find_many(asked)
        lost = {key for key, info in zip(asked, found, strict=True) if info is None}
        self._found.update((key, (now, None)) for key in lost)
        return lost

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        listed = list(keys)
        self.objects.delete(listed)
        for key in listed:
            self._found.pop(key, None)

    def members(self, reference: ObjectReference) -> tuple[FolderMember, ...]:
        """Return the files of a stored folder; raise StoreOutOfReach if its manifest is missing or damaged."""
        try:
            return self._manifest(reference)
        except ValueError as error:
            message = f"the manifest of the folder `{reference.basename}` in the datastore `{self.name}` is damaged"
            raise StoreOutOfReach(f"{message}: {error}", _AGAIN) from None

    def _manifest(self, reference: ObjectReference) -> tuple[FolderMember, ...]:
        """Return the files of a stored folder; raise ValueError if its manifest is damaged."""
        return read_manifest(self.objects.read(manifest_key(reference)), reference)

    def _ask(self, keys: Sequence[str]) -> None:
        now = time.monotonic()
        asked = [key for key in dict.fromkeys(keys) if self._found.get(key, (-_FRESH, None))[0] <= now - _FRESH]
        if asked:
            found = self._find_all(asked)
            self._found.update((key, (now, found.get(key))) for key in asked)
            self._known.update(self.recall(self.address, asked))

    def _find_all(self, keys: Sequence[str]) -> dict[str, ObjectInfo]:
        """Return what the store says about those objects that exist, by a listing if that takes fewer requests."""
        listed: dict[str, ObjectInfo] = {}
        if len(keys) >= _MANY and self.count(self.address) <= _WORTH_LISTING * len(keys):
            listed = {info.key: info for info in self.objects.list(OBJECTS)}
        # A listing may lack what was just written.
        others = [key for key in keys if key not in listed]
        found = zip(others, self.objects.find_many(others), strict=True)
        return listed | {key: info for key, info in found if info is not None}

    def _note(self, info: ObjectInfo, digest: str) -> StoredObject:
        stored = self._known[info.key] = StoredObject(self.address, info, digest)
        self._found[info.key] = (time.monotonic(), info)
        self._written.append(stored)
        return stored

    def _read_again(self, key: str, info: ObjectInfo, artifact: Artifact) -> StoredObject:
        """Read an object of which the store says something new; return it with the digest that it has."""
        reference = artifact.reference
        if artifact.is_folder:
            try:
                self._manifest(reference)
            except ValueError:
                return self._note(info, "")
            return self._note(info, reference.digest)
        with self.cache.draft() as draft:
            now = self.objects.download(key, draft)
            with self.cache.writing():
                return self._note(now, self.cache.keep(draft, reference.basename))

    def _download(self, key: str, digest: str, name: str) -> None:
        """Copy an object to this machine; one whose bytes are not what its key says is removed.

        Nobody could use it, and as long as it is there it would be taken for what was published.
        """
        for last in (False, True):
            with self.cache.draft() as draft:
                self.objects.download(key, draft)
                with self.cache.writing():
                    if self.cache.keep(draft, name) == digest:
                        return
            if last:
                self._remove(key)
        message = f"`{name}` in the datastore `{self.name}` is not what was published ({self.objects.url(key)})"
        raise StoreOutOfReach(message, _AGAIN)

    def _remove(self, key: str) -> None:
        with suppress(StoreOutOfReach):
            self.objects.delete([key])
        self._found.pop(key, None)

    # Folders

    def _put_folder(self, staged: Path, reference: ObjectReference, like: ObjectReference | None) -> None:
        every = folder_members(staged, NoDigestCache())
        there = self._already_there(like)
        new = list({digest: each for each in every if (digest := each[2]) not in there}.values())
        large = [member_of_own(each) for each in new if each[1] >= SMALL]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda each: self.objects.put(each.object, staged / each.path), large))
            packs = packs_of(staged, [each for each in new if each[1] < SMALL])
            packed = list(pool.map(lambda pack: (self.objects.put(pack.key, pack.content), pack.members)[1], packs))
        there |= {each.digest: each for each in [*large, *(each for members in packed for each in members)]}
        members = [_at(path, size, digest, there[digest]) for path, size, digest in every]
        # It is written last: whoever sees it sees a complete folder.
        self._note(self.objects.put(manifest_key(reference), manifest_text(members)), reference.digest)
        if self.cache.holds_folder(reference.digest, reference.basename):
            return
        with self.cache.writing():
            self.cache.adopt_folder(staged, reference.digest, reference.basename, every)

    def _already_there(self, like: ObjectReference | None) -> dict[str, FolderMember]:
        """Return the files of a stored folder by digest, without those whose objects are gone or have another size."""
        if like is None:
            return {}
        try:
            members = self.members(like)
        except (StoreOutOfReach, ValueError):
            return {}
        keys = list({each.object for each in members})
        found = dict(zip(keys, self.objects.find_many(keys), strict=True))
        return {each.digest: each for each in members if _may_hold(found[each.object], each)}

    def _fetch_folder(self, reference: ObjectReference) -> None:
        members = self.members(reference)
        missing = [each for each in members if not self.cache.holds(each.digest, Path(each.path).name, each.size)]
        packs: dict[str, list[FolderMember]] = {}
        for each in missing:
            packs.setdefault(each.object, []).append(each)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda item: self._fetch_members(*item), packs.items()))
        with self.cache.writing():
            every = ((each.path, each.size, each.digest) for each in members)
            self.cache.folder(reference.digest, reference.basename, every)

    def _fetch_members(self, key: str, members: Sequence[FolderMember]) -> None:
        if not key.startswith(f"{PACKS}/"):
            for each in members:
                self._download(key, each.digest, Path(each.path).name)
            return
        content = self.objects.read(key)
        for each in members:
            piece = content[each.offset : each.offset + each.size]
            if len(piece) != each.size or bytes_digest(piece) != each.digest:
                self._remove(key)
                message = f"the datastore `{self.name}` has not what was published ({self.objects.url(key)})"
                raise StoreOutOfReach(message, _AGAIN)
            with self.cache.draft() as draft, self.cache.writing():
                draft.write_bytes(piece)
                self.cache.keep(draft, Path(each.path).name)


def _key(artifact: Artifact) -> str:
    return manifest_key(artifact.reference) if artifact.is_folder else object_key(artifact.reference)


def is_same_object(known: ObjectInfo, now: ObjectInfo) -> bool:
    """Return whether a store vouches for it that an object is still the one that it was."""
    return known.is_still(now) and not now.is_recent


def _at(path: str, size: int, digest: str, member: FolderMember) -> FolderMember:
    return FolderMember(path, size, digest, member.object, member.offset)


def _may_hold(info: ObjectInfo | None, member: FolderMember) -> bool:
    if info is None:
        return False
    return (
        info.size >= member.offset + member.size if member.object.startswith(f"{PACKS}/") else info.size == member.size
    )
