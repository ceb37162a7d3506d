"""Carries out attempts on a Dask cluster of this machine: one worker process, with a thread for each slot.

Each step's kernel is a separate process, so one worker process, which only waits for kernels, is enough. Nothing starts
before the first attempt is submitted. The driver handles retries, so Dask's are disabled.

Reports of a running attempt arrive as events of a Dask topic, its outcome as the result of a Dask task. An event may be
lost or arrive late, so the result repeats the reports that precede it.
"""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from nbpipe.compute import local_cluster, unreported_outcomes, worker_entry_points
from nbpipe.compute.admission import Admission
from nbpipe.compute.local_cluster import LocalCluster
from nbpipe.compute.report_queue import ReportQueue
from nbpipe.compute.targets import default_target
from nbpipe.entry_points import load_entry_point
from nbpipe.model import AttemptEnded, AttemptOutputWritten, AttemptReport, AttemptStarted, AttemptWaiting, Job, Outcome
from nbpipe.model.compute import ComputeTarget

_RESULT_SECONDS = 60
# Between two looks at what attempts wait for.
_REASON_SECONDS = 1


@dataclass(frozen=True, slots=True)
class _Completed:
    """A worker's result: the attempt's outcome, and the newest report of each kind before it."""

    outcome: Outcome
    reports: tuple[AttemptReport, ...]


