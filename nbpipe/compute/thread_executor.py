"""An executor without a cluster: attempts run in threads of this process."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from nbpipe.compute import unreported_outcomes, worker_entry_points
from nbpipe.compute.report_queue import ReportQueue
from nbpipe.entry_points import load_entry_point
from nbpipe.model import AttemptEnded, AttemptReport, Job, Outcome
from nbpipe.model.compute import ComputeTarget


class ThreadExecutor:
    """Carries out attempts in a thread for each core of its target; for tests, and where no cluster can be started."""

    def __init__(self, target: ComputeTarget) -> None:
        self._slots = target.cpu
        self._reports = ReportQueue()
        self._threads: ThreadPoolExecutor | None = None
        self._futures: dict[str, Future[Outcome]] = {}
        self._lock = threading.Lock()

    def slots_on(self, target: ComputeTarget) -> int:  # noqa: ARG002 - the protocol's
        """Return how many attempts run concurrently."""
        return self._slots

    def start(self) -> None:
        """Start the pool of threads."""
        self._pool()

    def submit(self, job: Job) -> None:
        """Submit an attempt; :meth:`wait` returns its reports."""
        pool = self._pool()
        self._reports.expect(job.attempt)
        future: Future[Outcome] = pool.submit(load_entry_point(worker_entry_points.RUN), job, self._reports.put)
        with self._lock:
            self._futures[job.attempt] = future
        future.add_done_callback(lambda done: self._arrived(job, done))

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Wait up to ``timeout`` seconds for a report, and return all that have arrived."""
        return self._reports.wait(timeout)

    def cancel(self, attempt: str) -> None:
        """Cancel an attempt; its outcome is reported when it has stopped."""
        with self._lock:
            future = self._futures.get(attempt)
        if future is not None and not future.cancel():
            load_entry_point(worker_entry_points.STOP)(attempt)

    def close(self) -> None:
        """Stop all attempts and wait until they have ended."""
        with self._lock:
            running = list(self._futures)
        for attempt in running:
            self.cancel(attempt)
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
            worker_entry_points.retire_kernels()

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._slots, "nbpipe-attempt")
            return self._threads

    def _arrived(self, job: Job, done: Future[Outcome]) -> None:
        with self._lock:
            self._futures.pop(job.attempt, None)
        if done.cancelled():
            self._reports.put(AttemptEnded(unreported_outcomes.cancelled_outcome(job)))
            return
        error = done.exception()
        self._reports.put(
            AttemptEnded(done.result() if error is None else unreported_outcomes.lost_outcome(job, error))
        )
