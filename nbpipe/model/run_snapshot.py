"""The state of a run as far as its log has been read; every user interface displays this."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nbpipe.model.events import (
    AttemptChanged,
    ExecutionChanged,
    MetricsLogged,
    MetricSummary,
    OutputWritten,
    RunChanged,
    RunEvent,
    RunGrown,
)
from nbpipe.model.records import AttemptRecord, ExecutionRecord
from nbpipe.model.status import Status


@dataclass(slots=True)
class RunSnapshot:
    """A run reconstructed from its log. ``after`` is the number of the last entry that was applied.

    ``metrics`` are found by attempt and name.
    """

    after: int = 0
    status: Status | None = None
    ended: float | None = None
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    attempts: dict[str, AttemptRecord] = field(default_factory=dict)
    metrics: dict[str, dict[str, MetricSummary]] = field(default_factory=dict)
    pieces: dict[str, int] = field(default_factory=dict)
    requests: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _current: dict[str, str] = field(default_factory=dict)

    def take(self, events: Iterable[RunEvent]) -> None:
        """Apply entries of the log; raise ValueError if one is missing."""
        for event in events:
            if event.number <= self.after:
                continue
            if event.number != self.after + 1:
                raise ValueError(f"entry {self.after + 1} of the run's log is missing: entry {event.number} follows")
            self.after = event.number
            self._apply(event)

    def execution(self, step: str) -> ExecutionRecord | None:
        """Return the step's current execution."""
        current_id = self._current.get(step)
        return None if current_id is None else self.executions[current_id]

    def current(self) -> tuple[ExecutionRecord, ...]:
        """Return the current execution of each step, in notebook order."""
        records = [self.executions[current_id] for current_id in self._current.values()]
        return tuple(sorted(records, key=lambda execution: (execution.position, execution.step)))

    def _apply(self, event: RunEvent) -> None:
        match event.fact:
            case RunChanged(status, ended):
                self.status, self.ended = status, ended
            case RunGrown(request, executions):
                self.requests[request] = executions
            case ExecutionChanged(execution):
                self._keep(execution)
            case AttemptChanged(attempt):
                self.attempts[attempt.id] = attempt
            case MetricsLogged():
                _summarize(event.fact, self.metrics.setdefault(event.fact.attempt, {}))
            case OutputWritten(attempt, _, last):
                self.pieces[attempt] = last
                if attempt in self.attempts:
                    self.attempts[attempt] = replace(self.attempts[attempt], pieces=last)

    def _keep(self, execution: ExecutionRecord) -> None:
        self.executions[execution.id] = execution
        if execution.current:
            self._current[execution.step] = execution.id
        elif self._current.get(execution.step) == execution.id:
            del self._current[execution.step]


def _summarize(logged: MetricsLogged, summaries: dict[str, MetricSummary]) -> None:
    """Add numbers to what is known of their names."""
    values: dict[str, list[float]] = {}
    for point in logged.points:
        values.setdefault(point.name, []).append(point.value)
    ordinals = {point.name: point.ordinal for point in logged.points}
    for name, new in values.items():
        before = summaries.get(name)
        known = new if before is None else [before.lowest, before.highest, *new]
        comparable = [value for value in known if not math.isnan(value)] or [math.nan]
        first = new[0] if before is None else before.first
        summaries[name] = MetricSummary(ordinals[name], first, new[-1], min(comparable), max(comparable))
