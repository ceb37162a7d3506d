"""What the state machine of a run is told."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.model import Failure, Status, Verdict


@dataclass(frozen=True, slots=True)
class NewExecution:
    """An execution that joins the run; ``needs`` are the executions whose data it takes or that it waits for."""

    id: str
    step: str
    needs: tuple[str, ...] = ()
    retries: int = 0


@dataclass(frozen=True, slots=True)
class EndedElsewhere:
    """How the attempt of another run ended that an execution has waited for."""

    status: Status
    failure: Failure


@dataclass(frozen=True, slots=True)
class ExecutionsAdded:
    """The run begins or grows; ``superseded`` are older executions that the new ones replace."""

    executions: tuple[NewExecution, ...]
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunHeld:
    """Executions may still be added, so the run does not finish."""


@dataclass(frozen=True, slots=True)
class RunReleased:
    """The run may finish."""


@dataclass(frozen=True, slots=True)
class RunCancelRequested:
    """Somebody wants the run to stop now."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class ExecutionDecided:
    """An execution whose inputs are known has its verdict."""

    execution: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class KeyClaimed:
    """This run holds the execution's key."""

    execution: str


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """Somebody else holds the execution's key: ``run``, where it is known."""

    execution: str
    run: str | None


@dataclass(frozen=True, slots=True)
class DecisionChecked:
    """The verdict was found again under the claim; ``elsewhere`` is how the awaited runs' attempt ended."""

    execution: str
    verdict: Verdict
    elsewhere: EndedElsewhere | None = None


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """An attempt runs."""

    execution: str


@dataclass(frozen=True, slots=True)
class ResultCommitted:
    """An attempt's result is visible; the same transaction has freed the claim."""

    execution: str


@dataclass(frozen=True, slots=True)
class CommitOvertaken:
    """An attempt's commit came too late, because another run took the key over."""

    execution: str


@dataclass(frozen=True, slots=True)
class ExecutionAttemptEnded:
    """An attempt failed, was cancelled or was lost, or a result could not be delivered; ``final`` forbids a retry."""

    execution: str
    status: Status
    failure: Failure
    final: bool = False


@dataclass(frozen=True, slots=True)
class ExecutionCancelRequested:
    """Somebody wants one execution to stop now; what does not need it goes on."""

    execution: str


ExecutionStimulus = (
    ExecutionDecided
    | KeyClaimed
    | ClaimRefused
    | DecisionChecked
    | ExecutionStarted
    | ResultCommitted
    | CommitOvertaken
    | ExecutionAttemptEnded
    | ExecutionCancelRequested
)
Stimulus = ExecutionsAdded | RunHeld | RunReleased | RunCancelRequested | TimePassed | ExecutionStimulus
