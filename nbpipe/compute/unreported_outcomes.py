"""Outcomes of attempts that no worker reports."""

from __future__ import annotations

from nbpipe.model import Failure, FailureKind, Job, Outcome, Status


def cancelled_outcome(job: Job) -> Outcome:
    """Return the outcome of an attempt that was cancelled before it started."""
    failure = Failure(FailureKind.CANCELLED, "Cancelled", "", "the step was cancelled before it began")
    return Outcome(job.attempt, job.token, Status.CANCELLED, 0.0, "", failure=failure)


def lost_outcome(job: Job, error: BaseException) -> Outcome:
    """Return the outcome of an attempt whose worker died or is no longer reachable."""
    message = f"the worker that ran the step was lost ({type(error).__name__})"
    failure = Failure(FailureKind.LOST, "WorkerLost", str(error), message)
    return Outcome(job.attempt, job.token, Status.LOST, 0.0, "", failure=failure)
