"""The events of an attempt as numbered pieces in a growing file: written by its worker, read by watchers.

A file instead of messages: it is ordered and complete for watchers that start late or restart, and needs no connection.
A piece is one line with one event; pieces are numbered from 1 in the order of the events.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nbpipe.model import Metric, StepEvent, StepEventKind
from nbpipe.permissions import open_private

NAME = "events.jsonl"
# A display needs no more than this of a flood of output.
_MOST_BYTES = 4 << 20
_MOST_TEXT = 64 << 10
_PAUSE = 0.05
_LARGEST = 1e308
_NUMBERED = re.compile(rb'\{"number": (\d{1,18}),')


def _ignore_pieces(_pieces: int) -> None:
    """Do nothing."""


class EventFileWriter:
    """Writes one attempt's events; events within a twentieth of a second are joined and written together.

    The file is created with the first event. ``wrote`` is called with the number of the newest piece after each write;
    it must return at once.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], float] = time.time, wrote: Callable[[int], None] = _ignore_pieces
    ) -> None:
        self._path = directory / NAME
        self._file: FileIO | None = None
        self._clock = clock
        self._wrote = wrote
        self._number = 0
        self._announced = 0
        self._written = 0
        self._left_out = 0
        self._waiting: list[dict[str, Any]] = []
        self._lock = threading.Lock()
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
        self._write()
        if self._left_out:
            self._put({"kind": StepEventKind.CUT, "cell": None, "told": {"count": self._left_out}})
        if self._file is not None:
            self._file.close()
        self._announce()

    def tell(self, kind: StepEventKind, cell: int | None, content: Mapping[str, Any]) -> None:
        """Add an event; successive texts of one stream are joined into one event."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if kind is StepEventKind.STREAM and last and _continues(last, cell, content):
                last["told"] = {**content, "text": last["told"]["text"] + content["text"]}
                return
            self._waiting.append({"kind": kind, "cell": cell, "told": dict(content)})

    def _write_often(self) -> None:
        while not self._over.wait(_PAUSE):
            self._write()
            self._announce()

    def _announce(self) -> None:
        if self._number > self._announced:
            self._announced = self._number
            self._wrote(self._number)

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for event in waiting:
            if self._written > _MOST_BYTES and event["kind"] in (StepEventKind.STREAM, StepEventKind.DISPLAY):
                self._left_out += 1
            else:
                self._put(event)

    def _put(self, event: dict[str, Any]) -> None:
        self._number += 1
        text = event["told"].get("text")
        if isinstance(text, str) and len(text) > _MOST_TEXT:
            event["told"]["text"] = f"{text[: _MOST_TEXT // 2]}\n…\n{text[-_MOST_TEXT // 2 :]}"
        line = json.dumps({"number": self._number, "time": self._clock(), **event}, ensure_ascii=True).encode() + b"\n"
        self._written += len(line)
        if self._file is None:
            self._file = os.fdopen(open_private(self._path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)
        self._file.write(line)


def _continues(last: Mapping[str, Any], cell: int | None, content: Mapping[str, Any]) -> bool:
    same = last["kind"] is StepEventKind.STREAM and last["cell"] == cell and last["told"]["name"] == content["name"]
    return same and len(last["told"]["text"]) < _MOST_TEXT


class PieceReader:
    """Reads one attempt's pieces by number; remembers the offset of each."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._numbers = array("q")
        self._offsets = array("q")
        self._end = 0

    def read(self, after: int, upto: int | None = None) -> list[StepEvent]:
        """Return the pieces after number ``after``, up to number ``upto`` or the newest.

        An incomplete last line is ignored. Pieces that are missing between others, or cannot be read, are replaced by
        one event that says so, with the number of the last of them.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._end)
                self._remember(file.read())
                first = bisect_right(self._numbers, after)
                stop = len(self._numbers) if upto is None else bisect_right(self._numbers, upto)
                if first >= len(self._numbers):
                    return []
                file.seek(self._offsets[first])
                size = self._end if stop == len(self._numbers) else self._offsets[stop]
                lines = file.read(max(0, size - self._offsets[first])).split(b"\n")
        except FileNotFoundError:
            return []
        # If a later piece exists, pieces missing before it will not come.
        last = self._numbers[-1] if upto is None else min(upto, self._numbers[-1])
        return list(_without_gaps(lines, after, last))

    def _remember(self, content: bytes) -> None:
        """Record the offsets of the complete lines in new content; skip those without a new number."""
        start = 0
        while (end := content.find(b"\n", start)) >= 0:
            match = _NUMBERED.match(content, start, end)
            number = int(match[1]) if match else 0
            if number > (self._numbers[-1] if self._numbers else 0):
                self._numbers.append(number)
                self._offsets.append(self._end + start)
            start = end + 1
        self._end += start


def _without_gaps(lines: Iterable[bytes], after: int, last: int) -> Iterator[StepEvent]:
    """Yield the events of some lines, and one for each gap between ``after`` and ``last``."""
    previous, time = after, 0.0
    for event in filter(None, map(_event, lines)):
        if not previous < event.number <= last:
            continue
        time = event.time
        if event.number > previous + 1:
            yield _missing(previous + 1, event.number - 1, time)
        yield event
        previous = event.number
    if previous < last:
        yield _missing(previous + 1, last, time)


def _missing(first: int, last: int, time: float) -> StepEvent:
    which = f"piece {first}" if first == last else f"pieces {first} to {last}"
    text = f"[nbpipe: {which} of the step's output cannot be read]\n"
    return StepEvent(last, time, StepEventKind.STREAM, None, {"name": "stderr", "text": text})


def metrics_of(events: Iterable[StepEvent], run: str, step: str, attempt: str) -> list[Metric]:
    """Return the metrics among some events of an attempt."""
    return [
        Metric(run, step, attempt, e.number, e.told["name"], float(e.told["value"]), e.told.get("step"), e.time)
        for e in events
        if e.kind is StepEventKind.METRIC
    ]


def event_in(data: object) -> tuple[StepEventKind, dict[str, Any]] | None:
    """Return the kind and content of an event that a step's kernel displayed; None for anything else.

    The kernel runs the author's code, which may display anything under any name.
    """
    if not isinstance(data, Mapping):
        return None
    content = {str(name): value for name, value in data.items() if name != "kind"}
    kind_name = data.get("kind")
    kind = next((kind for kind in _KINDS if kind == kind_name), None)
    if kind is None or not all(check(content.get(name)) for name, check in _KINDS[kind].items()):
        return None
    return kind, content


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_place(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63)


def _is_name(value: object) -> bool:
    return isinstance(value, str)


_KINDS: Mapping[StepEventKind, Mapping[str, Callable[[object], bool]]] = {
    StepEventKind.METRIC: {"name": _is_name, "value": _is_number, "step": _is_place},
    StepEventKind.PROGRESS: {
        "done": _is_number,
        "total": lambda value: value is None or _is_number(value),
        "description": lambda value: value is None or _is_name(value),
    },
    StepEventKind.TABLE: {"name": _is_name, "columns": lambda value: isinstance(value, list)},
    StepEventKind.IMAGE: {"name": _is_name},
}


def _event(line: bytes) -> StepEvent | None:
    """Return the event of a line; None if it is invalid."""
    try:
        piece = json.loads(line)
        kind = StepEventKind(piece["kind"])
        return StepEvent(int(piece["number"]), float(piece["time"]), kind, piece["cell"], dict(piece["told"]))
    except (ValueError, LookupError, TypeError):
        return None
