"""Writes the events of an attempt, on its worker: what its kernel shows, and what its processes record."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from io import SEEK_END, FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nbpipe.data.event_file import NAME
from nbpipe.data.record_reader import RecordReader
from nbpipe.model import StepEventKind
from nbpipe.permissions import open_private

# A display needs no more than this of a flood of output.
_MOST_BYTES = 4 << 20
_MOST_TEXT = 64 << 10
_PAUSE = 0.05
# What is recorded is no flood of output.
_OUTPUT = (StepEventKind.STREAM, StepEventKind.DISPLAY)


def _ignore_pieces(_pieces: int) -> None:
    """Do nothing."""


class EventFileWriter:
    """Writes one attempt's events; events within a twentieth of a second are joined and written together.

    Among them are the records of the attempt's processes, which are removed from their own file at the end. The file of
    events is created with the first one. ``wrote`` is called with the number of the newest piece after each write; it
    must return at once. What cannot be written, as the disk is full, is tried again later, at last at the end.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], float] = time.time, wrote: Callable[[int], None] = _ignore_pieces
    ) -> None:
        self._pieces = _PieceFile(directory / NAME, clock)
        self._records = RecordReader(directory, clock)
        self._wrote = wrote
        self._announced = 0
        self._left_out = 0
        self._cell: int | None = None
        self._waiting: list[dict[str, Any]] = []
        self._unwritten: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_often, name="nbpipe-events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        try:
            self._write()
            self._unwritten += self._placed(self._records.rest())
            self._drain()
            if self._left_out:
                self._pieces.write({"kind": StepEventKind.CUT, "cell": None, "content": {"count": self._left_out}})
            self._records.remove()
        finally:
            self._records.close()
            self._pieces.close()
        self._announce()

    def tell(self, kind: StepEventKind, cell: int | None, content: Mapping[str, Any]) -> None:
        """Add an event; successive texts of one stream are joined into one event."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if kind is StepEventKind.STREAM and last and _continues(last, cell, content):
                last["content"] = {**content, "text": last["content"]["text"] + content["text"]}
                return
            self._waiting.append({"kind": kind, "cell": cell, "content": dict(content)})

    def begin_cell(self, cell: int | None) -> None:
        """Take further records for those of this cell of the author."""
        with suppress(OSError):
            self._write()
        self._cell = cell

    def _write_often(self) -> None:
        while not self._over.wait(_PAUSE):
            with suppress(OSError):
                self._write()
            self._announce()

    def _announce(self) -> None:
        if self._pieces.number > self._announced:
            self._announced = self._pieces.number
            self._wrote(self._announced)

    def _write(self) -> None:
        with self._writing:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            self._unwritten += waiting
            self._drain()
            for events in self._records.events():
                self._unwritten += self._placed(events)
                self._drain()

    def _placed(self, events: Iterable[tuple[StepEventKind, dict[str, Any]]]) -> list[dict[str, Any]]:
        return [{"kind": kind, "cell": self._cell, "content": content} for kind, content in events]

    def _drain(self) -> None:
        while self._unwritten:
            event = self._unwritten[0]
            if self._pieces.output > _MOST_BYTES and event["kind"] in _OUTPUT:
                self._left_out += 1
            else:
                self._pieces.write(event)
            self._unwritten.popleft()


def _continues(last: Mapping[str, Any], cell: int | None, content: Mapping[str, Any]) -> bool:
    same = last["kind"] is StepEventKind.STREAM and last["cell"] == cell and last["content"]["name"] == content["name"]
    return same and len(last["content"]["text"]) < _MOST_TEXT


class _PieceFile:
    """The file of an attempt's events; ``number`` is that of its newest piece, ``output`` the bytes of its output."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._file: FileIO | None = None
        self.number = 0
        self.output = 0

    def write(self, event: dict[str, Any]) -> None:
        """Write an event as the next piece, whole or not at all; raise OSError if it does not fit on the disk."""
        text = event["content"].get("text")
        if isinstance(text, str) and len(text) > _MOST_TEXT:
            event["content"]["text"] = f"{text[: _MOST_TEXT // 2]}\n…\n{text[-_MOST_TEXT // 2 :]}"
        piece = {"number": self.number + 1, "time": self._clock(), **event}
        line = json.dumps(piece, ensure_ascii=True).encode() + b"\n"
        if self._file is None:
            self._file = os.fdopen(open_private(self._path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)
        self._append(self._file, line)
        self.number += 1
        if event["kind"] in _OUTPUT:
            self.output += len(line)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()

    @staticmethod
    def _append(file: FileIO, line: bytes) -> None:
        size = file.seek(0, SEEK_END)
        try:
            written = file.write(line)
        except OSError:
            file.truncate(size)
            raise
        if written < len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))
