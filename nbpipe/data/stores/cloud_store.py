"""A datastore in an object store: S3 and what speaks like it, Azure Blob, Google Storage, or this process's memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions as failures

from nbpipe.data.stores.object_store import Progress, checked_folder, checked_key, no_progress
from nbpipe.data.stores.store_errors import changed, exists, missing, named, require_complete
from nbpipe.errors import BadUsage, StoreOutOfReach
from nbpipe.model.datastores import FolderListing, ObjectInfo

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as Bucket

_CHUNK = 8 << 20
# Above it an object is written in parts, which makes a retry cheap. No store then refuses to replace another one.
_ONE_PUT = 64 << 20
_AT_ONCE = 32
_CONFLICTS = 5
# What the services answer, as the object store's library quotes them.
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
_EXPIRED = ("ExpiredToken", "TokenExpired", "token has expired", "RequestExpired", "Signature not valid in the spec")
_REFUSED = (
    "status code: 403", "status code: 401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "AuthenticationFailed", "AuthorizationFailure",
)  # fmt: skip
# A server's own words may repeat what it was sent, with credentials: only its status and this word of it are shown.
_STATUS = re.compile(r"(status code: \d{3}[\w -]*).*", re.DOTALL)
_WORD = re.compile(r"<Code>(\w{1,80})</Code>")
_QUERY = re.compile(r"\?\S+")
_CONFLICT = "ConditionalRequestConflict"


class CloudStore:
    """Objects below a prefix of a bucket or container."""

    is_conditional = True
    can_list = True

    def __init__(self, name: str, bucket: Bucket, url: str) -> None:
        self.name = name
        self._bucket = bucket
        self._url = url.rstrip("/")

    def url(self, key: str) -> str:
        """Return the address of an object, whether it exists or not."""
        return f"{self._url}/{key}"

    def require_reachable(self) -> None:
        """Raise StoreOutOfReach if nothing can be listed."""
        self.list_folder()

    def put_new(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write a new object; raise ObjectExists if there is one.

        Of several writers at once only one succeeds, but for objects of more than 64 MiB, which are written in parts.
        """
        key = checked_key(self.name, key)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > _ONE_PUT:
            if self.find(key) is not None:
                raise exists(self.name, key)
            return self.put(key, source, progress)
        with self._reaching(key):
            content = source if isinstance(source, bytes) else source.read_bytes()
            try:
                _repeated(lambda: obstore.put(self._bucket, key, content, mode="create", use_multipart=False))
            except failures.AlreadyExistsError:
                raise exists(self.name, key) from None
            progress(size)
        return self._checked(key, size)

    def put(self, key: str, source: Path | bytes, progress: Progress = no_progress) -> ObjectInfo:
        """Write or replace an object; a large one is written in parts."""
        key = checked_key(self.name, key)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with self._reaching(key):
            if size > _ONE_PUT:
                obstore.put(self._bucket, key, _pieces(source, progress), use_multipart=True, chunk_size=_part(size))
            else:
                content = source if isinstance(source, bytes) else source.read_bytes()
                obstore.put(self._bucket, key, content, use_multipart=False)
                progress(size)
        return self._checked(key, size)

    def replace_if(self, key: str, content: bytes, etag: str) -> ObjectInfo:
        """Replace an object if it still has this ETag; raise ObjectChanged if not."""
        key = checked_key(self.name, key)
        with self._reaching(key):
            try:
                _repeated(lambda: obstore.put(self._bucket, key, content, mode={"e_tag": etag}, use_multipart=False))
            except failures.PreconditionError:
                raise changed(self.name, key) from None
        return self._checked(key, len(content))

    def read(self, key: str, version: str = "") -> bytes:
        """Return an object's content, or that of a version of it."""
        return b"".join(self.stream(key, version))

    def download(self, key: str, target: Path, version: str = "", progress: Progress = no_progress) -> ObjectInfo:
        """Write an object's content to a new file; raise StoreOutOfReach if it arrives incomplete."""
        key = checked_key(self.name, key)
        with self._reaching(key, version):
            found = obstore.get(self._bucket, key, options={"version": version} if version else {})
            info = _info(found.meta)
            count = 0
            with target.open("xb") as copy:
                for piece in found.stream(min_chunk_size=_CHUNK):
                    count += copy.write(piece)
                    progress(len(piece))
        require_complete(self.name, key, count, info.size)
        return info

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """Yield an object's content in pieces; raise StoreOutOfReach if it arrives incomplete."""
        key = checked_key(self.name, key)
        with self._reaching(key, version):
            found = obstore.get(self._bucket, key, options={"version": version} if version else {})
            count = 0
            for piece in found.stream(min_chunk_size=_CHUNK):
                count += len(piece)
                yield bytes(piece)
        require_complete(self.name, key, count, found.meta["size"])

    def find(self, key: str) -> ObjectInfo | None:
        """Return what the store says about an object; None if it does not exist."""
        key = checked_key(self.name, key)
        with self._reaching(key):
            try:
                return _info(obstore.head(self._bucket, key))
            except FileNotFoundError as error:
                if _is_any(_NO_BUCKET, str(error)):
                    raise
                return None

    def find_many(self, keys: Iterable[str]) -> list[ObjectInfo | None]:
        """Return what the store says about several objects, asking about many at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.find, keys))

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects below a folder, sorted by key; the listing is always a new one."""
        key = checked_folder(self.name, folder)
        with self._reaching(key):
            chunks = obstore.list(self._bucket, key or None, chunk_size=1000)
            found = [_info(meta) for chunk in chunks for meta in chunk]
        yield from sorted(found, key=lambda info: info.key)

    def list_folder(self, folder: str = "") -> FolderListing:
        """Return what is right below a folder."""
        key = checked_folder(self.name, folder)
        with self._reaching(key):
            found = obstore.list_with_delimiter(self._bucket, key or None)
        folders = sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])
        objects = sorted((_info(meta) for meta in found["objects"]), key=lambda info: info.key)
        return FolderListing(tuple(folders), tuple(objects))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are passed over."""
        listed = [checked_key(self.name, key) for key in keys]
        for first in range(0, len(listed), 1000):
            with self._reaching(listed[first]):
                try:
                    obstore.delete(self._bucket, listed[first : first + 1000])
                except FileNotFoundError as error:
                    if _is_any(_NO_BUCKET, str(error)):
                        raise
                    self._delete_one_by_one(listed[first : first + 1000])

    def copy(self, key: str, target: str) -> ObjectInfo:
        """Copy an object within the store."""
        key, target = checked_key(self.name, key), checked_key(self.name, target)
        with self._reaching(key):
            obstore.copy(self._bucket, key, target)
        return self._found(target)

    def sign(self, key: str, seconds: int) -> str:
        """Return an address from which anyone can read an object for some time."""
        key = checked_key(self.name, key)
        with self._reaching(key):
            bucket: Any = self._bucket
            try:
                address: str = obstore.sign(bucket, "GET", key, timedelta(seconds=seconds))
                return address
            except (ValueError, TypeError):
                raise BadUsage(f"the datastore `{self.name}` has no addresses for its objects") from None

    def close(self) -> None:
        """Do nothing: connections end by themselves."""

    def _delete_one_by_one(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                obstore.delete(self._bucket, key)
            except FileNotFoundError:
                continue

    def _checked(self, key: str, size: int) -> ObjectInfo:
        """Return what the store says about an object that was written; raise StoreOutOfReach if it is not all there."""
        info = self._found(key)
        require_complete(self.name, key, info.size, size)
        return info

    def _found(self, key: str) -> ObjectInfo:
        found = self.find(key)
        if found is None:
            raise missing(self.name, key)
        return found

    @contextmanager
    def _reaching(self, key: str, version: str = "") -> Iterator[None]:
        """Turn the failures of the object store's library into errors that name the store, the object and the cure."""
        try:
            yield
        except FileNotFoundError as error:
            if _is_any(_NO_BUCKET, str(error)):
                raise self._no_bucket() from None
            raise missing(self.name, key, version) from None
        except failures.BaseError as error:
            raise self._out_of_reach(key, str(error)) from None
        except OSError as error:
            message = f"`{named(self.name, key)}` cannot be transferred: {error.strerror or error}"
            raise StoreOutOfReach(message, "Check the local file and the free space.") from error

    def _no_bucket(self) -> StoreOutOfReach:
        message = f"the datastore `{self.name}` does not exist: there is no such bucket or container ({self._url})"
        return StoreOutOfReach(message, "Create it, or correct `url` in nbpipe.toml.")

    def _out_of_reach(self, key: str, text: str) -> StoreOutOfReach:
        if _is_any(_NO_BUCKET, text):
            return self._no_bucket()
        if _is_any(_EXPIRED, text):
            message = f"the credentials of the datastore `{self.name}` have expired"
            return StoreOutOfReach(message, "Renew them, then run again.")
        if _is_any(_REFUSED, text):
            message = f"the datastore `{self.name}` refuses access to `{named(self.name, key)}` ({self._url})"
            return StoreOutOfReach(message, "Check `credentials` in nbpipe.toml, and what they allow.")
        message = f"the datastore `{self.name}` is out of reach ({self._url}): {_reason(text)}"
        return StoreOutOfReach(message, f"Check it with: nbpipe datastores test {self.name}")


