"""The tries of an execution: how many there were, and whether there may be another."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.model import Status

LOST_TRIES = 2


@dataclass(slots=True)
class Tries:
    """Counts of an execution's attempts, by how they ended."""

    submitted: int = 0
    failed: int = 0
    lost: int = 0
    overtaken: int = 0

    def submit(self) -> int:
        """Count a new attempt and return its number."""
        self.submitted += 1
        return self.submitted

    def end(self, status: Status, retries: int) -> bool:
        """Count an attempt that did not succeed, and return whether there may be another.

        Lost attempts get some tries of their own; other failures get ``retries``.
        """
        if status is Status.LOST:
            self.lost += 1
            return self.lost <= LOST_TRIES
        self.failed += 1
        return self.failed <= retries

    def overtake(self) -> bool:
        """Count a result that came after another run took its key, and return whether to wait for that run.

        More of them are no race with another run: some process considered this run dead and closed it.
        """
        self.overtaken += 1
        return self.overtaken <= LOST_TRIES
