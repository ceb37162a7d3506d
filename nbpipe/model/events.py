"""What happens in a run: the entries of its log, and the events of a running step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from nbpipe.model.records import AttemptRecord, ExecutionRecord
from nbpipe.model.status import Status
from nbpipe.model.verdicts import ResultOrigin


class StepEventKind(StrEnum):
    """The kinds of events of a running step, each with its content."""

    STREAM = "stream"
    """``name``, ``text``"""
    DISPLAY = "display"
    """``text``; ``rich`` when that stands for a picture or a table"""
    ERROR = "error"
    """``text``"""
    METRIC = "metric"
    """``points``: the arguments of one :class:`MetricPoint` each"""
    TABLE = "table"
    """``name``, ``columns``, ``rows``, ``count`` of all its rows, ``ordinal``: its place among those of its name"""
    IMAGE = "image"
    """``name``, ``bytes``, ``ordinal``"""
    PROGRESS = "progress"
    """``done``, ``total``, ``description``"""
    CUT = "cut"
    """``count``: how many more events were not written"""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One event of a running step: ``number`` counts from 1 in its attempt, ``cell`` is the author's."""

    number: int
    time: float
    kind: StepEventKind
    cell: int | None
    content: Mapping[str, Any]


class MetricPoint(NamedTuple):
    """A number that a step logged: ``at`` is the step that the code passed with it.

    ``ordinal`` counts the values of this name in its attempt from 1. Of very many not each is recorded, but the last
    one is: its ordinal says how many there were.
    """

    name: str
    value: float
    at: int | None
    time: float
    ordinal: int


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """The output of an attempt: its executed notebook with the path, or its events while there is none.

    ``origin`` is where the output of a reused step is from. ``problem`` says why it cannot be shown; empty if it can.
    """

    executed_notebook: Path | None
    notebook_json: Mapping[str, Any]
    events: tuple[StepEvent, ...] = ()
    origin: ResultOrigin | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A recorded number with where it is from: ``number`` is that of its event, the rest as in :class:`MetricPoint`.

    ``earlier_attempt`` is for display only: the number of the attempt that logged it, unless that is the newest of its
    execution.
    """

    run: str
    step: str
    attempt: str
    number: int
    name: str
    value: float
    at: int | None = None
    time: float = 0.0
    earlier_attempt: int | None = None
    ordinal: int = 1


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """The values of one name that an attempt logged, in a few numbers; ``count`` includes those not recorded.

    NaN is neither the lowest nor the highest, unless there is nothing else.
    """

    count: int
    first: float
    last: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class RunChanged:
    """The run's status has changed."""

    status: Status
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class RunGrown:
    """A request was added to the run: ``executions`` maps its steps to their executions."""

    request: str
    executions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExecutionChanged:
    """The new state of an execution, without its components and observations."""

    execution: ExecutionRecord


@dataclass(frozen=True, slots=True)
class AttemptChanged:
    """The new state of an attempt."""

    attempt: AttemptRecord


@dataclass(frozen=True, slots=True)
class MetricsLogged:
    """A running attempt has logged numbers, here in their order; ``number`` is that of the event that tells them."""

    run: str
    step: str
    attempt: str
    number: int
    points: tuple[MetricPoint, ...]

    def metrics(self) -> list[Metric]:
        """Return each number with where it is from."""
        return [
            Metric(self.run, self.step, self.attempt, self.number, name, value, at, time, ordinal=ordinal)
            for name, value, at, time, ordinal in self.points
        ]


@dataclass(frozen=True, slots=True)
class OutputWritten:
    """The events ``first`` to ``last`` of an attempt can be read."""

    attempt: str
    first: int
    last: int


RunFact = RunChanged | RunGrown | ExecutionChanged | AttemptChanged | MetricsLogged | OutputWritten


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One entry of a run's log: entries are numbered from 1 without gaps, in the order in which they happened."""

    number: int
    time: float
    fact: RunFact
