"""The status of runs, steps and attempts, and a step's reuse policy."""

from __future__ import annotations

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


class ReusePolicy(StrEnum):
    """A step's reuse policy."""

    AUTO = "auto"
    NEVER = "never"
    KEEP = "keep"
