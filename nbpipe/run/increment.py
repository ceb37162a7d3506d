"""What is added to a run at once: the steps of one resolved request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nbpipe.model import Artifact, Job, Step, StepOutput
from nbpipe.planning.plan import Planner


class StepJobs(Protocol):
    """What a driver needs made or done for a step outside of history."""

    def job(self, step: str, *, attempt: str, token: int, upstream: Mapping[StepOutput, Artifact]) -> Job:
        """Return the job of one attempt; its directory is made."""

    def directory(self, step: str, attempt: str) -> str:
        """Return an attempt's directory, relative to the workspace's folder."""

    def unchanged(self, step: str) -> bool:
        """Return whether the files that the step declares are still what they were at submit."""

    def pinned(self, step: str) -> Mapping[str, str]:
        """Return the digests of the files that the step declares, by pattern."""

    def deliver(self, step: str, artifacts: Iterable[Artifact]) -> str | None:
        """Fill the step's destinations; return what went wrong."""


@dataclass(frozen=True, slots=True)
class RunIncrement:
    """Steps that are to be executed, with all that they need.

    ``asked`` are those that the user named or ran the cell of; the others are there because they are needed.
    ``request`` is the id under which the run's log tells what has become of them.
    """

    planner: Planner
    jobs: StepJobs
    selected: frozenset[str]
    asked: frozenset[str]
    request: str = ""
    gesture: int = 0

    @property
    def steps(self) -> list[Step]:
        """The steps in the order in which each comes after those that it needs."""
        graph = self.planner.graph
        return [graph.steps[name] for name in graph.order if name in self.selected]
