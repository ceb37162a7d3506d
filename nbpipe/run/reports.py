"""The reports of a workspace: a plan, a finished run, the explanation of a step's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbpipe.errors import Refused
from nbpipe.model import ExecutionRecord, KeyComponent, PipelineWarning, ReuseVerdict, RunRecord, Verdict
from nbpipe.model.compute import Placement
from nbpipe.model.datasets import DatasetQuery
from nbpipe.planning.plan import StepDecision


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan: decisions in notebook order, the needs of each step, and warnings.

    ``errors`` are those of the notebook, and ``refused`` the steps that they concern, each with the reason in words.
    ``datasets`` are the versions that the inputs of each step are bound to, by input; ``queries`` has those that are
    the results of queries, by ``NAME@NUMBER``. ``placements`` are where the steps run, and what they occupy there.
    """

    notebook: str
    decisions: Mapping[str, StepDecision]
    needs: Mapping[str, tuple[str, ...]]
    warnings: tuple[PipelineWarning, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[Refused, ...] = ()
    datasets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    placements: Mapping[str, Placement] = field(default_factory=dict)
    queries: Mapping[str, DatasetQuery] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Return the verdict of each step that is not refused."""
        return {name: decision.verdict for name, decision in self.decisions.items()}


@dataclass(frozen=True, slots=True)
class RunReport:
    """A finished run."""

    run: RunRecord
    steps: tuple[ExecutionRecord, ...]
    seconds: float
    warnings: tuple[PipelineWarning, ...] = ()

    @property
    def saved_seconds(self) -> float:
        """Return the seconds saved by reuse."""
        return sum(step.saved_seconds for step in self.steps)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of a step: its verdict now, its components then and now, and its newest recorded execution."""

    step: str
    verdict: Verdict
    before: ExecutionRecord | None
    now: tuple[KeyComponent, ...]
    last: ExecutionRecord | None

    @property
    def runs(self) -> list[str]:
        """Return the runs that the explanation may name."""
        records = [record for record in (self.before, self.last) if record is not None]
        runs = [run for record in records for run in (record.run, *([record.origin.run] if record.origin else []))]
        return [*runs, *([self.verdict.hit.origin.run] if isinstance(self.verdict, ReuseVerdict) else [])]
