"""The log of a running step, collected from its events for its card."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbpipe.model import Metric, MetricPoint, StepEvent, StepEventKind
from nbpipe.views.card_state import StepActivity
from nbpipe.views.log_text import joined, shown
from nbpipe.views.sparkline import thinned

_LINES = 300
_POINTS = 1000
_LONGEST = 4000


@dataclass(slots=True)
class StepLog:
    """The newest lines of both streams, the progress, and the metrics by name, all bounded.

    An unfinished line, such as a progress bar on standard error, stays below the finished lines.
    """

    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    _open: dict[str, str] = field(default_factory=dict)
    _progress: tuple[float, float | None, str] | None = None
    _metrics: dict[str, _Curve] = field(default_factory=dict)
    _activity: StepActivity | None = None

    def take(self, events: Iterable[StepEvent]) -> None:
        """Add events."""
        for event in events:
            self._add(event)
            self._activity = None

    def activity(self) -> StepActivity:
        """Return the log in the form that a card shows."""
        if self._activity is None:
            unfinished = [line.removesuffix("\r") for line in self._open.values() if line.strip("\r")]
            metrics = {name: curve.points() for name, curve in self._metrics.items()}
            counts = {name: curve.count for name, curve in self._metrics.items()}
            self._activity = StepActivity((*self._lines, *unfinished), self._progress, metrics, counts)
        return self._activity

    def _add(self, event: StepEvent) -> None:
        content = event.content
        if event.kind is StepEventKind.STREAM:
            self._write(str(content.get("name", "")), str(content.get("text", "")))
        elif event.kind is StepEventKind.DISPLAY and not content.get("rich"):
            # Pictures and errors are shown elsewhere on a card.
            self._write("display", f"{content.get('text', '')}\n")
        elif event.kind is StepEventKind.PROGRESS:
            total = content.get("total")
            description = str(content.get("description", ""))
            self._progress = (float(content["done"]), None if total is None else float(total), description)
        elif event.kind is StepEventKind.METRIC:
            for point in content["points"]:
                self._metrics.setdefault(point.name, _Curve()).add(point)

    def _write(self, stream: str, text: str) -> None:
        *finished, unfinished = text.split("\n")
        pending = self._open.pop(stream, "")
        for line in finished:
            self._lines.append(_overwritten(pending + line).removesuffix("\r"))
            pending = ""
        self._open[stream] = _overwritten(pending + unfinished)


def as_events(notebook: Mapping[str, Any], metrics: Iterable[Metric]) -> Iterator[StepEvent]:
    """Return as a step's events what its executed notebook says that it printed, and the numbers that it logged."""
    for number, output in enumerate(shown(notebook), 1):
        if output["output_type"] == "stream":
            content = {"name": output.get("name", ""), "text": joined(output.get("text", ""))}
            yield StepEvent(number, 0.0, StepEventKind.STREAM, None, content)
        else:
            content = {"text": joined(output["data"].get("text/plain", "")), "rich": len(output["data"]) > 1}
            yield StepEvent(number, 0.0, StepEventKind.DISPLAY, None, content)
    points = [MetricPoint(each.name, each.value, each.at, each.time, each.ordinal) for each in metrics]
    if points:
        yield StepEvent(0, 0.0, StepEventKind.METRIC, None, {"points": points})


class _Curve:
    """The numbers of one name as a curve of at most 1,000 points, however many there are."""

    __slots__ = ("_points", "count")

    def __init__(self) -> None:
        self._points: list[MetricPoint] = []
        self.count = 0

    def add(self, point: MetricPoint) -> None:
        """Add a number."""
        self.count = point.ordinal
        self._points.append(point)
        if len(self._points) > _POINTS:
            places = thinned([each.value for each in self._points], _POINTS // 2)
            self._points = [self._points[place] for place in places]

    def points(self) -> tuple[tuple[float | None, float], ...]:
        """Return the curve's points; where not each has a step, they are placed by their order."""
        stepped = all(point.at is not None for point in self._points)
        return tuple((point.at if stepped else point.ordinal, point.value) for point in self._points)


def _overwritten(line: str) -> str:
    """Return a line as a terminal shows it: text after a carriage return replaces the text before it."""
    body = line.rstrip("\r")
    return body.rpartition("\r")[2][:_LONGEST] + ("\r" if len(body) < len(line) else "")
