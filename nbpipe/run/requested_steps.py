"""The steps of one resolved request, with all that they need, as a run takes them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nbpipe.model import Artifact, Job, Step, StepOutput
from nbpipe.model.compute import Placement
from nbpipe.planning.fingerprint import PinnedInputs
from nbpipe.planning.plan import Planner


class JobFactory(Protocol):
    """The work of a driver for a step outside of the history: jobs, pinned files and delivery."""

    def job(self, step: str, *, attempt: str, token: int, upstream: Mapping[StepOutput, Artifact]) -> Job:
        """Return the job of an attempt, and create its directory."""

    def placement(self, step: str) -> Placement:
        """Return where a step runs, and what it occupies there."""

    def directory(self, step: str, attempt: str) -> str:
        """Return an attempt's directory, relative to the workspace's folder."""

    def unread(self, step: str) -> int | None:
        """Return the bytes to read before the step can be decided, negative if unknown; None if all is known."""

    def read(self, step: str, progress: Callable[[int], None]) -> PinnedInputs:
        """Return what the step's inputs are, with the content read of those that were unread."""

    def unstaged(self, step: str) -> int:
        """Return the bytes of the step's remote inputs that have no copy here."""

    def stage(self, step: str, progress: Callable[[int], None]) -> None:
        """Copy the step's remote inputs to this machine."""

    def unchanged(self, step: str) -> bool:
        """Return whether the step's declared files are unchanged since it was submitted."""

    def pinned(self, step: str) -> Mapping[str, str]:
        """Return the digests of the files that the step declares, by pattern."""

    def deliver(self, step: str, artifacts: Iterable[Artifact]) -> str | None:
        """Fill the step's destinations; return an error message if that failed."""


@dataclass(frozen=True, slots=True)
class RequestedSteps:
    """Steps to execute, with all steps that they need.

    ``requested`` are the steps that the user named or whose cell was run; the others are needed by these.
    ``request`` is the id of the request in the run's log.
    """

    planner: Planner
    jobs: JobFactory
    selected: frozenset[str]
    requested: frozenset[str]
    request: str = ""
    gesture: int = 0

    @property
    def steps(self) -> list[Step]:
        """The steps in topological order."""
        graph = self.planner.graph
        return [graph.steps[name] for name in graph.order if name in self.selected]
