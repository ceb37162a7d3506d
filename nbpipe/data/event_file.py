"""The events of an attempt as numbered pieces in a growing file: written by its worker, read by watchers.

A file instead of messages: it is ordered and complete for watchers that start late or restart, and needs no connection.
A piece is one line with one event; pieces are numbered from 1 in the order of the events.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbpipe.codec import convert
from nbpipe.data.atomic_file import write_file
from nbpipe.data.regular_file import open_regular, read_regular
from nbpipe.model import MetricPoint, MetricsLogged, StepEvent, StepEventKind

NAME = "events.jsonl"
_NUMBERED = re.compile(rb'\{"number": (\d{1,18}),')


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
            with open_regular(self._path) as file:
                file.seek(self._end)
                self._remember(file.read())
                first = bisect_right(self._numbers, after)
                stop = len(self._numbers) if upto is None else bisect_right(self._numbers, upto)
                if first >= len(self._numbers):
                    return []
                file.seek(self._offsets[first])
                size = self._end if stop == len(self._numbers) else self._offsets[stop]
                lines = file.read(max(0, size - self._offsets[first])).split(b"\n")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return []
        # If a later piece exists, pieces missing before it will not come.
        last = self._numbers[-1] if upto is None else min(upto, self._numbers[-1])
        return list(_without_gaps(lines, after, last))

    def recorded(self, first: int, last: int) -> list[StepEvent]:
        """Return the pieces from one number to another, which the run's log says were written.

        Those that the file lacks will not come, so one event at the end says so.
        """
        events = self.read(first - 1, last)
        end, time = (events[-1].number, events[-1].time) if events else (first - 1, 0.0)
        return events if end >= last else [*events, _missing(end + 1, last, time)]

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


def lost_pieces(directory: Path, count: int) -> int:
    """Return how many of the first ``count`` pieces the file of an attempt lacks, or has unreadable."""
    numbers = _readable(directory)
    return sum(number not in numbers for number in range(1, count + 1))


def fill_gaps(directory: Path, count: int) -> None:
    """Put a note into the file of an attempt for each of its first ``count`` pieces that it lacks."""
    lines, time = _readable(directory), 0.0
    every = []
    for number in range(1, max([count, *lines]) + 1):
        if number in lines:
            time = lines[number][0]
        event = _missing(number, number, time)
        note = {
            "number": number, "time": time, "kind": event.kind.value, "cell": event.cell, "content": event.content
        }  # fmt: skip
        every.append(lines[number][1] if number in lines else json.dumps(note).encode())
    write_file(directory / NAME, b"".join(line + b"\n" for line in every), durable=False)


def _readable(directory: Path) -> dict[int, tuple[float, bytes]]:
    """Return the complete lines of an attempt's file by number, each with its time."""
    try:
        content = read_regular(directory / NAME)
    except OSError:
        return {}
    events = ((line, _event(line)) for line in content.split(b"\n")[:-1])
    return {event.number: (event.time, line) for line, event in events if event is not None}


def metrics_of(events: Iterable[StepEvent], run: str, step: str, attempt: str) -> list[MetricsLogged]:
    """Return the metrics among some events of an attempt, as entries of its run's log."""
    logged = (event for event in events if event.kind is StepEventKind.METRIC)
    return [MetricsLogged(run, step, attempt, event.number, event.content["points"]) for event in logged]


def _event(line: bytes) -> StepEvent | None:
    """Return the event of a line; None if it is invalid."""
    try:
        piece = json.loads(line)
        kind, content = StepEventKind(piece["kind"]), dict(piece["content"])
        if kind is StepEventKind.METRIC:
            content["points"] = convert(content["points"], tuple[MetricPoint, ...])
        return StepEvent(int(piece["number"]), float(piece["time"]), kind, piece["cell"], content)
    except (ValueError, LookupError, TypeError):
        return None
