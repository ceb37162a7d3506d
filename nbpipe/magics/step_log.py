"""What a running step has told, gathered from its events into what a card shows of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from nbpipe.model import StepEvent, StepEventKind
from nbpipe.views.card_state import StepActivity

_LINES = 300
_POINTS = 2000
_LONGEST = 4000


@dataclass(slots=True)
class StepLog:
    """The newest lines of both streams, the progress, the numbers by name; bounded, however much is told.

    A line that is still being written, such as a progress bar on standard error, stays below the finished ones.
    """

    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    _open: dict[str, str] = field(default_factory=dict)
    _progress: tuple[float, float | None, str] | None = None
    _metrics: dict[str, list[tuple[float | None, float]]] = field(default_factory=dict)
    _told: StepActivity | None = None

    def take(self, events: Iterable[StepEvent]) -> None:
        """Add events."""
        for event in events:
            self._add(event)
            self._told = None

    def told(self) -> StepActivity:
        """Get all of it as a card takes it."""
        if self._told is None:
            unfinished = [line.removesuffix("\r") for line in self._open.values() if line.strip("\r")]
            metrics = {name: tuple(points) for name, points in self._metrics.items()}
            self._told = StepActivity((*self._lines, *unfinished), self._progress, metrics)
        return self._told

    def _add(self, event: StepEvent) -> None:
        told = event.told
        if event.kind is StepEventKind.STREAM:
            self._write(str(told.get("name", "")), str(told.get("text", "")))
        elif event.kind is StepEventKind.DISPLAY and not told.get("rich"):
            # Pictures and the error have places of their own on a card.
            self._write("display", f"{told.get('text', '')}\n")
        elif event.kind is StepEventKind.PROGRESS:
            total = told.get("total")
            said = str(told.get("description", ""))
            self._progress = (float(told["done"]), None if total is None else float(total), said)
        elif event.kind is StepEventKind.METRIC:
            points = self._metrics.setdefault(str(told["name"]), [])
            points.append((told.get("step"), float(told["value"])))
            del points[:-_POINTS]

    def _write(self, stream: str, text: str) -> None:
        *finished, rest = text.split("\n")
        begun = self._open.pop(stream, "")
        for line in finished:
            self._lines.append(_overwritten(begun + line).removesuffix("\r"))
            begun = ""
        self._open[stream] = _overwritten(begun + rest)


def _overwritten(line: str) -> str:
    """Get a line as a terminal shows it: what comes after a carriage return stands in the place of what was there."""
    body = line.rstrip("\r")
    return body.rpartition("\r")[2][:_LONGEST] + ("\r" if len(body) < len(line) else "")