def _reason(text: str) -> str:
    """Return what the object store's library tells in one line, without the server's words and an address's query."""
    word = _WORD.search(text)
    told = _QUERY.sub("?…", _STATUS.sub(r"\1", text)).strip().splitlines()
    return (told[0][:300] if told else "it gave no reason") + (f" ({word[1]})" if word else "")


def _is_any(words: Iterable[str], text: str) -> bool:
    return any(word in text for word in words)


def _repeated(put: Callable[[], Any]) -> None:
    """Write conditionally; S3 may answer that another conditional request was going on, which says nothing yet."""
    for attempt in range(_CONFLICTS):
        try:
            put()
        except failures.BaseError as error:
            if _CONFLICT not in str(error) or attempt == _CONFLICTS - 1:
                raise
            time.sleep(0.1 * 2**attempt)
        else:
            return


def _pieces(source: Path | bytes, progress: Progress) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for first in range(0, len(source), _CHUNK):
            yield source[first : first + _CHUNK]
            progress(min(_CHUNK, len(source) - first))
        return
    with source.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece
            progress(len(piece))


def _part(size: int) -> int:
    """Return the size of the parts of a large object; services accept at most 10,000 of them."""
    return max(_CHUNK, -(-size // 9_000))


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(
        meta["path"], meta["size"], meta.get("e_tag") or "", meta.get("version") or "",
        meta["last_modified"].timestamp(),
    )  # fmt: skip
