"""The loop that carries out a run: it performs the state machine's instructions and records the results."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nbpipe.errors import OutOfReach
from nbpipe.history.runs import CancelRequests
from nbpipe.model import Failure, FailureKind, Reason, RunVerdict, Status
from nbpipe.model.compute import Placement
from nbpipe.planning import instructions, stimuli
from nbpipe.planning.execution_graph import Phase
from nbpipe.run.attempt_control import AttemptControl
from nbpipe.run.carried_run import CarriedRun
from nbpipe.run.execution_decider import ExecutionDecider
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.heartbeat import Heartbeat
from nbpipe.run.request_queue import RequestQueue
from nbpipe.run.run_extension import grow

_PAUSE = 0.05
_LOG = logging.getLogger(__name__)
_STOPPED = Failure(FailureKind.CANCELLED, "Cancelled", "", "the transfer of its inputs was stopped")
_LOST = Failure(FailureKind.LOST, "RunBrokenOff", "", "the run broke off")


@dataclass(slots=True)
class Driver:
    """Carries out one run, whose decisions and attempts have their own parts.

    ``interrupted`` returns whether to stop the run, ``requested`` the cancellations requested elsewhere.
    """

    carried: CarriedRun
    attempts: AttemptControl
    interrupted: Callable[[], bool] = lambda: False
    requested: Callable[[], CancelRequests] = CancelRequests
    intake: RequestQueue = field(default_factory=RequestQueue)
    decider: ExecutionDecider = field(init=False)
    _unclaimed: dict[Placement, deque[ExecutionState]] = field(default_factory=dict)
    _status: Status | None = None
    _refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.decider = ExecutionDecider(self.carried)

    def carry_out(self) -> Status:
        """Run all steps to their end and return the run's status."""
        self.carried.feed(stimuli.RunHeld())
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._abandon)
            with Heartbeat(self.carried.history, self.carried.run.owner, self.carried.clock):
                while self._status is None:
                    self._turn()
            self.carried.save()
            on_error.pop_all()
        return self._status

    def _turn(self) -> None:
        self._grow()
        self._perform_all()
        self.carried.save()
        for again in self.attempts.lost_inputs.take():
            self.intake.add(again)
        self._stop_what_is_unwanted()
        self._hear_transfers()
        if not self.carried.todo and self.intake.is_empty:
            if self.carried.state.is_idle and self._close():
                return
            self._wait()
        self.carried.feed(stimuli.TimePassed())

    def _close(self) -> bool:
        """Let the run finish, unless it is held or steps have just been added."""
        if not self.intake.close():
            return False
        self.carried.feed(stimuli.RunReleased())
        self._perform_all()
        return self._status is not None

    def _wait(self) -> None:
        if self.attempts.is_any_running:
            self.attempts.wait(_PAUSE)
        else:
            self.intake.wait(_PAUSE)
        self.decider.doubt()

    def _grow(self) -> None:
        while (increment := self.intake.take()) is not None:
            self.decider.trust(increment.planner)
            growth = grow(increment, self.carried.table, self.carried.run.id, self.attempts.new_id)
            for state in growth.replaced.values():
                self.carried.changes.supersede(state)
            for state in growth.added:
                self.carried.changes.put(state, state.record)
            self.carried.changes.events.add(growth.fact)
            new, superseded = map(growth.new_execution, growth.added), growth.replaced.values()
            self.carried.feed(stimuli.ExecutionsAdded(tuple(new), tuple(state.id for state in superseded)))

    def _stop_what_is_unwanted(self) -> None:
        requests = self.requested()
        if not self.intake.is_cancelled and (requests.whole or self.interrupted()):
            self.intake.cancel()
            self.carried.feed(stimuli.RunCancelRequested())
        for execution in requests.executions - self._refused:
            if execution in self.carried.table.by_id:
                self._refused.add(execution)
                self.carried.feed(stimuli.ExecutionCancelRequested(execution))

    def _hear_transfers(self) -> None:
        """Go on with the executions whose inputs have arrived, and show how far the others are."""
        carried = self.carried
        for transfer in carried.transfers.ended():
            state = carried.table.by_id[transfer.execution]
            if carried.state.status(state.id) is not None:
                continue
            if transfer.stopped and carried.state.phase(state.id) is Phase.DECIDING:
                # The state machine does not start it any more.
                carried.feed(stimuli.ExecutionDecided(state.id, RunVerdict(())))
            elif transfer.stopped:
                carried.feed(stimuli.ExecutionAttemptEnded(state.id, Status.CANCELLED, _STOPPED, final=True))
            elif transfer.error is not None:
                self.attempts.not_prepared(state, transfer.error)
            else:
                transfer.resume()
        for transfer in carried.transfers.active:
            state = carried.table.by_id[transfer.execution]
            if carried.state.phase(state.id) is Phase.DECIDING and not carried.state.may_start(state.id):
                carried.transfers.stop(state.id)
            elif carried.state.status(state.id) is None and transfer.has_news(carried.clock()):
                carried.changes.put(state, state.stands(Status.PREPARING, notes=(transfer.note,)))

    def _perform_all(self) -> None:
        while True:
            if self.carried.todo:
                self._perform(self.carried.todo.popleft())
            elif (state := self._next_unclaimed()) is not None:
                self.decider.claim(state)
            else:
                return

    def _next_unclaimed(self) -> ExecutionState | None:
        """Take the next execution whose attempt would start soon; return None if there is none."""
        for placement, states in self._unclaimed.items():
            if self.attempts.has_room(placement):
                state = states.popleft()
                if not states:
                    del self._unclaimed[placement]
                return state
        return None

    def _perform(self, instruction: instructions.Instruction) -> None:
        match instruction:
            case instructions.DecideExecution(execution):
                self.decider.decide(self.carried.table.by_id[execution])
            case instructions.ClaimKey(execution):
                state = self.carried.table.by_id[execution]
                self._unclaimed.setdefault(state.placement, deque()).append(state)
            case instructions.CheckDecision(execution):
                self.decider.check(self.carried.table.by_id[execution])
            case instructions.ReleaseClaim(execution):
                self.decider.release(self.carried.table.by_id[execution])
            case instructions.SubmitAttempt(execution, number):
                self.attempts.submit(self.carried.table.by_id[execution], number)
            case instructions.StopAttempt(execution):
                self.attempts.stop(self.carried.table.by_id[execution])
            case instructions.NoteBlocked(execution, text):
                state = self.carried.table.by_id[execution]
                self.carried.changes.put(state, state.stands(Status.QUEUED, notes=(text,)))
            case instructions.RecordExecution(execution, status, reasons):
                self._record(self.carried.table.by_id[execution], status, reasons)
            case instructions.FinishRun(status):
                self._status = status

    def _record(self, state: ExecutionState, status: Status, reasons: tuple[Reason, ...]) -> None:
        now = self.carried.clock()
        self.carried.transfers.stop(state.id)
        verdict = state.decision.verdict if state.decision else None
        if status is Status.REUSED or (status is Status.SUCCEEDED and state.outcome is None):
            record = self.attempts.take_reused(state, state.reused(status, now), now)
            state.offered = True
        elif status is Status.SUCCEEDED:
            # The commit has recorded it.
            record = state.record
        else:
            record = state.ended(status, now)
            if reasons:
                record = replace(record, reasons=reasons)
            elif verdict is None:
                record = replace(record, reasons=())
        if record is not state.record:
            self.carried.changes.put(state, record)
        state.settle()

    def _abandon(self) -> None:
        """Clean up a run that breaks off: stop attempts, release claims, and end open steps as lost."""
        self.intake.abandon()
        self.carried.transfers.stop_all()
        now = self.carried.clock()
        try:
            self.attempts.abandon(now, _LOST)
            for state in self.carried.table.by_id.values():
                self.decider.release(state)
                if not state.record.status.terminal:
                    self.carried.changes.put(state, replace(state.record, status=Status.LOST, ended=now, failure=_LOST))
            self.carried.save()
        except OutOfReach as error:
            # The next process recovers the rest: claims expire, and the run's owner is dead.
            _LOG.warning("a run that broke off could not be cleaned up: %s", error)
