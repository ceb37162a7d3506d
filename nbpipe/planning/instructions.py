"""What the state machine of a run tells its driver to do."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.model import Reason, Status


@dataclass(frozen=True, slots=True)
class DecideExecution:
    """Find the verdict: all that the execution needs has succeeded."""

    execution: str


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """Try to take the execution's key."""

    execution: str


@dataclass(frozen=True, slots=True)
class CheckDecision:
    """Find the verdict again under the claim, and how the awaited runs ended."""

    execution: str


@dataclass(frozen=True, slots=True)
class ReleaseClaim:
    """Give the claim back."""

    execution: str


@dataclass(frozen=True, slots=True)
class SubmitAttempt:
    """Start attempt ``number`` (from 1) of an execution whose key this run holds."""

    execution: str
    number: int


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """Kill the attempt."""

    execution: str


@dataclass(frozen=True, slots=True)
class NoteExecution:
    """Tell whoever watches why the execution does not go on."""

    execution: str
    text: str


@dataclass(frozen=True, slots=True)
class RecordExecution:
    """Write the final status."""

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
    | NoteExecution
    | RecordExecution
    | FinishRun
)
