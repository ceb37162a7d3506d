"""The loop that carries out a run: it does what the state machine says, and is the only writer of history."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nbpipe.data.events import Tail, metrics_of
from nbpipe.errors import OutOfReach
from nbpipe.history.archive import Archived
from nbpipe.history.claims import Held
from nbpipe.history.results import Offer
from nbpipe.history.store import History
from nbpipe.model import (
    Artifact,
    AttemptEnded,
    AttemptReport,
    AttemptStarted,
    Failure,
    Job,
    Metric,
    Outcome,
    Reason,
    ReuseVerdict,
    RunRecord,
    Status,
    StepEvent,
    StepOutput,
    StepRecord,
)
from nbpipe.planning import progress as state
from nbpipe.planning.plan import Planner
from nbpipe.planning.progress import Progress
from nbpipe.run.heartbeat import LEASE, Heartbeat
from nbpipe.run.held import HeldStep
from nbpipe.run.owner import is_alive

_PAUSE = 0.1
_LOG = logging.getLogger(__name__)


class Executor(Protocol):
    """What carries attempts: Dask, or threads of this process."""

    @property
    def slots(self) -> int:
        """How many attempts run at the same time."""

    def submit(self, job: Job) -> None:
        """Start an attempt as soon as there is room."""

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Return what attempts report, waiting up to ``timeout`` seconds for the first.

        Reports of one attempt come in the order started, told, ended; each that was submitted ends once.
        """

    def cancel(self, attempt: str) -> None:
        """Kill an attempt; its outcome comes through ``wait``."""

    def close(self) -> None:
        """Stop everything that was started for it."""


class Workshop(Protocol):
    """What the driver needs made or done for a step outside of history."""

    def job(self, step: str, *, number: int, attempt: str, token: int, upstream: Mapping[StepOutput, Artifact]) -> Job:
        """Get the job of one attempt."""

    def unchanged(self, step: str) -> bool:
        """Say whether the files that the step declares are still what they were at submit."""

    def deliver(self, step: str, artifacts: Iterable[Artifact]) -> str | None:
        """Fill the step's destinations; get what went wrong."""

    def keep(self, kept: Archived) -> None:
        """Write a committed result beside its notebook."""

    def keep_submitted(self, kept: Archived) -> None:
        """Write what whoever comes next needs to take the attempt over."""

    def finished(self, directory: str, attempt: str, token: int) -> Outcome | None:
        """Get the success of an attempt whose worker could not tell of it any more."""


Watch = Callable[[StepRecord], None]
Hear = Callable[[str, Sequence[StepEvent]], None]


