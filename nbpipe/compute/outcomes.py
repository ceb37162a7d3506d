"""Outcomes of attempts that no worker can tell about, and the mailbox in which a driver waits for outcomes."""

from __future__ import annotations

import queue
import time

from nbpipe.model import Failure, Job, Outcome, Status


def cancelled(job: Job) -> Outcome:
    """Get the outcome of an attempt that was cancelled before it began."""
    failure = Failure("cancelled", "Cancelled", "", "the step was cancelled before it began")
    return Outcome(job.attempt, job.token, Status.CANCELLED, 0.0, "", failure=failure)


def lost(job: Job, error: BaseException) -> Outcome:
    """Get the outcome of an attempt whose worker ended under it, or could not be reached any more."""
    said = f"the worker that ran the step was lost ({type(error).__name__})"
    failure = Failure("lost", "WorkerLost", str(error), said)
    return Outcome(job.attempt, job.token, Status.LOST, 0.0, "", failure=failure)


class Mailbox:
    """Outcomes in the order in which they arrive; any thread may put, one waits."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def put(self, outcome: Outcome) -> None:
        """Add an outcome."""
        self._queue.put(outcome)

    def wait(self, timeout: float) -> list[Outcome]:
        """Get all outcomes that are there, waiting up to ``timeout`` seconds for the first; empty when none comes."""
        found: list[Outcome] = []
        deadline = time.monotonic() + timeout
        while True:
            try:
                left = 0.0 if found else max(0.0, deadline - time.monotonic())
                found.append(self._queue.get(timeout=left) if left else self._queue.get_nowait())
            except queue.Empty:
                return found
