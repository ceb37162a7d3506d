"""What a workspace answers: a plan, a run that is over, why a step is what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbpipe.model import ExecutionRecord, KeyComponent, PipelineWarning, ReuseVerdict, RunRecord, Verdict
from nbpipe.planning.plan import StepDecision


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan: decisions in notebook order, what each step needs, and advice that stops nothing."""

    notebook: str
    decisions: Mapping[str, StepDecision]
    needs: Mapping[str, tuple[str, ...]]
    warnings: tuple[PipelineWarning, ...]


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run that is over."""

    run: RunRecord
    steps: tuple[ExecutionRecord, ...]
    seconds: float
    warnings: tuple[PipelineWarning, ...] = ()

    @property
    def saved_seconds(self) -> float:
        """Get the seconds that reuse saved."""
        return sum(step.saved_seconds for step in self.steps)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step is what it is: the verdict now, components then and now, and its newest recorded run."""

    step: str
    verdict: Verdict
    before: ExecutionRecord | None
    now: tuple[KeyComponent, ...]
    last: ExecutionRecord | None

    @property
    def runs(self) -> list[str]:
        """Get the runs that an explanation may name."""
        records = [record for record in (self.before, self.last) if record is not None]
        found = [run for record in records for run in (record.run, *([record.origin.run] if record.origin else []))]
        return [*found, *([self.verdict.hit.origin.run] if isinstance(self.verdict, ReuseVerdict) else [])]
