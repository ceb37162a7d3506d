"""The state of a run: a pure state machine that takes stimuli and returns instructions.

It reads no clock and does no I/O. :meth:`RunState.handle` is its only mutating method; the driver carries out the
instructions and feeds back their results. docs/run-state.md describes phases, stimuli, instructions and invariants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from nbpipe.model import Reason, ReuseVerdict, RunVerdict, SkipVerdict, Status, Verdict, run_outcome
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
    NewExecution,
    ResultCommitted,
    RunCancelRequested,
    RunHeld,
    RunReleased,
    Stimulus,
    TimePassed,
)

LOST_TRIES = 2
LOG_LENGTH = 1000


class RunOver(Exception):
    """The run has finished, so no execution can join it."""


class Phase(StrEnum):
    """The phases of an execution."""

    WAITING = "waiting"
    DECIDING = "deciding"
    CLAIMING = "claiming"
    BLOCKED = "blocked"
    CHECKING = "checking"
    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDED = "ended"


_UNDER_WAY = frozenset({Phase.SUBMITTED, Phase.RUNNING})
_WITH_CLAIM = _UNDER_WAY | {Phase.CHECKING}
# A stimulus that is not listed is valid in any phase.
_EXPECTED_IN: Mapping[type, frozenset[Phase]] = {
    ExecutionDecided: frozenset({Phase.DECIDING}),
    KeyClaimed: frozenset({Phase.CLAIMING}),
    ClaimRefused: frozenset({Phase.CLAIMING}),
    DecisionChecked: frozenset({Phase.CHECKING}),
    ResultCommitted: _UNDER_WAY,
    CommitOvertaken: _UNDER_WAY,
    ExecutionAttemptEnded: _WITH_CLAIM | {Phase.DECIDING},
}


@dataclass(slots=True, eq=False)
class _Execution:
    """An execution's state; ``failures_before`` counts the failures in the run before it joined.

    ``missing`` counts the needs that have not succeeded.
    """

    new: NewExecution
    failures_before: int
    phase: Phase = Phase.WAITING
    status: Status | None = None
    missing: int = 0
    dependants: list[_Execution] = field(default_factory=list)
    tries: int = 0
    failed: int = 0
    lost: int = 0
    overtaken: int = 0
    awaited: frozenset[str] = frozenset()
    older: _Execution | None = None
    noted: str = ""
    unwanted: bool = False
    superseded: bool = False

    @property
    def id(self) -> str:
        return self.new.id

    @property
    def succeeded(self) -> bool:
        return self.status in (Status.SUCCEEDED, Status.REUSED)


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
    _executions: dict[str, _Execution] = field(default_factory=dict, init=False)
    _open: dict[str, _Execution] = field(default_factory=dict, init=False)
    _waiting: dict[str, _Execution] = field(default_factory=dict, init=False)
    _blocked: dict[str, _Execution] = field(default_factory=dict, init=False)
    _failed_steps: list[str] = field(default_factory=list, init=False)
    _has_begun: bool = field(default=False, init=False)
    _held: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)
    _finished: bool = field(default=False, init=False)

    def status(self, execution: str) -> Status | None:
        """Return an execution's final status, or None until it has one."""
        return self._find(execution).status

    def phase(self, execution: str) -> Phase:
        """Return the phase of an execution."""
        return self._find(execution).phase

    def may_start(self, execution: str) -> bool:
        """Return whether an execution may still start: no failure has stopped what has not begun."""
        return not self._stopped_because(self._find(execution))

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is left to do for any execution."""
        return not self._open

    def awaited(self, execution: str) -> frozenset[str]:
        """Return the other runs that an execution has waited for."""
        return self._find(execution).awaited

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
        for name, execution in self._executions.items():
            phase, needs = execution.phase, [self._executions[need] for need in execution.new.needs]
            assert (execution.status is not None) == (phase is Phase.ENDED), name
            assert (name in self._open) == (phase is not Phase.ENDED), name
            assert (name in self._waiting) == (phase is Phase.WAITING), name
            assert (name in self._blocked) == (phase is Phase.BLOCKED), name
            if phase not in (Phase.WAITING, Phase.ENDED) or execution.succeeded:
                assert all(need.succeeded for need in needs), name
            if phase is Phase.WAITING:
                assert execution.missing == sum(not need.succeeded for need in set(needs)) > 0, name
                assert all(need.succeeded or need.status is None for need in needs), name
                assert not self._cancelled, name
                assert not self._stopped_because(execution), name
            if self._cancelled and execution.status is None:
                assert phase in _UNDER_WAY, name
                assert execution.unwanted, name
        assert not (self._finished and self._open)

    def _find(self, execution: str) -> _Execution:
        if execution not in self._executions:
            raise ValueError(f"the run has no execution `{execution}`")
        return self._executions[execution]

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
                blocked, self._blocked = self._blocked, {}
                return [self._decide(execution) for execution in blocked.values()]
            case _:
                return self._react_for(self._find(stimulus.execution), stimulus)

    def _react_for(self, execution: _Execution, stimulus: ExecutionStimulus) -> list[Instruction]:
        if execution.status is not None:
            return [ReleaseClaim(execution.id)] if isinstance(stimulus, KeyClaimed) else []
        if execution.phase not in _EXPECTED_IN.get(type(stimulus), Phase):
            raise ValueError(f"`{execution.id}` is {execution.phase}, so this cannot be: {stimulus}")
        return self._advance(execution, stimulus)

    def _advance(self, execution: _Execution, stimulus: ExecutionStimulus) -> list[Instruction]:
        match stimulus:
            case ExecutionDecided(_, verdict):
                return self._decided(execution, verdict)
            case ClaimRefused(_, run):
                return self._refused(execution, run)
            case KeyClaimed():
                self._enter(execution, Phase.CHECKING)
                return [CheckDecision(execution.id)]
            case DecisionChecked():
                return self._checked(execution, stimulus)
            case ExecutionStarted():
                if execution.phase is Phase.SUBMITTED:
                    self._enter(execution, Phase.RUNNING)
                return []
            case ResultCommitted():
                # The commit has freed the claim.
                self._enter(execution, Phase.ENDED)
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
        self._refuse_impossible(added)
        self._has_begun = True
        out: list[Instruction] = []
        for name in added.superseded:
            old = self._executions[name]
            old.superseded = True
            if old.status is None:
                out += self._cancel_one(old)
        new = [self._new_execution(each) for each in added.executions]
        for execution in new:
            self._executions[execution.id] = self._open[execution.id] = self._waiting[execution.id] = execution
        for execution in new:
            self._link(execution)
        for execution in new:
            out += self._begin(execution)
        return out

    def _new_execution(self, new: NewExecution) -> _Execution:
        older = self._executions[new.replaces] if new.replaces is not None else None
        return _Execution(new, len(self._failed_steps), older=older)

    def _refuse_impossible(self, added: ExecutionsAdded) -> None:
        new: dict[str, NewExecution] = {}
        for each in added.executions:
            if each.id in new or each.id in self._executions:
                raise ValueError(f"the run has an execution `{each.id}` already")
            new[each.id] = each
        older = (need for each in added.executions for need in each.needs if need not in new)
        replaced = (each.replaces for each in added.executions if each.replaces is not None)
        for name in (*added.superseded, *replaced, *older):
            self._find(name)
        try:
            TopologicalSorter(
                {name: [need for need in each.needs if need in new] for name, each in new.items()}
            ).prepare()
        except CycleError as error:
            raise ValueError(f"executions need each other: {' → '.join(error.args[1])}") from None

    def _link(self, execution: _Execution) -> None:
        for name in dict.fromkeys(execution.new.needs):
            need = self._executions[name]
            if need.status is None:
                execution.missing += 1
                need.dependants.append(execution)

    def _begin(self, execution: _Execution) -> list[Instruction]:
        if execution.status is not None:
            return []
        if self._cancelled:
            return self._end(execution, Status.CANCELLED)
        for name in execution.new.needs:
            need = self._executions[name]
            if need.status is not None and not need.succeeded:
                return self._close(execution, Status.SKIPPED, _upstream(need))
        return [] if execution.missing else [self._decide(execution)]

    def _decide(self, execution: _Execution) -> Instruction:
        self._enter(execution, Phase.DECIDING)
        return DecideExecution(execution.id)

    def _decided(self, execution: _Execution, verdict: Verdict) -> list[Instruction]:
        if not isinstance(verdict, RunVerdict):
            return self._close_by(execution, verdict)
        if because := self._stopped_because(execution):
            return self._close(execution, Status.SKIPPED, because)
        if self._has_older_under_way(execution):
            return self._block(execution, "an older version of this step is being stopped")
        self._enter(execution, Phase.CLAIMING)
        return [ClaimKey(execution.id)]

    def _has_older_under_way(self, execution: _Execution) -> bool:
        """Return whether an attempt of an older version of the step still has to end; forget the versions that have."""
        while execution.older is not None and execution.older.phase not in _UNDER_WAY:
            execution.older = execution.older.older
        return execution.older is not None

    def _close_by(self, execution: _Execution, verdict: Verdict) -> list[Instruction]:
        """End an execution that needs no attempt; using a result of this very run is not reuse."""
        if isinstance(verdict, ReuseVerdict):
            status = Status.SUCCEEDED if verdict.hit.origin.run == self.run else Status.REUSED
            return self._close(execution, status, verdict.reasons)
        if isinstance(verdict, SkipVerdict):
            return self._close(execution, Status.SKIPPED, verdict.reasons)
        raise ValueError(f"`{execution.id}` has all that it needs, so this is no verdict: {verdict}")

    def _refused(self, execution: _Execution, run: str | None) -> list[Instruction]:
        own = run == self.run
        if run and not own:
            execution.awaited |= {run}
        return self._block(
            execution, f"{'another step of this run' if own else 'another run'} is computing this result"
        )

    def _block(self, execution: _Execution, why: str) -> list[Instruction]:
        """Let an execution wait until time has passed; each new reason is told once."""
        self._enter(execution, Phase.BLOCKED)
        if execution.noted == why:
            return []
        execution.noted = why
        return [NoteBlocked(execution.id, why)]

    def _checked(self, execution: _Execution, checked: DecisionChecked) -> list[Instruction]:
        if not isinstance(checked.verdict, RunVerdict):
            return self._close_by(execution, checked.verdict)
        elsewhere = checked.elsewhere
        if elsewhere and self.attach and elsewhere.status in (Status.FAILED, Status.CANCELLED):
            return self._close(execution, elsewhere.status)
        if because := self._stopped_because(execution):
            return self._close(execution, Status.SKIPPED, because)
        return [self._submit(execution)]

    def _submit(self, execution: _Execution) -> Instruction:
        execution.tries += 1
        self._enter(execution, Phase.SUBMITTED)
        return SubmitAttempt(execution.id, execution.tries)

    def _attempt_ended(self, execution: _Execution, ended: ExecutionAttemptEnded) -> list[Instruction]:
        if ended.status is Status.LOST:
            execution.lost += 1
            again = execution.lost <= LOST_TRIES
        else:
            execution.failed += 1
            again = execution.failed <= execution.new.retries
        if execution.unwanted or ended.status is Status.CANCELLED:
            return self._close(execution, Status.CANCELLED)
        again = again and execution.phase in _UNDER_WAY and not ended.final
        if again and not self._stopped_because(execution):
            return [self._submit(execution)]
        return self._close(execution, Status.FAILED)

    def _overtaken(self, execution: _Execution) -> list[Instruction]:
        execution.overtaken += 1
        if execution.unwanted:
            return self._close(execution, Status.CANCELLED)
        if execution.overtaken > LOST_TRIES:
            # No race with another run: some process considered this run dead and closed it.
            return self._close(execution, Status.FAILED)
        self._enter(execution, Phase.BLOCKED)
        return [ReleaseClaim(execution.id)]

    def _close(self, execution: _Execution, status: Status, reasons: tuple[Reason, ...] = ()) -> list[Instruction]:
        """End an execution, and continue or skip those that need it."""
        out = self._end(execution, status, reasons)
        if execution.succeeded:
            return out + self._supply(execution)
        out += self._skip_dependants(execution)
        if status is Status.FAILED and not self.keep_going:
            self._failed_steps.append(execution.new.step)
            waiting, self._waiting = self._waiting, {}
            for other in waiting.values():
                out += self._end(other, Status.SKIPPED, self._stopped_because(other))
        return out

    def _supply(self, execution: _Execution) -> list[Instruction]:
        out: list[Instruction] = []
        for other in execution.dependants:
            other.missing -= 1
            if not other.missing and other.phase is Phase.WAITING:
                out.append(self._decide(other))
        execution.dependants.clear()
        return out

    def _skip_dependants(self, execution: _Execution) -> list[Instruction]:
        out: list[Instruction] = []
        causes = [execution]
        while causes:
            cause = causes.pop()
            for other in cause.dependants:
                if other.status is None:
                    out += self._end(other, Status.SKIPPED, _upstream(cause))
                    causes.append(other)
            cause.dependants.clear()
        return out

    def _end(self, execution: _Execution, status: Status, reasons: tuple[Reason, ...] = ()) -> list[Instruction]:
        release: list[Instruction] = [ReleaseClaim(execution.id)] if execution.phase in _WITH_CLAIM else []
        self._enter(execution, Phase.ENDED)
        execution.status = status
        self._open.pop(execution.id)
        return [*release, RecordExecution(execution.id, status, reasons)]

    def _enter(self, execution: _Execution, phase: Phase) -> None:
        self._waiting.pop(execution.id, None)
        self._blocked.pop(execution.id, None)
        execution.phase = phase
        if phase is Phase.BLOCKED:
            self._blocked[execution.id] = execution

    def _stopped_because(self, execution: _Execution) -> tuple[Reason, ...]:
        """Return why the execution must no longer start; empty if it may."""
        if execution.failures_before == len(self._failed_steps):
            return ()
        step = self._failed_steps[execution.failures_before]
        return (Reason("stopped", None, f"`{step}` failed, so nothing new starts"),)

    def _cancel(self) -> list[Instruction]:
        self._cancelled = True
        out: list[Instruction] = []
        for execution in list(self._open.values()):
            if execution.phase in _UNDER_WAY:
                out += self._cancel_one(execution)
            else:
                out += self._end(execution, Status.CANCELLED)
        return out

    def _cancel_one(self, execution: _Execution) -> list[Instruction]:
        if execution.phase not in _UNDER_WAY:
            return self._close(execution, Status.CANCELLED)
        if execution.unwanted:
            return []
        execution.unwanted = True
        return [StopAttempt(execution.id)]

    def _finish(self) -> Iterable[Instruction]:
        if self._open or self._held or self._finished or not self._has_begun:
            return []
        self._finished = True
        return [FinishRun(self._outcome())]

    def _outcome(self) -> Status:
        executions = (execution for execution in self._executions.values() if not execution.superseded)
        statuses = (execution.status for execution in executions if execution.status is not None)
        return run_outcome(statuses, is_cancelled=self._cancelled, keeps_going=self.keep_going)


def _upstream(need: _Execution) -> tuple[Reason, ...]:
    return (Reason(f"upstream:{need.new.step}", None, need.status.value if need.status else None),)
