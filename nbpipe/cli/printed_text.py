"""Text as it is printed: harmless to a terminal, and in the encoding of its stream."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from nbpipe.views.terminal_text import harmless_lines


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output."""
    for line in lines:
        print(printable(line, sys.stdout))
    sys.stdout.flush()


def printable(text: str, stream: TextIO) -> str:
    """Return text that steers no terminal, whoever wrote it, and that the stream's encoding can represent."""
    return encodable(harmless_lines(text), stream)


def encodable(text: str, stream: TextIO) -> str:
    """Return text that the stream's encoding can represent: a plain C locale must not break a message."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding, "replace")
