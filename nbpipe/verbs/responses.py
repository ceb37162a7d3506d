"""The verbs' responses: values with everything that a face needs to show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nbpipe.authoring.linter_settings import LinterSettingsReport
from nbpipe.authoring.step_context import StepContext
from nbpipe.model import Artifact, AttemptLog, ExecutionRecord, Metric, PipelineWarning, RunRecord
from nbpipe.run.acceptance import AcceptedResult
from nbpipe.run.reports import Explanation, PlanResult, RunReport
from nbpipe.run.verification import VerificationReport
from nbpipe.views.run_comparison import ComparedRun
from nbpipe.workspace.trust import AcceptedWorkspace


@dataclass(frozen=True, slots=True)
class PlanResponse:
    """A plan; ``numbers`` are those of the runs whose results it reuses."""

    planned: PlanResult
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RunReportResponse:
    """A run that this call has completed."""

    report: RunReport
    numbers: Mapping[str, int]
    metrics: Sequence[Metric]


@dataclass(frozen=True, slots=True)
class DetachedResponse:
    """A run that continues in the background."""

    run: RunRecord
    steps: Sequence[ExecutionRecord]


@dataclass(frozen=True, slots=True)
class HereResponse:
    """A step to run in the author's kernel."""

    step_context: StepContext


@dataclass(frozen=True, slots=True)
class RecordedRunResponse:
    """A recorded run in its state at the time ``now``; ``followed`` if ``--follow`` was given."""

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

    runs: Sequence[RecordedRunResponse]


@dataclass(frozen=True, slots=True)
class WhyResponse:
    """Why a step runs or is reused."""

    explained: Explanation
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DebugResponse:
    """The context of a recorded step; with ``with_locals``, the saved variables of the frame that failed."""

    step_context: StepContext
    with_locals: bool


@dataclass(frozen=True, slots=True)
class AcceptResponse:
    """The result that was accepted."""

    accepted: AcceptedResult
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LogResponse:
    """The output of a step, or its output so far."""

    step: str
    log: AttemptLog


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
    """Two runs for comparison."""

    left: ComparedRun
    right: ComparedRun


@dataclass(frozen=True, slots=True)
class VerificationResponse:
    """The result of verifying all stored outputs."""

    verified: VerificationReport


@dataclass(frozen=True, slots=True)
class TrustResponse:
    """A workspace that its user trusts from now on."""

    accepted: AcceptedWorkspace


@dataclass(frozen=True, slots=True)
class LintResponse:
    """Advice on ``steps`` steps; ``fixed`` are the cells that were rewritten, None without ``--fix``."""

    steps: int
    warnings: Sequence[PipelineWarning]
    fixed: Sequence[int] | None
    note: str


@dataclass(frozen=True, slots=True)
class FormatResponse:
    """The cells of each notebook whose declarations changed, or would change if only ``checked``."""

    notebooks: Sequence[tuple[Path, Sequence[int]]]
    checked: bool

    @property
    def changed(self) -> bool:
        """Return whether a notebook changes."""
        return any(cells for _, cells in self.notebooks)


@dataclass(frozen=True, slots=True)
class InitResponse:
    """A workspace's folder, and the linter settings for step cells."""

    root: Path
    guarded: LinterSettingsReport


@dataclass(frozen=True, slots=True)
class DefaultsResponse:
    """The defaults of the notebook's steps."""

    values: Mapping[str, Any]


Response: TypeAlias = (
    PlanResponse | RunReportResponse | DetachedResponse | HereResponse | RecordedRunResponse | CancelResponse
    | WhyResponse | DebugResponse | AcceptResponse | LogResponse | PullResponse | RunListResponse
    | ComparisonResponse | VerificationResponse | TrustResponse | LintResponse | FormatResponse | InitResponse
    | DefaultsResponse
)  # fmt: skip
