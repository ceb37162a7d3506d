"""The file through which a step's processes record metrics, tables, images and progress: one line of JSON for each.

A record is written with one system call, at the end of the file: lines of threads and child processes do not mix, and
what was written is there though the process is killed right after. The worker creates the file, takes over what is
in it while the step runs, and removes it. Shipped to steps' kernels as source: only the standard library.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "records.jsonl"
LONGEST = 8 << 20
"""The most bytes of a record."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class RecordWriter:
    """Appends records to an attempt's file, which must exist; any thread or forked process may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; raise OSError if it cannot be written, ValueError if it is too long."""
        # The newline before it ends whatever incomplete line is there.
        line = b"\n%b\n" % _ENCODER.encode(record).encode("ascii")
        if len(line) > LONGEST:
            raise ValueError(f"a record of {len(line):,} bytes is too long: the most is {LONGEST:,} bytes")
        if not self._is_open():
            self._open()
        # The second time for the error: the rest of the line does not fit on the disk.
        if os.write(self._descriptor, line) < len(line) and os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _open(self) -> None:
        self._descriptor = os.open(self._path, _FLAGS)
        self._identity = _identity(self._descriptor)

    def _is_open(self) -> bool:
        """Return whether the descriptor is still that of the file: the author's code may close any."""
        try:
            return _identity(self._descriptor) == self._identity
        except OSError:
            return False


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
