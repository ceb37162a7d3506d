"""The status of runs, steps and attempts, and a step's reuse policy."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Status(StrEnum):
    """The state of a run, an execution or an attempt."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REUSED = "reused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    LOST = "lost"
    PARTIAL = "partial"

    @property
    def terminal(self) -> bool:
        """Return whether the state is final."""
        return self not in (Status.QUEUED, Status.PREPARING, Status.RUNNING)


def run_outcome(statuses: Iterable[Status], *, is_cancelled: bool = False, keeps_going: bool = False) -> Status:
    """Return the status of a run whose executions have these final statuses.

    ``is_cancelled`` says that the whole run was cancelled, ``keeps_going`` that it was to go on after failures.
    """
    kinds = set(statuses)
    if Status.CANCELLED in kinds and (is_cancelled or Status.FAILED not in kinds):
        return Status.CANCELLED
    if Status.FAILED not in kinds:
        return Status.SUCCEEDED
    return Status.PARTIAL if keeps_going else Status.FAILED


class ReusePolicy(StrEnum):
    """A step's reuse policy."""

    AUTO = "auto"
    NEVER = "never"
    KEEP = "keep"
