"""The records of pipelines, runs, executions and attempts in the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbpipe.model.attempt import Failure
from nbpipe.model.content import Artifact
from nbpipe.model.status import Status
from nbpipe.model.verdicts import KeyComponent, Observation, Reason, ResultOrigin


@dataclass(frozen=True, slots=True)
class GitState:
    """The author's repository at submit; ``remote`` has no credentials, ``patch`` holds uncommitted changes."""

    remote: str
    branch: str
    commit: str
    dirty: bool
    patch: str = ""


@dataclass(frozen=True, slots=True)
class PipelineRecord:
    """A pipeline of the workspace: ``notebook`` is the last known path of its notebook, relative to the workspace.

    ``cells`` are the ids of the notebook's cells and ``steps`` the names of its steps, as far as known: they identify a
    notebook that was moved.
    """

    id: str
    notebook: str
    cells: frozenset[str] = frozenset()
    steps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A recorded run; times are seconds since the epoch, ``number`` counts the workspace's runs from 1.

    ``notebook`` is the path of the pipeline's notebook when the run began, relative to the workspace.
    """

    id: str
    number: int
    pipeline: str
    notebook: str
    experiment: str
    status: Status
    started: float
    ended: float | None
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    git: GitState | None
    owner: str

    def seconds(self, now: float) -> float | None:
        """Return how long the run took, or has taken so far; None if it was lost, since nobody saw it end."""
        if self.status is Status.LOST:
            return None
        # A clock may be set back.
        return max((now if self.ended is None else self.ended) - self.started, 0.0)


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One recorded unit of work of a run: the execution of a step of its notebook.

    ``needs`` are the executions that it takes data from or waits for. ``notebook`` is its newest executed notebook,
    relative to the workspace's folder; of a reused result, the one of its origin. An execution that a newer one of the
    same step has replaced in its run is no longer ``current``. ``datasets`` are the versions that its inputs
    were bound to, by input, each as ``NAME@NUMBER``.
    """

    id: str
    run: str
    step: str
    position: int
    status: Status
    attempts: int = 0
    seconds: float = 0.0
    saved_seconds: float = 0.0
    reasons: tuple[Reason, ...] = ()
    components: tuple[KeyComponent, ...] = ()
    key: str | None = None
    origin: ResultOrigin | None = None
    notebook: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    failure: Failure | None = None
    started: float | None = None
    ended: float | None = None
    notes: tuple[str, ...] = ()
    observed: tuple[Observation, ...] = ()
    written: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    current: bool = True
    datasets: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_timed(self) -> bool:
        """Return whether ``seconds`` is the duration of an attempt: nobody saw the end of a lost one."""
        return self.attempts > 0 and self.status.terminal and self.status is not Status.LOST


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One recorded attempt at an execution.

    ``directory`` is its folder, relative to the workspace's; ``notebook`` the executed notebook's name in it, empty
    while there is none. ``pieces`` counts its numbered events. ``display`` is what it displayed and printed.
    """

    id: str
    run: str
    execution: str
    number: int
    status: Status
    directory: str
    token: int = 0
    key: str | None = None
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    notebook: str = ""
    pieces: int = 0
    failure: Failure | None = None
    artifacts: tuple[Artifact, ...] = field(default=())
    notebook_digest: str = ""
    display: Artifact | None = None

    @property
    def executed_notebook(self) -> str | None:
        """Return the executed notebook's path, relative to the workspace's folder; None while there is none."""
        return f"{self.directory}/{self.notebook}" if self.notebook else None


def step_needs(executions: Iterable[ExecutionRecord]) -> dict[str, tuple[str, ...]]:
    """Return the steps that each step of a run needs, in the order of the executions."""
    records = tuple(executions)
    steps = {execution.id: execution.step for execution in records}
    return {
        execution.step: tuple(dict.fromkeys(steps[need] for need in execution.needs if need in steps))
        for execution in records
    }
