"""Requests for files of the web: redirects are followed with each hop checked anew.

A response is never decompressed, so that a small one cannot grow; no cookie is ever sent, and a credential only to the
origin that it is for.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Container, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from nbpipe.data.web.bounded_socket import BoundedSocket, TooMuchBesideContent
from nbpipe.data.web.web_address import (
    ascii_host,
    host_header,
    origin,
    request_target,
    require_encrypted,
    split_address,
)
from nbpipe.data.web.web_connection import WebConnector
from nbpipe.data.web.web_response import UNCHANGED, WebResponse, too_long
from nbpipe.errors import AddressRefused, StoreOutOfReach

GONE = (404, 410)
REFUSED = (401, 403)
_EXPECTED = (200, *GONE, UNCHANGED)
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (429, 500, 502, 503, 504)
_HOPS = 5
# The seconds between tries, where another one may help.
_PAUSES = (0.5, 1.0, None)
# A server may say of files with these endings that they are encoded, although they are stored so.
_COMPRESSED = (".gz", ".tgz", ".svgz", ".bz2", ".br", ".zst", ".xz", ".z")


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request for a file: ``named`` is its address as the author wrote it, for messages.

    With an ``etag``, the content is only sent if it is no longer the one with it. The origin of an ``own`` file is
    configured: it may have private addresses, it gets the ``authorization``, and ``http:`` is what its owner wrote.
    ``also`` are statuses that are an answer, too.
    """

    url: str
    named: str
    etag: str = ""
    authorization: str = ""
    is_own: bool = False
    also: Container[int] = ()


@dataclass(frozen=True, slots=True)
class WebClient:
    """Reads from the web what the connector's settings allow."""

    connector: WebConnector

    @contextmanager
    def get(self, request: WebRequest) -> Iterator[WebResponse]:
        """Yield the response to a request, after redirects: with the content, GONE or UNCHANGED.

        Raise BadUsage or AddressRefused for an address that may not be read, and StoreOutOfReach if the server does
        not answer, or answers something else.
        """
        url = request.url
        configured = origin(split_address(url, request.named)) if request.is_own else None
        for _ in range(_HOPS + 1):
            address = split_address(url, request.named)
            is_own = configured is not None and origin(address) == configured
            if not is_own:
                require_encrypted(address, request.named, self.connector.settings)
            with closing(self._answer(request, address, is_own=is_own)) as response:
                if response.status not in _REDIRECTS:
                    if response.status not in request.also:
                        _require_content(response)
                    yield response
                    return
                url = _next(url, response)
        raise StoreOutOfReach(f"`{request.named}` leads to more than {_HOPS} other addresses", "Name the last of them.")

    def _answer(self, request: WebRequest, address: SplitResult, *, is_own: bool) -> WebResponse:
        """Return the response of one server, asked again if it is only busy or breaks off."""
        for pause in _PAUSES:
            try:
                response = self._ask(request, address, is_own=is_own)
            except (http.client.HTTPException, OSError) as error:
                if pause is None or not isinstance(error, ConnectionError):
                    raise _unanswered(request.named, error) from None
            else:
                if pause is None or response.status not in _BUSY:
                    return response
                response.close()
            time.sleep(pause)
        raise _unanswered(request.named, ConnectionError())

    def _ask(self, request: WebRequest, address: SplitResult, *, is_own: bool) -> WebResponse:
        settings = self.connector.settings
        is_private_allowed = is_own or ascii_host(address) in settings.allowed
        opened = self.connector.open(address, is_private_allowed=is_private_allowed)
        with ExitStack() as stack:
            stack.callback(opened.close)
            limits = settings.limits
            bounded = BoundedSocket(opened, time.monotonic() + limits.header_seconds, limits.idle_seconds)
            connection = http.client.HTTPConnection(address.hostname or "")
            connection.sock = bounded
            connection.putrequest("GET", request_target(address), skip_host=True, skip_accept_encoding=True)
            for name, value in _headers(request, address, is_own=is_own).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = WebResponse(request.named, address.geturl(), connection.getresponse(), bounded, limits)
            stack.pop_all()
        return response


def _headers(request: WebRequest, address: SplitResult, *, is_own: bool) -> dict[str, str]:
    headers = {"Host": host_header(address), "User-Agent": "nbpipe", "Accept": "*/*", "Accept-Encoding": "identity"}
    headers["Connection"] = "close"
    if request.etag:
        headers["If-None-Match"] = request.etag
    if is_own and request.authorization:
        headers["Authorization"] = request.authorization
    return headers


def _next(url: str, response: WebResponse) -> str:
    """Return where a redirect leads; raise AddressRefused if that is from an encrypted address to another one."""
    target = response.header("Location")
    if not target:
        raise StoreOutOfReach(f"`{response.named}` leads to another address that is not given", "Check the address.")
    following = urljoin(url, target)
    if urlsplit(url).scheme == "https" and urlsplit(following).scheme == "http":
        message = f"`{response.named}` leads to an address that is not encrypted"
        raise AddressRefused(message, "Name another address of the file.")
    return following


def _require_content(response: WebResponse) -> None:
    """Raise StoreOutOfReach if a response is neither the whole content as it is stored, nor GONE or UNCHANGED."""
    named = response.named
    if response.status in REFUSED:
        raise refused_access(named)
    if response.status not in _EXPECTED:
        reason = f"{response.status} {response.received.reason}"[:100]
        raise StoreOutOfReach(f"`{named}` cannot be read: the server answers {reason}", "Check the address.")
    if response.size is not None and response.size > response.limits.content:
        raise too_long(named, response.limits.content)
    encoding = response.header("Content-Encoding").lower()
    if encoding not in ("", "identity") and not urlsplit(response.url).path.lower().endswith(_COMPRESSED):
        message = f"`{named}` cannot be read: the server sends it as {encoding[:40]!r}, which was not asked for"
        raise StoreOutOfReach(message, "Name an address where the file is sent as it is stored.")


def refused_access(named: str) -> StoreOutOfReach:
    """Return the error for a file that the server does not let us read."""
    hint = "Files that need credentials are read from a datastore whose `credentials` are right: docs/datastores.md"
    return StoreOutOfReach(f"the server refuses access to `{named}`", hint)


def _unanswered(named: str, error: Exception) -> StoreOutOfReach:
    problem = "it sends headers without an end" if isinstance(error, TooMuchBesideContent) else str(error)
    message = f"`{named}` cannot be read: {problem[:200] or type(error).__name__}"
    return StoreOutOfReach(message, "Check the address, and try again.")
