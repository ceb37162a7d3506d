"""The state of a run: a pure state machine that takes stimuli and returns instructions.

It reads no clock and does no I/O. :meth:`RunState.handle` is its only mutating method; the driver carries out the
instructions and feeds back their results. docs/run-state.md describes phases, stimuli, instructions and invariants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nbpipe.model import ComponentKind, Reason, ReuseVerdict, RunVerdict, SkipVerdict, Status, Verdict, run_outcome
from nbpipe.planning.execution_graph import ExecutionGraph, GraphExecution, Phase
from nbpipe.planning.instructions import (
    CheckDecision,
    ClaimKey,
    DecideExecution,
    FinishRun,
    Instruction,
    NoteBlocked,
    RecordExecution,
    ReleaseClaim,
    StopAttempt,
    SubmitAttempt,
)
from nbpipe.planning.stimuli import (
    ClaimRefused,
    CommitOvertaken,
    DecisionChecked,
    ExecutionAttemptEnded,
    ExecutionCancelRequested,
    ExecutionDecided,
    ExecutionsAdded,
    ExecutionStarted,
    ExecutionStimulus,
    KeyClaimed,
    ResultCommitted,
    RunCancelRequested,
    RunHeld,
    RunReleased,
    Stimulus,
    TimePassed,
)

LOG_LENGTH = 1000


class RunOver(Exception):
    """The run has finished, so no execution can join it."""


_UNDER_WAY = frozenset(phase for phase in Phase if phase.is_under_way)
# A stimulus that is not listed is valid in any phase.
_EXPECTED_IN: Mapping[type, frozenset[Phase]] = {
    ExecutionDecided: frozenset({Phase.DECIDING}),
    KeyClaimed: frozenset({Phase.CLAIMING}),
    ClaimRefused: frozenset({Phase.CLAIMING}),
    DecisionChecked: frozenset({Phase.CHECKING}),
    ResultCommitted: _UNDER_WAY,
    CommitOvertaken: _UNDER_WAY,
    ExecutionAttemptEnded: frozenset({*_UNDER_WAY, Phase.CHECKING, Phase.DECIDING}),
}


@dataclass(slots=True)
class RunState:
    """The state of the run with id ``run``, which can grow until it has finished.

    With ``keep_going`` a failure stops only what depends on it. With ``attach`` an execution that waited for another
    run ends as it did there. ``log`` keeps the newest stimuli, without ticks that changed nothing.
    """

    run: str
    keep_going: bool = False
    attach: bool = False
    log: deque[Stimulus] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH), init=False)
    _graph: ExecutionGraph = field(default_factory=ExecutionGraph, init=False)
    _failed_steps: list[str] = field(default_factory=list, init=False)
    _has_begun: bool = field(default=False, init=False)
    _held: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)
    _finished: bool = field(default=False, init=False)

    def status(self, execution: str) -> Status | None:
        """Return an execution's final status, or None until it has one."""
        return self._graph.find(execution).status

    def phase(self, execution: str) -> Phase:
        """Return the phase of an execution."""
        return self._graph.find(execution).phase

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is left to do for any execution."""
        return not self._graph.has_open

    def awaited(self, execution: str) -> frozenset[str]:
        """Return the other runs that an execution has waited for."""
        return self._graph.find(execution).awaited

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        """Apply one stimulus and return the instructions; one for an execution that has ended changes nothing.

        Raise ValueError for a stimulus that is invalid in this state, RunOver for executions added after the end;
        neither changes anything.
        """
        out = self._react(stimulus)
        if out or not isinstance(stimulus, TimePassed):
            self.log.append(stimulus)
        return [*out, *self._finish()]

    def validate(self) -> None:
        """Check the invariants; raise AssertionError with the execution. Takes time linear in the executions."""
        self._graph.validate()
        for execution in self._graph:
            if execution.phase is Phase.WAITING:
                assert not self._cancelled, execution.id
                assert not self._stopped_because(execution), execution.id
            if self._cancelled and execution.status is None:
                assert execution.phase.is_under_way, execution.id
                assert execution.unwanted, execution.id
        assert not (self._finished and self._graph.has_open)

    def _react(self, stimulus: Stimulus) -> list[Instruction]:
        match stimulus:
            case ExecutionsAdded():
                return self._add(stimulus)
            case RunHeld() | RunReleased():
                self._has_begun, self._held = True, isinstance(stimulus, RunHeld)
                return []
            case RunCancelRequested():
                return self._cancel()
            case TimePassed():
                return [self._decide(execution) for execution in self._graph.take_blocked()]
            case _:
                return self._react_for(self._graph.find(stimulus.execution), stimulus)

    def _react_for(self, execution: GraphExecution, stimulus: ExecutionStimulus) -> list[Instruction]:
        if execution.status is not None:
            return [ReleaseClaim(execution.id)] if isinstance(stimulus, KeyClaimed) else []
        if execution.phase not in _EXPECTED_IN.get(type(stimulus), Phase):
            raise ValueError(f"`{execution.id}` is {execution.phase}, so this cannot be: {stimulus}")
        return self._advance(execution, stimulus)

    def _advance(self, execution: GraphExecution, stimulus: ExecutionStimulus) -> list[Instruction]:
        match stimulus:
            case ExecutionDecided(_, verdict):
                return self._decided(execution, verdict)
            case ClaimRefused(_, run):
                return self._refused(execution, run)
            case KeyClaimed():
                self._graph.enter(execution, Phase.CHECKING)
                return [CheckDecision(execution.id)]
            case DecisionChecked():
                return self._checked(execution, stimulus)
            case ExecutionStarted():
                if execution.phase is Phase.SUBMITTED:
                    self._graph.enter(execution, Phase.RUNNING)
                return []
            case ResultCommitted():
                # The commit has freed the claim.
                self._graph.enter(execution, Phase.ENDED)
                return self._close(execution, Status.SUCCEEDED)
            case CommitOvertaken():
                return self._overtaken(execution)
            case ExecutionAttemptEnded():
                return self._attempt_ended(execution, stimulus)
            case ExecutionCancelRequested():
                return self._cancel_one(execution)

    def _add(self, added: ExecutionsAdded) -> list[Instruction]:
        if self._finished:
            raise RunOver(f"run `{self.run}` has finished")
        self._graph.refuse_impossible(added)
        self._has_begun = True
        out: list[Instruction] = []
        for name in added.superseded:
            old = self._graph.find(name)
            old.superseded = True
            if old.status is None:
                out += self._cancel_one(old)
        for execution in self._graph.add(added.executions, len(self._failed_steps)):
            out += self._begin(execution)
        return out

    def _begin(self, execution: GraphExecution) -> list[Instruction]:
        if execution.status is not None:
            return []
        if self._cancelled:
            return self._end(execution, Status.CANCELLED)
        for need in self._graph.needs(execution):
            if need.status is not None and not need.succeeded:
                return self._close(execution, Status.SKIPPED, _upstream(need))
        return [] if execution.missing else [self._decide(execution)]

    def _decide(self, execution: GraphExecution) -> Instruction:
        self._graph.enter(execution, Phase.DECIDING)
        return DecideExecution(execution.id)

    def _decided(self, execution: GraphExecution, verdict: Verdict) -> list[Instruction]:
        if not isinstance(verdict, RunVerdict):
            return self._close_by(execution, verdict)
        if because := self._stopped_because(execution):
            return self._close(execution, Status.SKIPPED, because)
        if execution.has_older_under_way:
            return self._block(execution, "an older version of this step is being stopped")
        self._graph.enter(execution, Phase.CLAIMING)
        return [ClaimKey(execution.id)]

    def _close_by(self, execution: GraphExecution, verdict: Verdict) -> list[Instruction]:
        """End an execution that needs no attempt; using a result of this very run is not reuse."""
        if isinstance(verdict, ReuseVerdict):
            status = Status.SUCCEEDED if verdict.hit.origin.run == self.run else Status.REUSED
            return self._close(execution, status, verdict.reasons)
        if isinstance(verdict, SkipVerdict):
            return self._close(execution, Status.SKIPPED, verdict.reasons)
        raise ValueError(f"`{execution.id}` has all that it needs, so this is no verdict: {verdict}")

    def _refused(self, execution: GraphExecution, run: str | None) -> list[Instruction]:
        own = run == self.run
        if run and not own:
            execution.awaited |= {run}
        return self._block(
            execution, f"{'another step of this run' if own else 'another run'} is computing this result"
        )

    def _block(self, execution: GraphExecution, why: str) -> list[Instruction]:
        """Let an execution wait until time has passed; each new reason is told once."""
        self._graph.enter(execution, Phase.BLOCKED)
        if execution.noted == why:
            return []
        execution.noted = why
        return [NoteBlocked(execution.id, why)]

    def _checked(self, execution: GraphExecution, checked: DecisionChecked) -> list[Instruction]:
        if not isinstance(checked.verdict, RunVerdict):
            return self._close_by(execution, checked.verdict)
        elsewhere = checked.elsewhere
        if elsewhere and self.attach and elsewhere.status in (Status.FAILED, Status.CANCELLED):
            return self._close(execution, elsewhere.status)
        if because := self._stopped_because(execution):
            return self._close(execution, Status.SKIPPED, because)
        return [self._submit(execution)]

    def _submit(self, execution: GraphExecution) -> Instruction:
        self._graph.enter(execution, Phase.SUBMITTED)
        return SubmitAttempt(execution.id, execution.tries.submit())

    def _attempt_ended(self, execution: GraphExecution, ended: ExecutionAttemptEnded) -> list[Instruction]:
        again = execution.tries.end(ended.status, execution.new.retries)
        if execution.unwanted or ended.status is Status.CANCELLED:
            return self._close(execution, Status.CANCELLED)
        again = again and execution.phase.is_under_way and not ended.final
        if again and not self._stopped_because(execution):
            return [self._submit(execution)]
        return self._close(execution, Status.FAILED)

    def _overtaken(self, execution: GraphExecution) -> list[Instruction]:
        may_wait = execution.tries.overtake()
        if execution.unwanted:
            return self._close(execution, Status.CANCELLED)
        if not may_wait:
            return self._close(execution, Status.FAILED)
        self._graph.enter(execution, Phase.BLOCKED)
        return [ReleaseClaim(execution.id)]

    def _close(self, execution: GraphExecution, status: Status, reasons: tuple[Reason, ...] = ()) -> list[Instruction]:
        """End an execution, and continue or skip those that need it."""
        out = self._end(execution, status, reasons)
        if execution.succeeded:
            return out + [self._decide(other) for other in self._graph.supply(execution)]
        for cause, other in self._graph.cut_off(execution):
            out += self._end(other, Status.SKIPPED, _upstream(cause))
        if status is Status.FAILED and not self.keep_going:
            self._failed_steps.append(execution.new.step)
            for other in self._graph.waiting():
                out += self._end(other, Status.SKIPPED, self._stopped_because(other))
        return out

    def _end(self, execution: GraphExecution, status: Status, reasons: tuple[Reason, ...] = ()) -> list[Instruction]:
        release: list[Instruction] = [ReleaseClaim(execution.id)] if execution.phase.has_claim else []
        self._graph.end(execution, status)
        return [*release, RecordExecution(execution.id, status, reasons)]

    def _stopped_because(self, execution: GraphExecution) -> tuple[Reason, ...]:
        """Return why the execution must no longer start; empty if it may."""
        if execution.failures_before == len(self._failed_steps):
            return ()
        step = self._failed_steps[execution.failures_before]
        return (Reason.about(ComponentKind.STOPPED, f"`{step}` failed, so nothing new starts"),)

    def _cancel(self) -> list[Instruction]:
        self._cancelled = True
        out: list[Instruction] = []
        for execution in self._graph.still_open():
            if execution.phase.is_under_way:
                out += self._cancel_one(execution)
            else:
                out += self._end(execution, Status.CANCELLED)
        return out

    def _cancel_one(self, execution: GraphExecution) -> list[Instruction]:
        if not execution.phase.is_under_way:
            return self._close(execution, Status.CANCELLED)
        if execution.unwanted:
            return []
        execution.unwanted = True
        return [StopAttempt(execution.id)]

    def _finish(self) -> Iterable[Instruction]:
        if self._graph.has_open or self._held or self._finished or not self._has_begun:
            return []
        self._finished = True
        return [FinishRun(self._outcome())]

    def _outcome(self) -> Status:
        executions = (execution for execution in self._graph if not execution.superseded)
        statuses = (execution.status for execution in executions if execution.status is not None)
        return run_outcome(statuses, is_cancelled=self._cancelled, keeps_going=self.keep_going)


def _upstream(need: GraphExecution) -> tuple[Reason, ...]:
    ending = need.status.value if need.status else None
    return (Reason.about(ComponentKind.UPSTREAM, ending, subject=need.new.step),)
