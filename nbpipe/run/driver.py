"""The loop that carries out a run: it performs the state machine's instructions and records the results."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from nbpipe.errors import NbpipeError, OutOfReach
from nbpipe.history.attempts import in_datasets
from nbpipe.history.claims import ClaimedByOther
from nbpipe.history.runs import CancelRequests
from nbpipe.history.store import History
from nbpipe.model import (
    Artifact,
    AttemptEnded,
    AttemptOutputWritten,
    AttemptRecord,
    AttemptReport,
    AttemptStarted,
    ExecutionRecord,
    Failure,
    FailureKind,
    Outcome,
    Reason,
    ResultOrigin,
    ReuseVerdict,
    RunRecord,
    Status,
)
from nbpipe.model.datasets import DatasetDraft
from nbpipe.planning import instructions, stimuli
from nbpipe.planning.plan import StepDecision
from nbpipe.planning.run_state import RunState
from nbpipe.run.archive_files import ResultArchiveWriter
from nbpipe.run.execution_state import ExecutionState, ExecutionTable
from nbpipe.run.executor import Executor
from nbpipe.run.file_conflicts import FileConflict, FileConflicts, paths_read
from nbpipe.run.heartbeat import LEASE, Heartbeat
from nbpipe.run.pending_changes import PendingChanges
from nbpipe.run.process_identity import is_alive
from nbpipe.run.registrations import origin_of, output_drafts, parents_of
from nbpipe.run.request_queue import RequestQueue
from nbpipe.run.run_extension import grow

_PAUSE = 0.05
# Attempts that are submitted for each slot: one that runs, and one that starts as soon as that has ended.
_AHEAD = 2
_LOG = logging.getLogger(__name__)
_LOST = Failure(FailureKind.LOST, "RunBrokenOff", "", "the run broke off")


@dataclass(slots=True)
class Driver:
    """Carries out one run. ``clock`` returns seconds since the epoch, ``new_id`` unique ids.

    ``interrupted`` returns whether to stop the run, ``requested`` the cancellations requested elsewhere. ``watch`` is
    called whenever the run's log has new entries.
    """

    run: RunRecord
    history: History
    archive: ResultArchiveWriter
    executors: Callable[[], Executor]
    clock: Callable[[], float]
    new_id: Callable[[], str]
    state: RunState
    attach: bool = False
    watch: Callable[[], None] = lambda: None
    interrupted: Callable[[], bool] = lambda: False
    requested: Callable[[], CancelRequests] = CancelRequests
    intake: RequestQueue = field(default_factory=RequestQueue)
    _table: ExecutionTable = field(default_factory=ExecutionTable)
    _running: dict[str, ExecutionState] = field(default_factory=dict)
    _executor: Executor | None = None
    _todo: deque[instructions.Instruction] = field(default_factory=deque)
    _changes: PendingChanges = field(init=False)
    _unclaimed: deque[ExecutionState] = field(default_factory=deque)
    _fresh: set[int] = field(default_factory=set)
    _files: FileConflicts = field(default_factory=FileConflicts)
    _status: Status | None = None
    _refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._changes = PendingChanges(self.history, self.run.id)

    def carry_out(self) -> Status:
        """Run all steps to their end and return the run's status."""
        self._feed(stimuli.RunHeld())
        try:
            with Heartbeat(self.history, self.run.owner, self.clock):
                while self._status is None:
                    self._turn()
            self._save()
        except BaseException:
            self._abandon()
            raise
        return self._status

    def _turn(self) -> None:
        self._grow()
        self._perform_all()
        self._save()
        self._stop_what_is_unwanted()
        if not self._todo and self.intake.is_empty:
            if self.state.is_idle and self._close():
                return
            self._wait()
        self._feed(stimuli.TimePassed())

    def _close(self) -> bool:
        """Let the run finish, unless it is held or steps have just been added."""
        if not self.intake.close():
            return False
        self._feed(stimuli.RunReleased())
        self._perform_all()
        return self._status is not None

    def _wait(self) -> None:
        if self._executor is not None and self._running:
            for report in self._executor.wait(_PAUSE):
                self._hear(report)
        else:
            self.intake.wait(_PAUSE)
        self._fresh.clear()

    def _grow(self) -> None:
        while (increment := self.intake.take()) is not None:
            self._fresh.add(id(increment.planner))
            growth = grow(increment, self._table, self.run.id, self.new_id)
            for state in growth.replaced.values():
                self._changes.supersede(state)
            for state in growth.added:
                self._changes.put(state, state.record)
            self._changes.events.add(growth.fact)
            new, superseded = map(growth.new_execution, growth.added), growth.replaced.values()
            self._feed(stimuli.ExecutionsAdded(tuple(new), tuple(state.id for state in superseded)))

    def _stop_what_is_unwanted(self) -> None:
        requests = self.requested()
        if not self.intake.is_cancelled and (requests.whole or self.interrupted()):
            self.intake.cancel()
            self._feed(stimuli.RunCancelRequested())
        for execution in requests.executions - self._refused:
            if execution in self._table.by_id:
                self._refused.add(execution)
                self._feed(stimuli.ExecutionCancelRequested(execution))

    def _hear(self, report: AttemptReport) -> None:
        state = self._running.get(report.attempt)
        if state is None or state.attempt is None:
            return
        match report:
            case AttemptStarted(_, at):
                self._changes.put_attempt(state, replace(state.attempt, status=Status.RUNNING, started=at))
                self._changes.put(state, state.stands(Status.RUNNING, started=at))
                self._feed(stimuli.ExecutionStarted(state.id))
            case AttemptOutputWritten(_, pieces):
                self._changes.events.take(state, pieces)
            case AttemptEnded(outcome):
                self._changes.events.take(state, None)
                self._ended(state, outcome)

    def _feed(self, stimulus: stimuli.Stimulus) -> None:
        self._todo.extend(self.state.handle(stimulus))

    def _perform_all(self) -> None:
        while self._todo or (self._unclaimed and self._has_room):
            if self._todo:
                self._perform(self._todo.popleft())
            else:
                self._claim(self._unclaimed.popleft())

    @property
    def _has_room(self) -> bool:
        """Return whether one more attempt would start soon.

        Other executions are neither claimed nor prepared yet, so that wide runs do not hold many claims at a time.
        """
        return len(self._running) < (_AHEAD * self._executor.slots if self._executor is not None else 1)

    def _perform(self, instruction: instructions.Instruction) -> None:
        match instruction:
            case instructions.DecideExecution(execution):
                self._decide(self._table.by_id[execution])
            case instructions.ClaimKey(execution):
                self._unclaimed.append(self._table.by_id[execution])
            case instructions.CheckDecision(execution):
                self._check(self._table.by_id[execution])
            case instructions.ReleaseClaim(execution):
                self._release(self._table.by_id[execution])
            case instructions.SubmitAttempt(execution, number):
                self._submit(self._table.by_id[execution], number)
            case instructions.StopAttempt(execution):
                self._stop(self._table.by_id[execution])
            case instructions.NoteBlocked(execution, text):
                state = self._table.by_id[execution]
                self._changes.put(state, state.stands(Status.QUEUED, notes=(text,)))
            case instructions.RecordExecution(execution, status, reasons):
                self._record(self._table.by_id[execution], status, reasons)
            case instructions.FinishRun(status):
                self._status = status

    def _decide(self, state: ExecutionState) -> None:
        state.decision = self._decision(state)
        if self._is_delivered(state):
            self._feed(stimuli.ExecutionDecided(state.id, state.decision.verdict))

    def _decision(self, state: ExecutionState) -> StepDecision:
        """Decide an execution's step by the present state of files and results."""
        planner = state.increment.planner
        if id(planner) not in self._fresh:
            planner.past.refresh()
            self._fresh.add(id(planner))
        return planner.decide(state.step, self._table.upstream(state.record.needs))

    def _is_delivered(self, state: ExecutionState) -> bool:
        """Fill the destinations of a reused step; return False if that failed."""
        verdict = state.decision.verdict if state.decision else None
        if not isinstance(verdict, ReuseVerdict):
            return True
        problem = state.increment.jobs.deliver(state.step, verdict.hit.artifacts)
        if problem is None:
            return True
        state.failure = _not_delivered(problem)
        self._feed(stimuli.ExecutionAttemptEnded(state.id, Status.FAILED, state.failure, final=True))
        return False

    def _claim(self, state: ExecutionState) -> None:
        if self.state.status(state.id) is not None:
            return
        if state.key is not None and state.claim is None:
            claim = self.history.claims.claim(
                state.key, owner=self.run.owner, now=self.clock(), lease=LEASE, alive=is_alive
            )
            if isinstance(claim, ClaimedByOther):
                self._feed(stimuli.ClaimRefused(state.id, claim.run))
                return
            state.claim = claim
        self._feed(stimuli.KeyClaimed(state.id))

    def _check(self, state: ExecutionState) -> None:
        """Decide again under the claim, since the previous holder of the key may have finished in between."""
        again = self._decision(state)
        elsewhere = None if isinstance(again.verdict, ReuseVerdict) else self._ended_elsewhere(state)
        if isinstance(again.verdict, ReuseVerdict):
            state.decision = again
            if not self._is_delivered(state):
                return
        self._feed(stimuli.DecisionChecked(state.id, again.verdict, elsewhere))

    def _ended_elsewhere(self, state: ExecutionState) -> stimuli.AwaitedAttemptEnded | None:
        """Return the ending of the attempt that this execution awaited, if it belongs to the same pipeline."""
        awaited = self.state.awaited(state.id)
        if not self.attach or state.key is None or not awaited:
            return None
        attempt = self.history.attempts.newest_at(state.key, awaited, self.run.pipeline)
        if attempt is None or attempt.failure is None or attempt.status not in (Status.FAILED, Status.CANCELLED):
            return None
        state.failure, state.elsewhere = attempt.failure, attempt
        return stimuli.AwaitedAttemptEnded(attempt.status, attempt.failure)

    def _release(self, state: ExecutionState) -> None:
        if state.claim is not None:
            self.history.claims.release(state.claim)
            state.claim = None

    def _submit(self, state: ExecutionState, number: int) -> None:
        attempt, jobs = self.new_id(), state.increment.jobs
        try:
            upstream = self._table.upstream(state.record.needs)
            job = jobs.job(state.step, attempt=attempt, token=state.token, upstream=upstream)
        except (OSError, NbpipeError) as error:
            state.failure = _preparation_failure(error)
            self._feed(stimuli.ExecutionAttemptEnded(state.id, Status.FAILED, state.failure, final=True))
            return
        directory = jobs.directory(state.step, attempt)
        record = AttemptRecord(attempt, self.run.id, state.id, number, Status.QUEUED, directory, state.token, state.key)
        state.outcome, state.failure, state.pieces = None, None, self._changes.events.reader(job.directory)
        self._running[attempt] = state
        self._changes.put_attempt(state, record)
        self._changes.put(
            state, state.stands(Status.PREPARING if self._executor is None else Status.QUEUED, started=None)
        )
        self._save()
        parents = parents_of(state, self._table)
        self.archive.keep_submitted(self.run, state, jobs.pinned(state.step), parents, self.clock())
        if self._executor is None:
            self._executor = self.executors()
        self._executor.submit(job)

    def _stop(self, state: ExecutionState) -> None:
        if self._executor is not None and state.attempt is not None:
            self._executor.cancel(state.attempt.id)

    def _ended(self, state: ExecutionState, outcome: Outcome) -> None:
        attempt = self._running.pop(outcome.attempt).attempt
        if attempt is None:
            return
        if outcome.status is Status.LOST:
            outcome = self.archive.finished(attempt) or outcome
        conflict = self._conflict(state, outcome)
        if conflict is not None:
            outcome = _in_conflict(outcome, conflict)
            self._changes.note(conflict.outdated, self.clock())
        elif outcome.status is Status.SUCCEEDED:
            problem = state.increment.jobs.deliver(state.step, outcome.artifacts)
            if problem is None:
                self._commit(state, outcome)
                return
            outcome = replace(outcome, status=Status.FAILED, failure=_not_delivered(problem))
        state.outcome = outcome
        state.failure = outcome.failure or Failure(FailureKind.LOST, "Lost", "", "the attempt ended without an error")
        self._changes.put_attempt(state, self._ending(state, outcome))
        final = conflict is not None and not conflict.again
        self._feed(stimuli.ExecutionAttemptEnded(state.id, outcome.status, state.failure, final=final))

    def _conflict(self, state: ExecutionState, outcome: Outcome) -> FileConflict | None:
        """Return why a successful attempt cannot stand: it shares a file with a step that it is not ordered with."""
        if outcome.status is not Status.SUCCEEDED or not self._files.may_concern(outcome.written):
            return None
        needs = {execution: other.record.needs for execution, other in self._table.by_id.items()}
        read = paths_read(outcome.observed, state.increment.jobs.pinned(state.step))
        return self._files.find(state.record, needs, read, outcome.written, outcome.doubts)

    def _ending(self, state: ExecutionState, outcome: Outcome) -> AttemptRecord:
        if state.attempt is None:
            raise ValueError(f"{state.step} has no attempt")
        return replace(
            state.attempt, status=outcome.status, ended=self.clock(), seconds=outcome.seconds,
            notebook=outcome.notebook, failure=state.failure if outcome.status is not Status.SUCCEEDED else None,
            artifacts=outcome.artifacts, notebook_digest=outcome.notebook_digest, display=outcome.display,
        )  # fmt: skip

    def _commit(self, state: ExecutionState, outcome: Outcome) -> None:
        doubts = outcome.doubts
        if not state.increment.jobs.unchanged(state.step):
            doubts = (*doubts, "a declared file changed while the step ran")
        notes = (*outcome.notes, *(f"{doubt}: its result serves this run only" for doubt in doubts))
        notes += self._nondeterministic(state, outcome)
        state.outcome, state.failure = replace(outcome, notes=notes), None
        entries = () if doubts else state.entries(outcome.observed)
        attempt = self._ending(state, outcome)
        # In the log, the events of the attempt come before its end.
        self._save()
        record = replace(state.ended(Status.SUCCEEDED, self.clock()), notebook=attempt.executed_notebook)
        drafts = self._drafts(state, outcome.artifacts)
        done = self.history.attempts.commit(
            attempt, record, offers=entries, claim=state.claim, now=self.clock(), registrations=drafts
        )
        if not done:
            self._overtaken(state, outcome)
            return
        self._changes.is_log_longer = True
        if drafts:
            (record,) = self.history.executions.get([state.id])
            self.archive.keep_versions(self.history, record)
        read = paths_read(outcome.observed, state.increment.jobs.pinned(state.step))
        self._files.add(record, read, outcome.written, self.clock())
        state.attempt, state.record, state.claim, state.offered = attempt, record, None, bool(entries)
        self.archive.keep(self.run, state, entries, self.clock())
        self._feed(stimuli.ResultCommitted(state.id))

    def _drafts(
        self, state: ExecutionState, artifacts: Iterable[Artifact], result: ResultOrigin | None = None
    ) -> dict[str, DatasetDraft]:
        """Return what a step's outputs are to be registered as, by output; ``result`` is where reused ones are from."""
        register = state.increment.planner.graph.steps[state.step].options.register
        if not register:
            return {}
        return output_drafts(register, artifacts, origin_of(state, self._table, result, self.clock()))

    def _registered(self, state: ExecutionState, record: ExecutionRecord) -> ExecutionRecord:
        """Return the record of a reused result whose outputs name their versions, made now if there are none."""
        drafts = self._drafts(state, record.artifacts, record.origin)
        if not drafts:
            return record
        named = {output: str(self.history.datasets.register(draft)) for output, draft in drafts.items()}
        record = in_datasets(record, named)
        self.archive.keep_versions(self.history, record)
        return record

    def _nondeterministic(self, state: ExecutionState, outcome: Outcome) -> tuple[str, ...]:
        """Return a note if the same key has produced different bytes before."""
        before = self.history.results.lookup([state.key]).get(state.key) if state.key else None
        if before is None or before.observed != outcome.observed:
            return ()
        digests = {artifact.name: artifact.digest for artifact in outcome.artifacts}
        other = [f"`{old.name}`" for old in before.artifacts if digests.get(old.name, old.digest) != old.digest]
        return (f"not deterministic: {', '.join(other)} differ from an earlier result",) if other else ()

    def _overtaken(self, state: ExecutionState, outcome: Outcome) -> None:
        """Drop a late attempt: another run holds the key, so this run waits for its result."""
        state.outcome = None
        state.failure = Failure(FailureKind.LOST, "ClaimLost", "", "another run took this step over")
        lost = replace(outcome, status=Status.LOST, artifacts=(), display=None)
        self._changes.put_attempt(state, self._ending(state, lost))
        self._changes.put(state, state.stands(Status.QUEUED, started=None))
        self._feed(stimuli.CommitOvertaken(state.id))

    def _record(self, state: ExecutionState, status: Status, reasons: tuple[Reason, ...]) -> None:
        now = self.clock()
        verdict = state.decision.verdict if state.decision else None
        if status is Status.REUSED or (status is Status.SUCCEEDED and state.outcome is None):
            record = self._registered(state, state.reused(status, now))
            self._files.add(record, paths_read(record.observed, state.increment.jobs.pinned(state.step)), (), now)
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
            self._changes.put(state, record)
        state.settle()

    def _save(self) -> None:
        if self._changes.write(self.clock()):
            self.watch()

    def _abandon(self) -> None:
        """Clean up a run that breaks off: stop attempts, release claims, and end open steps as lost."""
        self.intake.abandon()
        now = self.clock()
        try:
            for state in self._running.values():
                self._stop_quietly(state)
                if state.attempt is not None:
                    self._changes.put_attempt(
                        state, replace(state.attempt, status=Status.LOST, ended=now, failure=_LOST)
                    )
            for state in self._table.by_id.values():
                self._release(state)
                if not state.record.status.terminal:
                    self._changes.put(state, replace(state.record, status=Status.LOST, ended=now, failure=_LOST))
            self._save()
        except OutOfReach as error:
            # The next process recovers the rest: claims expire, and the run's owner is dead.
            _LOG.warning("a run that broke off could not be cleaned up: %s", error)

    def _stop_quietly(self, state: ExecutionState) -> None:
        try:
            self._stop(state)
        except Exception as error:  # noqa: BLE001  # the border of the executor, which may be what failed
            _LOG.warning("an attempt of a run that broke off could not be stopped: %s", error)


def _in_conflict(outcome: Outcome, conflict: FileConflict) -> Outcome:
    status = Status.LOST if conflict.again else Status.FAILED
    return replace(outcome, status=status, failure=conflict.failure, artifacts=(), display=None)


def _preparation_failure(error: OSError | NbpipeError) -> Failure:
    """Return the failure of an attempt that could not be prepared, such as for an input that is out of reach."""
    if isinstance(error, NbpipeError):
        return Failure(FailureKind.INPUT, type(error).__name__, error.message, f"{error.message}. {error.hint}")
    message = f"the attempt could not be prepared: {error.strerror or error}"
    return Failure(FailureKind.LOST, type(error).__name__, str(error), message)


def _not_delivered(problem: str) -> Failure:
    return Failure(FailureKind.OUTPUT, "NotDelivered", problem, problem)