@dataclass(slots=True)
class Driver:
    """Carries out one run. ``clock`` gives seconds since the epoch, ``new_id`` texts that never repeat.

    ``cancelled`` is asked whether to stop, ``unwanted`` which steps to stop. With ``attach`` a step that waited for
    another run of the same notebook ends as it did there, well or not, and is not tried once more.
    """

    run: RunRecord
    planner: Planner
    history: History
    workshop: Workshop
    executor: Callable[[], Executor]
    clock: Callable[[], float]
    new_id: Callable[[], str]
    watch: Watch
    positions: Mapping[str, int]
    progress: Progress
    cancelled: Callable[[], bool] = lambda: False
    unwanted: Callable[[], Iterable[str]] = tuple
    attach: bool = False
    upstream: dict[StepOutput, Artifact] = field(default_factory=dict)
    _steps: dict[str, HeldStep] = field(default_factory=dict)
    _attempts: dict[str, str] = field(default_factory=dict)
    hear: Hear = lambda _step, _events: None
    _executor: Executor | None = None
    _tails: dict[str, Tail] = field(default_factory=dict)
    _todo: deque[state.Instruction] = field(default_factory=deque)
    _unsaved: dict[str, StepRecord] = field(default_factory=dict)
    records: dict[str, StepRecord] = field(default_factory=dict)
    _status: Status | None = None
    _asked: bool = False
    _refused: set[str] = field(default_factory=set)

    def carry_out(self) -> Status:
        """Run all steps to their end and get the run's status."""
        self._steps = {name: HeldStep() for name in self.progress.needs}
        for name in self._steps:
            self._put(name, self._blank(name, Status.QUEUED), show=False)
        try:
            with Heartbeat(self.history, self.run.owner, self.clock):
                self._feed(state.Begin())
                while self._status is None:
                    self._turn()
            self._save()
        except BaseException:
            self._abandon()
            raise
        return self._status

    def _turn(self) -> None:
        while self._todo:
            self._perform(self._todo.popleft())
        if self._status is not None:
            return
        self._save()
        if self.cancelled() and not self._asked:
            self._cancel()
            return
        for step in set(self.unwanted()) & self._steps.keys() - self._refused:
            self._refused.add(step)
            self._steps[step].waiting = False
            self._feed(state.StepCancelAsked(step))
        if self._executor is not None and self._attempts:
            reports = self._executor.wait(_PAUSE)
            self._listen(reports)
            for report in reports:
                if isinstance(report, AttemptEnded):
                    self._ended(report.outcome)
        elif self._waiting():
            Heartbeat.pause(_PAUSE)
        self.planner.past.refresh()
        for name in self._waiting():
            self._steps[name].waiting = False
            self._todo.append(state.Decide(name))

    def _listen(self, reports: Iterable[AttemptReport]) -> None:
        """Take note of attempts that have begun, and of what they have told; their numbers are kept."""
        measured: list[Metric] = []
        for report in reports:
            step = self._attempts.get(report.attempt)
            if step is None:
                continue
            if isinstance(report, AttemptStarted):
                self._put(step, dataclasses.replace(self._blank(step, Status.RUNNING), started=report.at))
            elif events := self._tails[report.attempt].read():
                self.hear(step, events)
                measured += metrics_of(events, self.run.id, step, report.attempt)
        if measured:
            self.history.put_metrics(measured)

    def _waiting(self) -> list[str]:
        return [name for name, held in self._steps.items() if held.waiting]

    def _cancel(self) -> None:
        self._asked = True
        for held in self._steps.values():
            held.waiting = False
        self._feed(state.CancelAsked())

    def _abandon(self) -> None:
        """Leave nothing going on behind a run that breaks off: neither attempts nor claims, and no step is open."""
        failure = Failure("lost", "RunBrokenOff", "", "the run broke off")
        try:
            for attempt, step in self._attempts.items():
                self._stop(attempt)
                lost = Outcome(attempt, self._steps[step].token, Status.LOST, 0.0, "", failure=failure)
                self.history.end_attempt(lost, self.clock())
            for step, held in self._steps.items():
                self._release(held)
                if self.progress.status(step) is None:
                    self._put(step, dataclasses.replace(self._blank(step, Status.LOST), ended=self.clock()), show=False)
            self._save()
        except OutOfReach as error:
            # What is left is found by the next process: claims run out, and the run's owner is dead.
            _LOG.warning("a run that broke off could not be tidied up: %s", error)

    def _stop(self, attempt: str) -> None:
        if self._executor is None:
            return
        try:
            self._executor.cancel(attempt)
        except Exception as error:  # noqa: BLE001  # the executor's border: it may be what broke, and is told already
            _LOG.warning("an attempt of a run that broke off could not be stopped: %s", error)

    def _feed(self, event: state.Event) -> None:
        self._todo.extend(self.progress.handle(event))

    def _perform(self, instruction: state.Instruction) -> None:
        match instruction:
            case state.Decide(step):
                self._decide(step)
            case state.Claim(step):
                self._claim(step)
            case state.Submit(step, _):
                self._submit(step)
            case state.Record(step, status, reasons):
                self._record(step, status, reasons)
            case state.Stop(step):
                if self._executor is not None:
                    self._executor.cancel(self._steps[step].attempt)
            case state.Finish(status):
                self._status = status

    def _decide(self, step: str) -> None:
        if self.progress.status(step) is not None:
            return
        held = self._steps[step]
        held.decision = self.planner.decide(step, self.upstream)
        if isinstance(held.decision.verdict, ReuseVerdict):
            problem = self.workshop.deliver(step, held.decision.verdict.hit.artifacts)
            if problem:
                self._fail_delivery(step, problem)
                return
        self._feed(state.Decided(step, held.decision.verdict))

    def _fail_delivery(self, step: str, problem: str) -> None:
        held = self._steps[step]
        held.failure = _not_delivered(problem)
        self._feed(state.Ended(step, Status.FAILED, held.failure, final=True))

    def _claim(self, step: str) -> None:
        held = self._steps[step]
        decision = held.decision
        if decision is not None and decision.key is not None and held.claim is None:
            claim = self.history.claim(
                decision.key, owner=self.run.owner, now=self.clock(), lease=LEASE, alive=is_alive
            )
            if isinstance(claim, Held):
                if not held.waiting:
                    self._put(
                        step, dataclasses.replace(self._blank(step, Status.QUEUED), notes=("another run makes this",))
                    )
                held.waiting = True
                held.awaited |= {claim.run} if claim.run else set()
                return
            held.claim = claim
            if self._came_meanwhile(step) or self._ended_elsewhere(step):
                return
        self._feed(state.Claimed(step))

    def _came_meanwhile(self, step: str) -> bool:
        """Decide again under the claim: whoever held the key may have finished between our look and our claim."""
        held = self._steps[step]
        again = self.planner.decide(step, self.upstream)
        if not isinstance(again.verdict, ReuseVerdict):
            return False
        self._release(held)
        held.decision = again
        self._decide(step)
        return True

    def _ended_elsewhere(self, step: str) -> bool:
        """End as the attempt did that this step has waited for, where it was this notebook's own."""
        held = self._steps[step]
        if not self.attach or held.key is None:
            return False
        found = self.history.newest_attempt(held.key, held.awaited, self.run.notebook)
        if found is None or found.failure is None or found.status not in (Status.FAILED, Status.CANCELLED):
            return False
        held.failure = found.failure
        held.elsewhere = found
        self._release(held)
        self._feed(state.Ended(step, found.status, found.failure, final=True))
        return True

    def _release(self, held: HeldStep) -> None:
        if held.claim is not None:
            self.history.release(held.claim)
            held.claim = None

    def _submit(self, step: str) -> None:
        held = self._steps[step]
        held.attempts += 1
        held.attempt = self.new_id()
        try:
            job = self.workshop.job(
                step, number=held.attempts, attempt=held.attempt, token=held.token, upstream=self.upstream
            )
        except OSError as error:
            said = f"the attempt could not be prepared: {error.strerror or error}"
            held.failure = Failure("lost", type(error).__name__, str(error), said)
            self._feed(state.Ended(step, Status.FAILED, held.failure, final=True))
            return
        held.directory = job.directory
        self.history.begin_attempt(
            attempt=held.attempt, run=self.run.id, step=step, number=held.attempts, key=held.key, token=held.token,
            directory=job.directory, now=self.clock(),
        )  # fmt: skip
        if self._executor is None:
            self._put(step, self._blank(step, Status.PREPARING))
            self._executor = self.executor()
        self._attempts[held.attempt] = step
        self._tails[held.attempt] = Tail(Path(job.directory))
        self.workshop.keep_submitted(self._kept(held, self._blank(step, Status.RUNNING)))
        self._save()
        self._executor.submit(job)
        self._feed(state.Started(step))

    def _ended(self, outcome: Outcome) -> None:
        step = self._attempts.pop(outcome.attempt, None)
        self._tails.pop(outcome.attempt, None)
        if step is None:
            return
        held = self._steps[step]
        if outcome.status is Status.LOST:
            outcome = self.workshop.finished(held.directory, outcome.attempt, held.token) or outcome
        if outcome.notebook:
            outcome = dataclasses.replace(outcome, notebook=str(Path(held.directory, outcome.notebook)))
        held.outcome = outcome
        if outcome.status is Status.SUCCEEDED:
            self._commit(step, outcome)
            return
        held.failure = outcome.failure or Failure("lost", "Lost", "", "the attempt ended without a reason")
        self.history.end_attempt(outcome, self.clock())
        self._feed(state.Ended(step, outcome.status, held.failure))

    def _commit(self, step: str, outcome: Outcome) -> None:
        held = self._steps[step]
        problem = self.workshop.deliver(step, outcome.artifacts)
        if problem:
            self._ended_badly(step, dataclasses.replace(outcome, status=Status.FAILED, failure=_not_delivered(problem)))
            return
        for artifact in outcome.artifacts:
            self.upstream[StepOutput(artifact.name, step)] = artifact
        doubts = outcome.doubts
        if not self.workshop.unchanged(step):
            doubts = (*doubts, "a declared file changed while the step ran")
        notes = (*outcome.notes, *(f"{doubt}: its result serves this run only" for doubt in doubts))
        notes += self._nondeterministic(held, outcome)
        record = dataclasses.replace(self._final(step, Status.SUCCEEDED, ()), notes=notes)
        offers = [] if doubts else held.offers(outcome.observed)
        done = self.history.commit(outcome, record, offers=offers, claim=held.claim, now=self.clock())
        if not done:
            self._taken_over(step, outcome)
            return
        self.workshop.keep(self._kept(held, record, offers))
        held.claim = None
        held.record = record
        self._feed(state.Committed(step))

    def _kept(self, held: HeldStep, record: StepRecord, offers: Iterable[Offer] | None = None) -> Archived:
        """Get what is kept of an attempt outside of history."""
        given = held.offers() if offers is None else offers
        return Archived(self.run, record, held.attempt, held.token, held.directory, tuple(given), self.clock())

    def _nondeterministic(self, held: HeldStep, outcome: Outcome) -> tuple[str, ...]:
        """Get a note when the same key has made other bytes before."""
        before = self.history.lookup([held.key]).get(held.key) if held.key else None
        if before is None or before.observed != outcome.observed:
            return ()
        made = {artifact.name: artifact.digest for artifact in outcome.artifacts}
        other = [f"`{old.name}`" for old in before.artifacts if made.get(old.name, old.digest) != old.digest]
        return (f"not deterministic: {', '.join(other)} came out otherwise than before",) if other else ()

    def _taken_over(self, step: str, outcome: Outcome) -> None:
        """Drop a late attempt: another run holds the key by now, so its result is what we wait for."""
        held = self._steps[step]
        held.failure = Failure("lost", "ClaimLost", "", "another run took this step over")
        self.history.end_attempt(dataclasses.replace(outcome, status=Status.LOST, failure=held.failure), self.clock())
        # Ours may be the current claim even so: kept, it would make this run wait for itself.
        self._release(held)
        held.outcome = None
        held.overtaken += 1
        if held.overtaken > state.LOST_TRIES:
            # Not another run's haste, then: somebody took this very run for dead and closed it.
            self._feed(state.Ended(step, Status.LOST, held.failure, final=True))
            return
        held.waiting = True

    def _ended_badly(self, step: str, outcome: Outcome) -> None:
        held = self._steps[step]
        held.outcome, held.failure = outcome, outcome.failure
        self.history.end_attempt(outcome, self.clock())
        if outcome.failure is not None:
            self._feed(state.Ended(step, outcome.status, outcome.failure))

    def _record(self, step: str, status: Status, reasons: tuple[Reason, ...]) -> None:
        held = self._steps[step]
        held.waiting = False
        self._release(held)
        record = held.record if status is Status.SUCCEEDED and held.record else self._final(step, status, reasons)
        if status is Status.REUSED:
            for artifact in record.artifacts:
                self.upstream[StepOutput(artifact.name, step)] = artifact
        self._put(step, record)

    def _blank(self, step: str, status: Status, **known: Any) -> StepRecord:
        held = self._steps[step]
        decision = held.decision
        blank: dict[str, Any] = {
            "seconds": 0.0, "saved_seconds": 0.0, "origin": None, "notebook": None, "artifacts": (), "failure": None,
        }  # fmt: skip
        return StepRecord(
            run=self.run.id, step=step, position=self.positions[step], status=status, attempts=held.attempts,
            reasons=decision.verdict.reasons if decision else (),
            components=decision.components if decision else (), key=held.key, **(blank | known),
        )  # fmt: skip

    def _final(self, step: str, status: Status, reasons: tuple[Reason, ...]) -> StepRecord:
        held = self._steps[step]
        now = self.clock()
        verdict = held.decision.verdict if held.decision else None
        if status is Status.REUSED and isinstance(verdict, ReuseVerdict):
            hit = verdict.hit
            return self._blank(
                step, status, ended=now, origin=hit.origin, saved_seconds=hit.seconds, notebook=hit.notebook,
                artifacts=hit.artifacts, observed=hit.observed,
            )  # fmt: skip
        record = dataclasses.replace(self._blank(step, status), ended=now)
        if status in (Status.SKIPPED, Status.CANCELLED) and reasons:
            record = dataclasses.replace(record, reasons=reasons)
        outcome = held.outcome
        if outcome is None:
            executed = held.elsewhere.notebook or None if held.elsewhere else None
            failure = held.failure if status is Status.FAILED else None
            return dataclasses.replace(record, failure=failure, notebook=executed)
        return dataclasses.replace(
            record, seconds=outcome.seconds, notebook=outcome.notebook, artifacts=outcome.artifacts,
            notes=outcome.notes, started=now - outcome.seconds, observed=outcome.observed, written=outcome.written,
            failure=held.failure if status is not Status.SUCCEEDED else None,
        )  # fmt: skip

    def _put(self, step: str, record: StepRecord, *, show: bool = True) -> None:
        self._unsaved[step] = self.records[step] = record
        if show:
            self.watch(record)

    def _save(self) -> None:
        if self._unsaved:
            self.history.put_steps(list(self._unsaved.values()))
            self._unsaved.clear()


def _not_delivered(problem: str) -> Failure:
    return Failure("output", "NotDelivered", problem, problem)
