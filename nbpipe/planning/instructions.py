"""The instructions of a run's state machine to its driver."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.model import Reason, Status


@dataclass(frozen=True, slots=True)
class DecideExecution:
    """Decide the execution: everything that it needs has succeeded."""

    execution: str


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """Try to claim the execution's key."""

    execution: str


@dataclass(frozen=True, slots=True)
class CheckDecision:
    """Decide again under the claim, and find out how the awaited runs ended."""

    execution: str


@dataclass(frozen=True, slots=True)
class ReleaseClaim:
    """Release the claim."""

    execution: str


@dataclass(frozen=True, slots=True)
class SubmitAttempt:
    """Start attempt ``number`` (from 1) of an execution whose key this run has claimed."""

    execution: str
    number: int


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """Kill the attempt."""

    execution: str


@dataclass(frozen=True, slots=True)
class NoteBlocked:
    """Show watchers why the execution is waiting."""

    execution: str
    text: str


@dataclass(frozen=True, slots=True)
class RecordExecution:
    """Record the final status."""

    execution: str
    status: Status
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class FinishRun:
    """End the run."""

    status: Status


Instruction = (
    DecideExecution
    | ClaimKey
    | CheckDecision
    | ReleaseClaim
    | SubmitAttempt
    | StopAttempt
    | NoteBlocked
    | RecordExecution
    | FinishRun
)
