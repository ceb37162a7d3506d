"""Outcomes of attempts that no worker can tell about."""

from __future__ import annotations

from nbpipe.model import Failure, FailureKind, Job, Outcome, Status


def cancelled_outcome(job: Job) -> Outcome:
    """Return the outcome of an attempt that was cancelled before it began."""
    failure = Failure(FailureKind.CANCELLED, "Cancelled", "", "the step was cancelled before it began")
    return Outcome(job.attempt, job.token, Status.CANCELLED, 0.0, "", failure=failure)


def lost_outcome(job: Job, error: BaseException) -> Outcome:
    """Return the outcome of an attempt whose worker ended under it, or could not be reached any more."""
    message = f"the worker that ran the step was lost ({type(error).__name__})"
    failure = Failure(FailureKind.LOST, "WorkerLost", str(error), message)
    return Outcome(job.attempt, job.token, Status.LOST, 0.0, "", failure=failure)
