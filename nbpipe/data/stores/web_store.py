"""A datastore on a web server: its files are read by their addresses, and it can neither list nor write them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from nbpipe.data.stores.object_store import ObjectStore, Progress, checked_key, no_progress
from nbpipe.data.stores.store_errors import missing, named
from nbpipe.data.web.web_client import GONE, REFUSED, WebClient, WebRequest, refused_access
from nbpipe.data.web.web_connection import WebConnector
from nbpipe.data.web.web_response import WebResponse
from nbpipe.errors import BadUsage, ObjectMissing, StoreOutOfReach
from nbpipe.model.datastores import DatastoreConfiguration, FolderListing, ObjectInfo
from nbpipe.model.web import WebSettings

_ANSWERS = range(200, 500)


class WebStore:
    """The files below an address; no other server is sent the ``authorization``."""

    is_conditional = False
    can_list = False

    def __init__(self, name: str, root: str, client: WebClient, authorization: str = "") -> None:
        self.name = name
        self._root = root.rstrip("/")
        self._client = client
        self._authorization = authorization

    def url(self, key: str) -> str:
        """Return the address of a file, whether it exists or not."""
        return f"{self._root}/{quote(key)}"

    def spelled(self, key: str) -> str:
        """Return a file as authors write it."""
        return named(self.name, key)

    def require_reachable(self) -> None:
        """Raise StoreOutOfReach if the server cannot be reached, or refuses the credentials."""
        root = WebRequest(
            f"{self._root}/", self.spelled(""), authorization=self._authorization, is_own=True, also=_ANSWERS
        )
        with self._client.get(root) as response:
            # Without credentials, many servers refuse the list of a folder only.
            if response.status == REFUSED[0] or (self._authorization and response.status in REFUSED):
                raise refused_access(self.spelled(""))

    def put_new(self, *_: object, **__: object) -> NoReturn:
        """Raise BadUsage: nothing is written."""
        hint = "Write to another datastore."
        raise BadUsage(f"the datastore `{self.name}` is a web server, which is only read", hint)

    put = replace_if = delete = copy = put_new

    def read(self, key: str, version: str = "") -> bytes:
        """Return a file's content."""
        return b"".join(self.stream(key, version))

    def download(self, key: str, target: Path, version: str = "", progress: Progress = no_progress) -> ObjectInfo:
        """Write a file's content to a new local file; the size is what has arrived."""
        with self._found(key, version) as response:
            count = 0
            try:
                with target.open("xb") as copy:
                    for piece in response.pieces():
                        count += copy.write(piece)
                        progress(len(piece))
            except OSError as error:
                message = f"`{self.spelled(key)}` cannot be written to {target}: {error.strerror or error}"
                raise StoreOutOfReach(message, "Check the free space.") from error
            return ObjectInfo(key, count, response.etag, "", response.modified)

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """Yield a file's content in pieces."""
        with self._found(key, version) as response:
            yield from response.pieces()

    def find(self, key: str) -> ObjectInfo | None:
        """Return what the server says about a file, without reading it; None if it does not exist.

        The size is negative if the server does not announce it; the ETag is empty unless it is a strong one.
        """
        # Not every server answers HEAD, nor as it answers GET.
        with self._client.get(self._request(key)) as response:
            if response.status in GONE:
                return None
            size = -1 if response.size is None else response.size
            return ObjectInfo(key, size, response.etag, "", response.modified)

    def find_many(self, keys: Iterable[str]) -> list[ObjectInfo | None]:
        """Return what :meth:`find` does, for several files."""
        return [self.find(key) for key in keys]

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Raise BadUsage: the web has no folders."""
        raise self._no_folders(folder)

    def list_folder(self, folder: str = "") -> FolderListing:
        """Raise BadUsage: the web has no folders."""
        raise self._no_folders(folder)

    def sign(self, key: str, seconds: int) -> str:
        """Raise BadUsage: who may read a file is the server's decision."""
        raise BadUsage(f"the datastore `{self.name}` has no address for `{key}` that is open for {seconds} s")

    def close(self) -> None:
        """Do nothing: a connection ends with its response."""

    def _request(self, key: str) -> WebRequest:
        checked = checked_key(self.name, key)
        return WebRequest(self.url(checked), self.spelled(key), authorization=self._authorization, is_own=True)

    @contextmanager
    def _found(self, key: str, version: str) -> Iterator[WebResponse]:
        if version:
            raise ObjectMissing(f"`{self.spelled(key)}` has no version {version}: the web keeps only the last one")
        with self._client.get(self._request(key)) as response:
            if response.status in GONE:
                raise self._missing(key)
            yield response

    def _missing(self, key: str) -> ObjectMissing:
        return missing(self.name, key)

    def _no_folders(self, folder: str) -> BadUsage:
        what = f"`{self.spelled(folder)}` cannot be listed: the datastore `{self.name}` is a web server"
        return BadUsage(what, f"Name each file, for example: {named(self.name, 'a.csv')}")


class WebFiles(WebStore):
    """Any files of the web, with their whole addresses as their keys."""

    def __init__(self, client: WebClient) -> None:
        super().__init__("web", "", client)

    def url(self, key: str) -> str:
        """Return the address itself."""
        return key

    def spelled(self, key: str) -> str:
        """Return the address itself."""
        return key

    def _request(self, key: str) -> WebRequest:
        return WebRequest(key, key)

    def _missing(self, key: str) -> ObjectMissing:
        return ObjectMissing(f"`{key}` does not exist", "Check the address.")


def open_web_store(
    configuration: DatastoreConfiguration, credentials: Mapping[str, str], environment: Mapping[str, str]
) -> ObjectStore:
    """Return a datastore on a web server; raise ValueError if its credentials do not belong together."""
    client = WebClient(WebConnector(WebSettings(), environment))
    return WebStore(configuration.name, configuration.url, client, _authorization(credentials))


def open_web_files(settings: WebSettings, environment: Mapping[str, str]) -> ObjectStore:
    """Return any files of the web that the settings allow to be read."""
    return WebFiles(WebClient(WebConnector(settings, environment)))


def _authorization(credentials: Mapping[str, str]) -> str:
    given = set(credentials)
    if given == {"token"}:
        return f"Bearer {_header_text(credentials['token'])}"
    if given == {"username", "password"}:
        both = f"{credentials['username']}:{credentials['password']}"
        return f"Basic {b64encode(both.encode()).decode()}"
    if given:
        raise ValueError("its credentials are either a token, or username and password")
    return ""


def _header_text(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise ValueError("its token has characters that no header may have")
    return token