class DaskExecutor:
    """Carries out attempts on a local cluster, which is started with the first one."""

    def __init__(self, target: ComputeTarget | None = None, reports: ReportQueue | None = None) -> None:
        self._target = target or default_target()
        self._reports = reports or ReportQueue()
        self._topic = f"nbpipe-attempts-{uuid.uuid4().hex}"
        self._started: LocalCluster | None = None
        self._admission = Admission(self._target)
        self._explained = 0.0
        self._pending: dict[str, tuple[Job, Any]] = {}
        self._cancelled: set[str] = set()
        self._lock = threading.RLock()

    def slots_on(self, target: ComputeTarget) -> int:  # noqa: ARG002 - the protocol's
        """Return how many attempts run concurrently."""
        return self._target.cpu

    def start(self) -> None:
        """Start the cluster, unless it is running; raise ClusterOutOfReach if it cannot be started."""
        self._cluster()

    def submit(self, job: Job) -> None:
        """Submit an attempt; :meth:`wait` returns its reports."""
        with self._lock:
            self._cluster()
            self._reports.expect(job.attempt)
            self._admission.add(job)
            self._start_admitted()

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Wait up to ``timeout`` seconds for a report, and return all that have arrived."""
        self.look_after()
        return self._reports.wait(timeout)

    def look_after(self) -> None:
        """Report the attempts of a cluster that was lost, and, at most once a second, what others wait for."""
        with self._lock:
            if self._started is not None and self._started.is_lost:
                self._give_up()
            now = time.monotonic()
            if now - self._explained < _REASON_SECONDS:
                return
            self._explained = now
            reasons = self._admission.reasons()
        for attempt, reason in reasons.items():
            self._reports.put(AttemptWaiting(attempt, reason))

    def cancel(self, attempt: str) -> None:
        """Cancel an attempt; its outcome is reported when it has stopped."""
        with self._lock:
            pending = self._pending.get(attempt)
            waiting = self._admission.remove(attempt) if pending is None else None
        if waiting is not None:
            self._reports.put(AttemptEnded(unreported_outcomes.cancelled_outcome(waiting)))
            self._start_admitted()
            return
        with self._lock:
            if pending is None or self._started is None:
                return
            self._cancelled.add(attempt)
            client = self._started.client
        # The worker's event loop answers, even while all its threads are busy.
        answers = client.run(_stop, attempt, on_error="ignore")
        if not any(answers.values()):
            pending[1].cancel()

    def close(self) -> None:
        """Stop all attempts and the cluster, and wait until they have ended."""
        with self._lock:
            # Those that wait come first, so that none of them starts when another ends.
            running = [*reversed(self._admission.attempts)]
        for attempt in running:
            self.cancel(attempt)
        with self._lock:
            started, self._started = self._started, None
        if started is not None:
            started.end()
        with self._lock:
            unfinished = [*(job for job, _ in self._pending.values()), *self._admission.clear()]
            self._pending.clear()
        for job in unfinished:
            self._reports.put(
                AttemptEnded(unreported_outcomes.lost_outcome(job, ConnectionError("the executor was closed")))
            )

    def _start_admitted(self) -> None:
        """Submit the attempts that have their cores now to the cluster, unless it was closed meanwhile."""
        with self._lock:
            if self._started is None:
                return
            for job in self._admission.admit():
                key = f"nbstep-{job.attempt}"
                future = self._started.client.submit(_carry_out, job, self._topic, key=key, pure=False, retries=0)
                self._pending[job.attempt] = (job, future)
                future.add_done_callback(partial(self._arrived, job))

    def _cluster(self) -> LocalCluster:
        with self._lock:
            if self._started is not None and self._started.is_lost:
                self._give_up()
            if self._started is None:
                self._started = local_cluster.start(self._target.cpu)
                # A worker that has been killed meanwhile is started again, and loads it then.
                self._started.client.run(_warm_up, on_error="ignore")
                self._started.client.subscribe_topic(self._topic, self._receive_event)
            return self._started

    def _give_up(self) -> None:
        """Stop a cluster that is no longer usable, and report its attempts as lost."""
        started, self._started = self._started, None
        pending = [*(job for job, _ in self._pending.values()), *self._admission.clear()]
        self._pending.clear()
        self._cancelled.clear()
        if started is not None:
            started.end()
        for job in pending:
            self._reports.put(
                AttemptEnded(unreported_outcomes.lost_outcome(job, ConnectionError("the cluster was lost")))
            )

    def _receive_event(self, event: tuple[float, object]) -> None:
        """Handle an event of the topic; runs on the client's event loop."""
        match event[1]:
            case {"attempt": str(attempt), "at": float(at)}:
                self._reports.put(AttemptStarted(attempt, at))
            case {"attempt": str(attempt), "reason": str(reason)}:
                self._reports.put(AttemptWaiting(attempt, reason))
            case {"attempt": str(attempt), "pieces": int(pieces)}:
                self._reports.put(AttemptOutputWritten(attempt, pieces))

    def _arrived(self, job: Job, done: Any) -> None:
        completed = self._completed(job, done)
        with self._lock:
            pending = self._pending.pop(job.attempt, None)
            self._cancelled.discard(job.attempt)
            if pending is not None:
                self._admission.remove(job.attempt)
        if pending is not None:
            for report in (*completed.reports, AttemptEnded(completed.outcome)):
                self._reports.put(report)
            self._start_admitted()

    def _completed(self, job: Job, done: Any) -> _Completed:
        if done.status == "cancelled" and job.attempt in self._cancelled:
            return _Completed(unreported_outcomes.cancelled_outcome(job), ())
        try:
            if done.status != "finished":
                error = done.exception() if done.status == "error" else None
                lost = unreported_outcomes.lost_outcome(job, error or ConnectionError(f"its task is {done.status}"))
                return _Completed(lost, ())
            completed: _Completed = done.result(timeout=_RESULT_SECONDS)
        except (OSError, RuntimeError, CancelledError) as error:
            # Of a finished task too, when the cluster is closed meanwhile.
            return _Completed(unreported_outcomes.lost_outcome(job, error), ())
        return completed


def _carry_out(job: Job, topic: str) -> _Completed:
    """Carry out an attempt and report on it under ``topic``; runs in a worker's thread."""
    # Imported here: only a worker, which has loaded Dask, gets here.
    from distributed import get_worker

    worker = get_worker()
    newest: dict[type, AttemptReport] = {}

    def report(event: AttemptWaiting | AttemptStarted | AttemptOutputWritten) -> None:
        newest[type(event)] = event
        # Thread-safe: passes the event to the worker's event loop and returns.
        worker.log_event(topic, asdict(event))

    outcome: Outcome = load_entry_point(worker_entry_points.RUN)(job, report)
    return _Completed(outcome, tuple(newest.values()))


def _stop(attempt: str) -> bool:
    """Stop an attempt; runs on a worker's event loop."""
    return bool(load_entry_point(worker_entry_points.STOP)(attempt))


def _warm_up() -> None:
    """Load what every attempt needs in the background, so that the first one need not wait for it."""
    threading.Thread(
        target=load_entry_point, args=(worker_entry_points.RUN,), daemon=True, name="nbpipe-warm-up"
    ).start()
