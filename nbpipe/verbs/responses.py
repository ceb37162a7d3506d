"""What the verbs answer: values with all that a face needs to show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nbpipe.model import Artifact, ExecutionRecord, Metric, RunRecord, StepEvent, Warned
from nbpipe.run.acceptance import Accepted
from nbpipe.run.answers import Explained, Planned, Report
from nbpipe.run.guard import Guarded
from nbpipe.run.scene import Scene
from nbpipe.run.verification import Verified
from nbpipe.views.comparison import Side


@dataclass(frozen=True, slots=True)
class PlanResponse:
    """A plan; ``numbers`` are those of the runs whose results it reuses."""

    planned: Planned
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReportResponse:
    """A run that this call carried out to its end."""

    report: Report
    numbers: Mapping[str, int]
    metrics: Sequence[Metric]


@dataclass(frozen=True, slots=True)
class DetachedResponse:
    """A run that continues by itself."""

    run: RunRecord
    steps: Sequence[ExecutionRecord]


@dataclass(frozen=True, slots=True)
class HereResponse:
    """A step to run in the author's kernel."""

    scene: Scene


@dataclass(frozen=True, slots=True)
class RunResponse:
    """A recorded run as it stands at the time ``now``; ``followed`` to its end if that was asked for."""

    run: RunRecord
    steps: Sequence[ExecutionRecord]
    numbers: Mapping[str, int]
    metrics: Sequence[Metric]
    now: float
    followed: bool = False

    @property
    def seconds(self) -> float:
        """Return how long the run took, or has taken so far."""
        return (self.now if self.run.ended is None else self.run.ended) - self.run.started


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """The runs that were cancelled."""

    runs: Sequence[RunResponse]


@dataclass(frozen=True, slots=True)
class WhyResponse:
    """Why a step runs or is reused."""

    explained: Explained
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DebugResponse:
    """What a recorded step was given; with ``with_locals`` also what was kept of the frame that failed."""

    scene: Scene
    with_locals: bool


@dataclass(frozen=True, slots=True)
class AcceptResponse:
    """The result that stands from now on."""

    accepted: Accepted
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LogResponse:
    """A step's executed notebook, or what it has told so far."""

    step: str
    found: Path | list[StepEvent]


@dataclass(frozen=True, slots=True)
class PullResponse:
    """A stored output, and the path to which it was copied, if any."""

    output: str
    artifact: Artifact
    path: Path | None


@dataclass(frozen=True, slots=True)
class RunListResponse:
    """Runs, newest first, and the steps that ran in each."""

    runs: Sequence[RunRecord]
    ran: Mapping[str, Sequence[str]]
    now: float


@dataclass(frozen=True, slots=True)
class ComparisonResponse:
    """Two runs to be shown side by side."""

    left: Side
    right: Side


@dataclass(frozen=True, slots=True)
class VerificationResponse:
    """What a look at all stored outputs has found."""

    verified: Verified


@dataclass(frozen=True, slots=True)
class LintResponse:
    """Advice on ``steps`` steps; ``fixed`` are the cells that were rewritten, None if that was not asked for."""

    steps: int
    warnings: Sequence[Warned]
    fixed: Sequence[int] | None
    note: str


@dataclass(frozen=True, slots=True)
class FormatResponse:
    """The cells of each notebook whose declarations changed, or would change where ``checked`` only."""

    notebooks: Sequence[tuple[Path, Sequence[int]]]
    checked: bool

    @property
    def changed(self) -> bool:
        """Say whether a notebook changes."""
        return any(cells for _, cells in self.notebooks)


@dataclass(frozen=True, slots=True)
class InitResponse:
    """A workspace's folder, and the settings that guard step cells against linters."""

    root: Path
    guarded: Guarded


@dataclass(frozen=True, slots=True)
class DefaultsResponse:
    """The defaults of the notebook's steps."""

    values: Mapping[str, Any]


Response: TypeAlias = (
    PlanResponse | ReportResponse | DetachedResponse | HereResponse | RunResponse | CancelResponse | WhyResponse
    | DebugResponse | AcceptResponse | LogResponse | PullResponse | RunListResponse | ComparisonResponse
    | VerificationResponse | LintResponse | FormatResponse | InitResponse | DefaultsResponse
)  # fmt: skip
