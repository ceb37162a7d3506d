"""One executor for several runs: they share its slots, and each gets the reports of its own attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from nbpipe.compute.executor import Executor
from nbpipe.compute.report_queue import ReportQueue
from nbpipe.model import AttemptEnded, AttemptReport, Job
from nbpipe.model.compute import ComputeTarget

_PAUSE = 0.5


class SharedExecutor:
    """An executor shared by all runs with a lease, and created with the first attempt."""

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._executor: Executor | None = None
        self._thread: threading.Thread | None = None
        self._leases: dict[str, ExecutorLease] = {}
        self._lock = threading.Lock()

    def slots_on(self, target: ComputeTarget) -> int:
        """Return how many attempts run concurrently on a target."""
        with self._lock:
            return self._get().slots_on(target)

    def lease(self) -> ExecutorLease:
        """Return a new run's lease of the executor."""
        return ExecutorLease(self)

    def close(self) -> None:
        """Stop the executor; the next attempt starts a new one."""
        with self._lock:
            executor, self._executor = self._executor, None
            thread = self._thread
        if executor is not None and thread is not None:
            executor.close()
            thread.join()
            self._pass_on(executor.wait(0))

    def submit(self, job: Job, lease: ExecutorLease) -> None:
        """Submit an attempt for the run with this lease."""
        with self._lock:
            executor = self._get()
            self._leases[job.attempt] = lease
        executor.submit(job)

    def cancel(self, attempt: str) -> None:
        """Stop an attempt."""
        with self._lock:
            executor = self._executor
        if executor is not None:
            executor.cancel(attempt)

    def _get(self) -> Executor:
        if self._executor is None:
            self._executor = self._make()
            arguments = (self._executor,)
            self._thread = threading.Thread(target=self._hand_out, args=arguments, name="nbpipe-reports", daemon=True)
            self._thread.start()
        return self._executor

    def _hand_out(self, executor: Executor) -> None:
        while self._executor is executor:
            self._pass_on(executor.wait(_PAUSE))

    def _pass_on(self, reports: Sequence[AttemptReport]) -> None:
        for report in reports:
            with self._lock:
                ended = isinstance(report, AttemptEnded)
                lease = self._leases.pop(report.attempt, None) if ended else self._leases.get(report.attempt)
            if lease is not None:
                lease.reports.put(report)


class ExecutorLease:
    """A run's lease of a shared executor; closing it does not stop the executor."""

    def __init__(self, shared: SharedExecutor) -> None:
        self._shared = shared
        self.reports = ReportQueue()
        self._mine: set[str] = set()

    def slots_on(self, target: ComputeTarget) -> int:
        """Return how many attempts run concurrently on a target, including those of other runs."""
        return self._shared.slots_on(target)

    def submit(self, job: Job) -> None:
        """Submit an attempt."""
        self._mine.add(job.attempt)
        self.reports.expect(job.attempt)
        self._shared.submit(job, self)

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Wait up to ``timeout`` seconds for a report of this run's attempts, and return all that have arrived."""
        reports = self.reports.wait(timeout)
        self._mine -= {report.attempt for report in reports if isinstance(report, AttemptEnded)}
        return reports

    def cancel(self, attempt: str) -> None:
        """Cancel an attempt; its outcome is reported by :meth:`wait`."""
        self._shared.cancel(attempt)

    def close(self) -> None:
        """Stop this run's attempts."""
        for attempt in list(self._mine):
            self._shared.cancel(attempt)
