"""The attempts of a run: submitting them to the executor, hearing their reports, and committing their results."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nbpipe.compute.executor import Executor
from nbpipe.data.stores.object_store import no_progress
from nbpipe.errors import NbpipeError
from nbpipe.model import (
    AttemptEnded,
    AttemptOutputWritten,
    AttemptRecord,
    AttemptReport,
    AttemptStarted,
    AttemptWaiting,
    ExecutionRecord,
    Failure,
    FailureKind,
    Outcome,
    Status,
)
from nbpipe.model.compute import Placement
from nbpipe.planning import stimuli
from nbpipe.planning.execution_graph import Phase
from nbpipe.run.archive_files import ResultArchiveWriter
from nbpipe.run.carried_run import CarriedRun
from nbpipe.run.execution_decider import not_delivered
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.file_conflicts import FileConflict, FileConflicts, paths_read
from nbpipe.run.input_transfers import InputTransfer
from nbpipe.run.lost_inputs import LostInputs
from nbpipe.run.output_registration import OutputRegistration
from nbpipe.run.registrations import parents_of

# Attempts that are submitted for each slot: one that runs, and one that starts as soon as that has ended.
_AHEAD = 2
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class AttemptControl:
    """Carries out the attempts of a run, and tells its state machine how they went. ``new_id`` returns unique ids."""

    carried: CarriedRun
    archive: ResultArchiveWriter
    executors: Callable[[], Executor]
    new_id: Callable[[], str]
    registration: OutputRegistration = field(init=False)
    lost_inputs: LostInputs = field(init=False)
    _running: dict[str, ExecutionState] = field(default_factory=dict)
    _executor: Executor | None = None
    _files: FileConflicts = field(default_factory=FileConflicts)

    def __post_init__(self) -> None:
        self.registration = OutputRegistration(self.carried, self.archive)
        self.lost_inputs = LostInputs(self.carried)

    @property
    def is_any_running(self) -> bool:
        """Return whether an attempt has been submitted and has not ended."""
        return self._executor is not None and bool(self._running)

    def wait(self, seconds: float) -> None:
        """Wait for reports up to some seconds, and process them."""
        if self._executor is not None:
            for report in self._executor.wait(seconds):
                self._hear(report)

    def take_reused(self, state: ExecutionState, record: ExecutionRecord, now: float) -> ExecutionRecord:
        """Take over a reused result: register its outputs, and note the files that its attempt had read.

        Return ``record``, the execution's last, with the versions that its outputs are.
        """
        record = self.registration.of_reused(state, record)
        read = paths_read(record.observed, state.increment.jobs.pinned(state.step))
        self._files.add(record, read, (), now)
        return record

    def abandon(self, now: float, failure: Failure) -> None:
        """Stop all attempts, and record them as lost."""
        for state in self._running.values():
            self._stop_quietly(state)
            if state.attempt is not None:
                lost = replace(state.attempt, status=Status.LOST, ended=now, failure=failure)
                self.carried.changes.put_attempt(state, lost)

    def has_room(self, placement: Placement) -> bool:
        """Return whether one more attempt with this placement would start soon.

        Other executions are neither claimed nor prepared yet, so that wide runs do not hold many claims at a time.
        Those with other needs do not count: while some wait for a GPU, others run.
        """
        phase, by_id = self.carried.state.phase, self.carried.table.by_id
        copying = [by_id[each.execution] for each in self.carried.transfers.active]
        submitted = [*self._running.values(), *(each for each in copying if phase(each.id) is Phase.SUBMITTED)]
        if self._executor is None:
            return not submitted
        slots = min(self._executor.slots_on(placement.target), placement.target.concurrent(placement.needs))
        return sum(each.placement == placement for each in submitted) < _AHEAD * slots

    def submit(self, state: ExecutionState, number: int) -> None:
        """Submit an attempt of an execution."""
        attempt, jobs = self.new_id(), state.increment.jobs
        try:
            missing = jobs.unstaged(state.step)
            if missing:
                transfer = InputTransfer(state.id, "copying its inputs", missing, lambda: self.submit(state, number))
                self.carried.transfers.start(transfer, lambda progress: jobs.stage(state.step, progress))
                return
            jobs.stage(state.step, no_progress)
            upstream = self.carried.table.upstream(state.record.needs)
            job = jobs.job(state.step, attempt=attempt, token=state.token, upstream=upstream)
        except (OSError, NbpipeError) as error:
            self.not_prepared(state, error)
            return
        directory = jobs.directory(state.step, attempt)
        record = AttemptRecord(
            attempt, self.carried.run.id, state.id, number, Status.QUEUED, directory, state.token, state.key
        )
        state.outcome, state.failure, state.pieces = None, None, self.carried.changes.events.reader(job.directory)
        self._running[attempt] = state
        self.carried.changes.put_attempt(state, record)
        self.carried.changes.put(
            state, state.stands(Status.PREPARING if self._executor is None else Status.QUEUED, started=None)
        )
        self.carried.save()
        parents = parents_of(state, self.carried.table)
        self.archive.keep_submitted(self.carried.run, state, jobs.pinned(state.step), parents, self.carried.clock())
        if self._executor is None:
            self._executor = self.executors()
        self._executor.submit(job)

    def not_prepared(self, state: ExecutionState, error: OSError | NbpipeError) -> None:
        """End an execution whose attempt could not be prepared."""
        state.failure = self.lost_inputs.withdraw(state, _preparation_failure(error))
        self.carried.feed(stimuli.ExecutionAttemptEnded(state.id, Status.FAILED, state.failure, final=True))

    def stop(self, state: ExecutionState) -> None:
        """Stop the transfer of an execution's inputs, or ask the executor to stop its attempt, which is reported."""
        if state.id in self.carried.transfers:
            self.carried.transfers.stop(state.id)
            return
        if self._executor is not None and state.attempt is not None:
            self._executor.cancel(state.attempt.id)

    def _hear(self, report: AttemptReport) -> None:
        state = self._running.get(report.attempt)
        if state is None or state.attempt is None:
            return
        match report:
            case AttemptWaiting(_, reason):
                self.carried.changes.put(state, state.stands(Status.QUEUED, notes=(reason,)))
            case AttemptStarted(_, at):
                self.carried.changes.put_attempt(state, replace(state.attempt, status=Status.RUNNING, started=at))
                self.carried.changes.put(state, state.stands(Status.RUNNING, started=at))
                self.carried.feed(stimuli.ExecutionStarted(state.id))
            case AttemptOutputWritten(_, pieces):
                self.carried.changes.events.take(state, pieces)
            case AttemptEnded(outcome):
                self.carried.changes.events.take(state, None)
                self._ended(state, outcome)

    def _ended(self, state: ExecutionState, outcome: Outcome) -> None:
        attempt = self._running.pop(outcome.attempt).attempt
        if attempt is None:
            return
        if outcome.status is Status.LOST:
            outcome = self.archive.finished(attempt) or outcome
        self.carried.history.object_digests.remember(outcome.stored)
        conflict, lost = self._conflict(state, outcome), self._lost(outcome)
        if lost is not None:
            outcome = replace(outcome, status=Status.LOST, failure=_collected(lost), artifacts=(), display=None)
        elif conflict is not None:
            outcome = _in_conflict(outcome, conflict)
            self.carried.changes.note(conflict.outdated, self.carried.clock())
        elif outcome.status is Status.SUCCEEDED:
            problem = state.increment.jobs.deliver(state.step, outcome.artifacts)
            if problem is None:
                self._commit(state, outcome)
                return
            outcome = replace(outcome, status=Status.FAILED, failure=not_delivered(problem))
        failure = outcome.failure or Failure(FailureKind.LOST, "Lost", "", "the attempt ended without an error")
        state.outcome, state.failure = outcome, self.lost_inputs.withdraw(state, failure)
        self.carried.changes.put_attempt(state, self._ending(state, outcome))
        final = (lost is None and conflict is not None and not conflict.again) or state.failure is not failure
        self.carried.feed(stimuli.ExecutionAttemptEnded(state.id, outcome.status, state.failure, final=final))

    def _lost(self, outcome: Outcome) -> str | None:
        """Return the name of an output of a successful attempt that was deleted since it was stored, if one was."""
        if outcome.status is not Status.SUCCEEDED:
            return None
        display = (outcome.display,) if outcome.display is not None else ()
        return self.carried.find_lost((*outcome.artifacts, *display))

    def _conflict(self, state: ExecutionState, outcome: Outcome) -> FileConflict | None:
        """Return why a successful attempt cannot stand: it shares a file with a step that it is not ordered with."""
        if outcome.status is not Status.SUCCEEDED or not self._files.may_concern(outcome.written):
            return None
        needs = {execution: other.record.needs for execution, other in self.carried.table.by_id.items()}
        read = paths_read(outcome.observed, state.increment.jobs.pinned(state.step))
        return self._files.find(state.record, needs, read, outcome.written, outcome.doubts)

    def _ending(self, state: ExecutionState, outcome: Outcome) -> AttemptRecord:
        if state.attempt is None:
            raise ValueError(f"{state.step} has no attempt")
        return replace(
            state.attempt, status=outcome.status, ended=self.carried.clock(), seconds=outcome.seconds,
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
        self.carried.save()
        record = replace(state.ended(Status.SUCCEEDED, self.carried.clock()), notebook=attempt.executed_notebook)
        now, drafts = self.carried.clock(), self.registration.drafts(state, outcome.artifacts)
        done = self.carried.history.attempts.commit(
            attempt, record, offers=entries, claim=state.claim, now=now, registrations=drafts
        )
        if not done:
            self._overtaken(state, outcome)
            return
        self.carried.changes.is_log_longer = True
        if drafts:
            record = self.registration.committed(state)
        read = paths_read(outcome.observed, state.increment.jobs.pinned(state.step))
        self._files.add(record, read, outcome.written, self.carried.clock())
        state.attempt, state.record, state.claim, state.offered = attempt, record, None, bool(entries)
        self.archive.keep(self.carried.run, state, entries, self.carried.clock())
        self.carried.feed(stimuli.ResultCommitted(state.id))

    def _nondeterministic(self, state: ExecutionState, outcome: Outcome) -> tuple[str, ...]:
        """Return a note if the same key has produced different bytes before."""
        before = self.carried.history.results.lookup([state.key]).get(state.key) if state.key else None
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
        self.carried.changes.put_attempt(state, self._ending(state, lost))
        self.carried.changes.put(state, state.stands(Status.QUEUED, started=None))
        self.carried.feed(stimuli.CommitOvertaken(state.id))

    def _stop_quietly(self, state: ExecutionState) -> None:
        try:
            self.stop(state)
        except Exception as error:  # noqa: BLE001  # the border of the executor, which may be what failed
            _LOG.warning("an attempt of a run that broke off could not be stopped: %s", error)


def _in_conflict(outcome: Outcome, conflict: FileConflict) -> Outcome:
    status = Status.LOST if conflict.again else Status.FAILED
    return replace(outcome, status=status, failure=conflict.failure, artifacts=(), display=None)


def _collected(output: str) -> Failure:
    message = f"the output `{output}` was collected before its result was recorded"
    return Failure(FailureKind.LOST, "OutputCollected", message, message)


def _preparation_failure(error: OSError | NbpipeError) -> Failure:
    """Return the failure of an attempt that could not be prepared, such as for an input that is out of reach."""
    if isinstance(error, NbpipeError):
        return Failure(FailureKind.INPUT, type(error).__name__, error.message, f"{error.message}. {error.hint}")
    message = f"the attempt could not be prepared: {error.strerror or error}"
    return Failure(FailureKind.LOST, type(error).__name__, str(error), message)
