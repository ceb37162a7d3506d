"""The stimuli of a run's state machine."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.model import Failure, Status, Verdict


@dataclass(frozen=True, slots=True)
class NewExecution:
    """An execution that joins the run; ``needs`` are the executions whose data it uses or that it waits for.

    ``replaces`` is the older execution of its step, if the run has one: both would write the same files.
    """

    id: str
    step: str
    needs: tuple[str, ...] = ()
    retries: int = 0
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class AwaitedAttemptEnded:
    """How another run's attempt ended, for which an execution has waited."""

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
    """The cancellation of the run was requested."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class ExecutionDecided:
    """The verdict of an execution whose inputs are known."""

    execution: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class KeyClaimed:
    """This run has claimed the execution's key."""

    execution: str


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """Another owner has claimed the execution's key: ``run``, if known."""

    execution: str
    run: str | None


@dataclass(frozen=True, slots=True)
class DecisionChecked:
    """The verdict under the claim; ``elsewhere`` says how the awaited runs' attempt ended."""

    execution: str
    verdict: Verdict
    elsewhere: AwaitedAttemptEnded | None = None


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """An attempt has started."""

    execution: str


@dataclass(frozen=True, slots=True)
class ResultCommitted:
    """An attempt's result is committed; the same transaction released the claim."""

    execution: str


@dataclass(frozen=True, slots=True)
class CommitOvertaken:
    """An attempt's commit came too late, because another run took over the key."""

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
    """The cancellation of one execution was requested; those that do not need it continue."""

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
