"""The executor of a run's attempts, as the driver sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nbpipe.model import AttemptReport, Job
from nbpipe.model.compute import ComputeTarget


class Executor(Protocol):
    """The executor of attempts: Dask, or threads of this process."""

    def slots_on(self, target: ComputeTarget) -> int:
        """Return the number of attempts that run on a target at the same time."""

    def submit(self, job: Job) -> None:
        """Start an attempt as soon as a slot is free."""

    def wait(self, timeout: float) -> Sequence[AttemptReport]:
        """Return reports about the attempts, waiting up to ``timeout`` seconds for the first one."""

    def cancel(self, attempt: str) -> None:
        """Kill an attempt; its end is reported by ``wait``."""

    def close(self) -> None:
        """Stop everything that the executor has started."""
