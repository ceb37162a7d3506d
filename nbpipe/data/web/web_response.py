"""Responses of the web: their content, as it arrives, within the limits."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from nbpipe.data.web.bounded_socket import BoundedSocket
from nbpipe.errors import StoreOutOfReach
from nbpipe.model.web import WebLimits

UNCHANGED = 304
_CHUNK = 256 << 10
_WINDOW = 30.0
_LONGEST_ETAG = 1000


@dataclass(frozen=True, slots=True)
class WebResponse:
    """A response whose content has not been read yet; ``named`` is the address that the author wrote."""

    named: str
    url: str
    received: http.client.HTTPResponse
    bounded: BoundedSocket
    limits: WebLimits

    @property
    def status(self) -> int:
        """Return the status code."""
        return self.received.status

    @property
    def size(self) -> int | None:
        """Return the content's size in bytes; None if the server does not announce it."""
        return self.received.length

    @property
    def etag(self) -> str:
        """Return the ETag if it is a strong one, which changes with every byte; else an empty text."""
        etag = self.header("ETag")
        return etag if len(etag) > 2 and etag[0] == etag[-1] == '"' and len(etag) < _LONGEST_ETAG else ""

    @property
    def modified(self) -> float:
        """Return when the content was last changed, in seconds since the epoch; 0 if the server does not say."""
        try:
            return parsedate_to_datetime(self.header("Last-Modified")).timestamp()
        except (ValueError, TypeError, OverflowError):
            return 0.0

    def header(self, name: str) -> str:
        """Return a header's value; empty if there is none, or if it is not ASCII."""
        value = str(self.received.headers.get(name, "")).strip()
        return value if value.isascii() else ""

    def pieces(self) -> Iterator[bytes]:
        """Yield the content; raise StoreOutOfReach if it is too long, too slow, or not complete."""
        self.bounded.deadline = time.monotonic() + self.limits.seconds
        announced, total, recent, since = self.size, 0, 0, time.monotonic()
        while piece := self._piece():
            self.bounded.received(len(piece))
            total, recent = total + len(piece), recent + len(piece)
            if total > self.limits.content:
                raise too_long(self.named, self.limits.content)
            passed = time.monotonic() - since
            if passed > min(_WINDOW, self.limits.idle_seconds):
                if recent < passed * self.limits.slowest:
                    raise _broken(self.named, f"it sends less than {self.limits.slowest} bytes a second")
                recent, since = 0, time.monotonic()
            yield piece
        if announced is not None and total != announced:
            raise _broken(self.named, f"{total} of {announced} bytes arrived")

    def close(self) -> None:
        """End the connection."""
        self.received.close()
        self.bounded.connected.close()

    def _piece(self) -> bytes:
        try:
            return self.received.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _broken(self.named, str(error) or type(error).__name__) from None


def too_long(named: str, limit: int) -> StoreOutOfReach:
    """Return the error for content beyond the limit, in bytes."""
    message = f"`{named}` has more than {limit:,} bytes, the limit of what is read from the web"
    return StoreOutOfReach(message, "If it is meant to be so long, raise `limit` of [web] in nbpipe.toml.")


def _broken(named: str, problem: str) -> StoreOutOfReach:
    return StoreOutOfReach(f"`{named}` was not read to its end: {problem}", "Try again, or name another address.")
