"""A step's records on their worker: read while the step writes them, checked, and made events.

The author's code may write anything to the file; what is no record is skipped.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbpipe.data.metric_series import MetricSeries
from nbpipe.data.record_file import LONGEST, NAME
from nbpipe.model import MetricPoint, StepEventKind

Event = tuple[StepEventKind, dict[str, Any]]

WHOLE = 1_000
"""So many tables, and so many images, of one name are recorded, and the last one."""

_BLOCK = 1 << 20
_POINTS = 2_000
_BARS = 20
# fallocate's FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE.
_PUNCH = 3
_PAGE = 4096


class RecordReader:
    """Reads the records of one attempt as events: metrics in batches, of progress the newest of each description."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = directory / NAME
        self._clock = clock
        self._position = 0
        self._begun = b""
        self._series: dict[str, MetricSeries] = {}
        self._displayed: dict[tuple[StepEventKind, str], _Displayed] = {}
        # Opened once: what the author's code does with the path makes no difference.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def remove(self) -> None:
        """Remove the file."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, and leave it where it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def events(self) -> Iterator[list[Event]]:
        """Yield the events that have come, some at a time; what comes meanwhile is for the next call.

        A record is taken only as its events are asked for.
        """
        end = os.fstat(self._descriptor).st_size
        if end < self._position:
            # The author's code has cut the file.
            self._position, self._begun = 0, b""
        while self._position < end:
            block = os.pread(self._descriptor, min(_BLOCK, end - self._position), self._position)
            if not block:
                return
            *lines, begun = (self._begun + block).split(b"\n")
            self._begun = begun if len(begun) <= LONGEST else b""
            self._free(self._position + len(block))
            yield self._events_of(lines)

    def rest(self) -> list[Event]:
        """Return the events that were held back: of names with very many values, the newest."""
        points = [point for series in self._series.values() for point in series.rest()]
        displayed = [(kind, last) for (kind, _), each in self._displayed.items() if (last := each.rest()) is not None]
        return [*_batches(points), *displayed]

    def _free(self, upto: int) -> None:
        """Give back the disk space of what was read: a step may record more than the disk holds."""
        first, self._position = self._position // _PAGE * _PAGE, upto
        length = upto // _PAGE * _PAGE - first
        if length > 0 and sys.platform == "linux":
            with contextlib.suppress(AttributeError, OSError):
                _LIBC.fallocate(self._descriptor, _PUNCH, ctypes.c_int64(first), ctypes.c_int64(length))

    def _events_of(self, lines: Iterable[bytes]) -> list[Event]:
        shown_events: list[Event] = []
        points: list[MetricPoint] = []
        progress: dict[str | None, Event] = {}
        for kind, content in filter(None, map(_record, lines)):
            if kind is StepEventKind.METRIC:
                points += self._points(content)
            elif kind is StepEventKind.PROGRESS:
                # Of each bar; those whose descriptions change all the time are few that matter.
                described = content.get("description")
                progress.pop(described, None)
                progress[described] = kind, content
            else:
                key = kind, content["name"]
                shown = self._displayed.setdefault(key, _Displayed()).add(content)
                shown_events += [*_batches(points), *([(kind, shown)] if shown is not None else [])]
                points = []
        return [*shown_events, *_batches(points), *list(progress.values())[-_BARS:]]

    def _points(self, content: Mapping[str, Any]) -> list[MetricPoint]:
        name, at = content["name"], content.get("step")
        if name not in self._series:
            self._series[name] = MetricSeries(name)
        logged: Any = content.get("time")
        known = isinstance(logged, float) and math.isfinite(logged)
        return self._series[name].add(float(content["value"]), at, float(logged) if known else self._clock())


class _Displayed:
    """The tables or images of one name: the first ones, and the newest."""

    __slots__ = ("_count", "_newest")

    def __init__(self) -> None:
        self._count = 0
        self._newest: dict[str, Any] | None = None

    def add(self, content: dict[str, Any]) -> dict[str, Any] | None:
        """Add one, and return it if it is to be recorded now."""
        self._count += 1
        content["ordinal"] = self._count
        if self._count <= WHOLE:
            return content
        self._newest = content
        return None

    def rest(self) -> dict[str, Any] | None:
        """Return the newest one, if it is held back."""
        newest, self._newest = self._newest, None
        return newest


def _batches(points: list[MetricPoint]) -> list[Event]:
    starts = range(0, len(points), _POINTS)
    return [(StepEventKind.METRIC, {"points": points[start : start + _POINTS]}) for start in starts]


def _record(line: bytes) -> Event | None:
    """Return the record of a line; None if it is none."""
    if not line:
        return None
    try:
        return event_in(json.loads(line))
    except (ValueError, RecursionError):
        return None


def event_in(data: object) -> Event | None:
    """Return the kind and content of a record; None for anything else."""
    if not isinstance(data, Mapping):
        return None
    content = {str(name): value for name, value in data.items() if name != "kind"}
    kind = _KIND_NAMES.get(name) if isinstance(name := data.get("kind"), str) else None
    if kind is None or not all(check(content.get(field)) for field, check in _KINDS[kind]):
        return None
    return kind, content


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float)


def _is_place(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63)


def _is_name(value: object) -> bool:
    return isinstance(value, str)


_KINDS: Mapping[StepEventKind, tuple[tuple[str, Callable[[object], bool]], ...]] = {
    StepEventKind.METRIC: (("name", _is_name), ("value", _is_number), ("step", _is_place)),
    StepEventKind.PROGRESS: (
        ("done", _is_number),
        ("total", lambda value: value is None or _is_number(value)),
        ("description", lambda value: value is None or _is_name(value)),
    ),
    StepEventKind.TABLE: (("name", _is_name), ("columns", lambda value: isinstance(value, list))),
    StepEventKind.IMAGE: (("name", _is_name),),
}
_KIND_NAMES = {kind.value: kind for kind in _KINDS}
_LIBC = ctypes.CDLL(None)
