"""What history keeps of runs and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbpipe.model.attempt import Failure
from nbpipe.model.content import Artifact
from nbpipe.model.status import Status
from nbpipe.model.verdicts import Component, Observed, Origin, Reason


@dataclass(frozen=True, slots=True)
class GitState:
    """The author's repository at submit; ``remote`` has no credentials, ``patch`` is what was not committed."""

    remote: str
    branch: str
    commit: str
    dirty: bool
    patch: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as history keeps it; times are seconds since the epoch, ``number`` counts the workspace's runs from 1.

    ``needs`` tells of each step which others it takes data from or waits for.
    """

    id: str
    number: int
    notebook: str
    experiment: str
    status: Status
    started: float
    ended: float | None
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    git: GitState | None
    owner: str
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a run as history keeps it."""

    run: str
    step: str
    position: int
    status: Status
    attempts: int
    seconds: float
    saved_seconds: float
    reasons: tuple[Reason, ...]
    components: tuple[Component, ...]
    key: str | None
    origin: Origin | None
    notebook: str | None
    artifacts: tuple[Artifact, ...]
    failure: Failure | None
    started: float | None = None
    ended: float | None = None
    notes: tuple[str, ...] = ()
    observed: tuple[Observed, ...] = ()
    written: tuple[str, ...] = ()
