"""What happens in a run: the entries of its log, and what a running step tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nbpipe.model.records import AttemptRecord, ExecutionRecord
from nbpipe.model.status import Status


class StepEventKind(StrEnum):
    """What a running step can tell, each with its content."""

    STREAM = "stream"
    """``name``, ``text``"""
    DISPLAY = "display"
    """``text``; ``rich`` when that stands for a picture or a table"""
    ERROR = "error"
    """``text``"""
    METRIC = "metric"
    """``name``, ``value``, ``step``"""
    TABLE = "table"
    """``name``, ``columns``"""
    IMAGE = "image"
    """``name``"""
    PROGRESS = "progress"
    """``done``, ``total``, ``description``"""
    CUT = "cut"
    """``count``: so many more pieces were not written"""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One piece of what a running step told: ``number`` counts from 1 in its attempt, ``cell`` is the author's."""

    number: int
    time: float
    kind: StepEventKind
    cell: int | None
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a step logged: ``number`` is that of its piece, ``at`` the step that the code gave with it.

    ``earlier_attempt`` is told to faces only: the number of the attempt that logged it where that is not the newest of
    its execution.
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


@dataclass(frozen=True, slots=True)
class RunChanged:
    """The run has this status now."""

    status: Status
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class RunGrown:
    """A request was added to the run: ``executions`` tells for each of its steps which execution stands for it."""

    request: str
    executions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExecutionChanged:
    """The execution is so now; its components and observations are not told here."""

    execution: ExecutionRecord


@dataclass(frozen=True, slots=True)
class AttemptChanged:
    """The attempt is so now."""

    attempt: AttemptRecord


@dataclass(frozen=True, slots=True)
class MetricLogged:
    """A running attempt has logged a number."""

    metric: Metric


@dataclass(frozen=True, slots=True)
class OutputWritten:
    """The pieces ``first`` to ``last`` of what an attempt told can be read."""

    attempt: str
    first: int
    last: int


RunFact = RunChanged | RunGrown | ExecutionChanged | AttemptChanged | MetricLogged | OutputWritten


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One entry of a run's log: entries are numbered from 1 without a gap, in the order in which they came true."""

    number: int
    time: float
    fact: RunFact
