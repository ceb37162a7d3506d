"""The executor of all compute targets of a run: each target has its own cluster, started with its first attempt."""

from __future__ import annotations

import threading

from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.compute.report_queue import ReportQueue
from nbpipe.model import AttemptEnded, AttemptReport, Job
from nbpipe.model.compute import ComputeTarget


class TargetExecutors:
    """Carries out each attempt on its compute target."""

    def __init__(self) -> None:
        self._reports = ReportQueue()
        self._executors: dict[ComputeTarget, DaskExecutor] = {}
        self._places: dict[str, DaskExecutor] = {}
        self._lock = threading.Lock()

    def slots_on(self, target: ComputeTarget) -> int:
        """Return how many attempts run concurrently on a target."""
        return target.cpu

    def submit(self, job: Job) -> None:
        """Submit an attempt to its target; :meth:`wait` returns its reports."""
        with self._lock:
            executor = self._executor_of(job.placement.target)
            self._places[job.attempt] = executor
        executor.submit(job)

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Wait up to ``timeout`` seconds for a report, and return all that have arrived."""
        with self._lock:
            executors = list(self._executors.values())
        for executor in executors:
            executor.look_after()
        reports = self._reports.wait(timeout)
        with self._lock:
            for report in reports:
                if isinstance(report, AttemptEnded):
                    self._places.pop(report.attempt, None)
        return reports

    def _executor_of(self, target: ComputeTarget) -> DaskExecutor:
        if target not in self._executors:
            self._executors[target] = DaskExecutor(target, self._reports)
        return self._executors[target]

    def cancel(self, attempt: str) -> None:
        """Cancel an attempt; its outcome is reported when it has stopped."""
        with self._lock:
            executor = self._places.get(attempt)
        if executor is not None:
            executor.cancel(attempt)

    def close(self) -> None:
        """Stop all attempts and all clusters, and wait until they have ended."""
        with self._lock:
            executors = list(self._executors.values())
            self._executors.clear()
        for executor in executors:
            executor.close()
