"""Standard streams that never make a command fail: output to a closed, full or abandoned stream is lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class _Lenient:
    """Writes to a stream until it fails; the failure is reported once."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        # Neither buffered text nor later writes of other code may fail again.
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, self._stream.fileno())
        os.close(sink)
        # A reader that has closed the pipe needs no more output.
        if not isinstance(error, BrokenPipeError) and self._name == "output":
            sys.stderr.write(f"warning: standard output cannot be written: {error.strerror}\n")
            sys.stderr.flush()


@contextmanager
def lenient() -> Iterator[None]:
    """Make standard input, output and error usable, whatever state they are inherited in."""
    _occupy()
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = before[0] or _opened(0, "r")
    sys.stdout = cast("TextIO", _Lenient(before[1] or _opened(1, "w"), "output"))
    sys.stderr = cast("TextIO", _Lenient(before[2] or _opened(2, "w"), "error"))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _occupy() -> None:
    """Open the null device for closed standard streams, so that no other file gets their number and output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # noqa: FBT003 - theirs


def _opened(number: int, mode: str) -> TextIO:
    return cast("TextIO", open(number, mode, encoding="utf-8", closefd=False))
