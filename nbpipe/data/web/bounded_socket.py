"""A connected socket that a server cannot keep busy forever: with a deadline, and a bound on what is not content."""

from __future__ import annotations

import io
import socket
import time
from typing import Any

# The status lines, headers, chunk sizes and trailers of a response, and what is read ahead.
_BESIDE_CONTENT = 2 << 20
# In pieces of one byte, each has at least five more around it.
_AROUND_EACH_BYTE = 8


class TooMuchBesideContent(OSError):
    """A server sends headers, or other things around the content, without an end."""


class BoundedSocket:
    """A socket as ``http.client`` uses one; ``deadline`` is a time of the monotonic clock.

    Closing it does nothing, because a response closes it before its content is read: whoever has opened the socket
    closes that.
    """

    def __init__(self, connected: socket.socket, deadline: float, idle_seconds: float) -> None:
        self.connected = connected
        self.deadline = deadline
        self._idle_seconds = idle_seconds
        self._allowance = _BESIDE_CONTENT

    def received(self, content: int) -> None:
        """Note that so many bytes were content."""
        self._allowance += content * _AROUND_EACH_BYTE

    def sendall(self, data: Any) -> None:
        """Send a request, or a part of it."""
        self._wait_at_most()
        self.connected.sendall(data)

    def makefile(self, _mode: str = "rb", *_: object) -> io.BufferedReader:
        """Return what is received as a file."""
        return io.BufferedReader(_Received(self))

    def close(self) -> None:
        """Do nothing."""

    def receive_into(self, buffer: Any) -> int:
        """Receive what comes next; raise TimeoutError if the server is too slow, TooMuchBesideContent as it says."""
        self._wait_at_most()
        count = self.connected.recv_into(buffer)
        self._allowance -= count
        if self._allowance < 0:
            raise TooMuchBesideContent("it sends headers without an end")
        return count

    def _wait_at_most(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it takes too long")
        self.connected.settimeout(min(left, self._idle_seconds))


class _Received(io.RawIOBase):
    def __init__(self, bounded: BoundedSocket) -> None:
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.receive_into(buffer)
