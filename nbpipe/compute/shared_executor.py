"""One executor under several runs: they share its slots, and each hears of its own attempts only."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.compute.reports import ReportQueue
from nbpipe.model import AttemptEnded, AttemptReport, Job

_PAUSE = 0.5


class SharedExecutor:
    """An executor made when the first attempt comes, for as many runs as take a seat."""

    def __init__(self, make: Callable[[], DaskExecutor]) -> None:
        self._make = make
        self._executor: DaskExecutor | None = None
        self._thread: threading.Thread | None = None
        self._seats: dict[str, ExecutorLease] = {}
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """How many attempts run at the same time."""
        with self._lock:
            return self._get().slots

    def seat(self) -> ExecutorLease:
        """Return the executor as one run sees it."""
        return ExecutorLease(self)

    def close(self) -> None:
        """Stop everything that was started for it; the next attempt starts it anew."""
        with self._lock:
            executor, self._executor = self._executor, None
            thread = self._thread
        if executor is not None and thread is not None:
            executor.close()
            thread.join()
            self._pass_on(executor.wait(0))

    def submit(self, job: Job, seat: ExecutorLease) -> None:
        """Start an attempt for the run in that seat."""
        with self._lock:
            executor = self._get()
            self._seats[job.attempt] = seat
        executor.submit(job)

    def cancel(self, attempt: str) -> None:
        """Stop an attempt."""
        with self._lock:
            executor = self._executor
        if executor is not None:
            executor.cancel(attempt)

    def _get(self) -> DaskExecutor:
        if self._executor is None:
            self._executor = self._make()
            arguments = (self._executor,)
            self._thread = threading.Thread(target=self._hand_out, args=arguments, name="nbpipe-reports", daemon=True)
            self._thread.start()
        return self._executor

    def _hand_out(self, executor: DaskExecutor) -> None:
        while self._executor is executor:
            self._pass_on(executor.wait(_PAUSE))

    def _pass_on(self, reports: list[AttemptReport]) -> None:
        for report in reports:
            with self._lock:
                ended = isinstance(report, AttemptEnded)
                seat = self._seats.pop(report.attempt, None) if ended else self._seats.get(report.attempt)
            if seat is not None:
                seat.reports.put(report)


class ExecutorLease:
    """A run's place at a shared executor; closing it leaves the executor to the others."""

    def __init__(self, shared: SharedExecutor) -> None:
        self._shared = shared
        self.reports = ReportQueue()
        self._mine: set[str] = set()

    @property
    def slots(self) -> int:
        """How many attempts run at the same time; those of other runs are among them."""
        return self._shared.slots

    def submit(self, job: Job) -> None:
        """Start an attempt as soon as there is room."""
        self._mine.add(job.attempt)
        self.reports.expect(job.attempt)
        self._shared.submit(job, self)

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Return the reports of this run's attempts, waiting up to ``timeout`` seconds for the first."""
        reports = self.reports.wait(timeout)
        self._mine -= {report.attempt for report in reports if isinstance(report, AttemptEnded)}
        return reports

    def cancel(self, attempt: str) -> None:
        """Kill an attempt; its outcome comes through ``wait``."""
        self._shared.cancel(attempt)

    def close(self) -> None:
        """Stop this run's attempts."""
        for attempt in list(self._mine):
            self._shared.cancel(attempt)
