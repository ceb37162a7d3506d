"""The log of a running step, collected from its events for its card."""

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
    """The newest lines of both streams, the progress, and the metrics by name, all bounded.

    An unfinished line, such as a progress bar on standard error, stays below the finished lines.
    """

    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    _open: dict[str, str] = field(default_factory=dict)
    _progress: tuple[float, float | None, str] | None = None
    _metrics: dict[str, list[tuple[float | None, float]]] = field(default_factory=dict)
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
            metrics = {name: tuple(points) for name, points in self._metrics.items()}
            self._activity = StepActivity((*self._lines, *unfinished), self._progress, metrics)
        return self._activity

    def _add(self, event: StepEvent) -> None:
        content = event.told
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
            points = self._metrics.setdefault(str(content["name"]), [])
            points.append((content.get("step"), float(content["value"])))
            del points[:-_POINTS]

    def _write(self, stream: str, text: str) -> None:
        *finished, unfinished = text.split("\n")
        pending = self._open.pop(stream, "")
        for line in finished:
            self._lines.append(_overwritten(pending + line).removesuffix("\r"))
            pending = ""
        self._open[stream] = _overwritten(pending + unfinished)


def _overwritten(line: str) -> str:
    """Return a line as a terminal shows it: text after a carriage return replaces the text before it."""
    body = line.rstrip("\r")
    return body.rpartition("\r")[2][:_LONGEST] + ("\r" if len(body) < len(line) else "")
