"""What would run and why: plans, explanations, advice, and results that are accepted for new code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from nbpipe.authoring.pipeline_advice import pipeline_advice
from nbpipe.authoring.step_context import StepContext, current_step_context
from nbpipe.model import PipelineRecord, PipelineWarning
from nbpipe.planning.plan import Planner, StepDecision, plan_steps
from nbpipe.resolve.resolved_request import PipelineRequest, ResolvedRequest, resolve_request
from nbpipe.resolve.reuse_lookup import ReuseLookup
from nbpipe.run.acceptance import AcceptedResult, accept_result
from nbpipe.run.process_identity import this_user
from nbpipe.run.reports import Explanation, PlanResult
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext


@dataclass(frozen=True, slots=True)
class PinnedPlan:
    """A request with everything pinned, the pipeline that it is about, and who decides its steps.

    ``warnings`` are advice that stops nothing, and how the notebook was recognised where that has to be said.
    """

    situation: ResolvedRequest
    planner: Planner
    pipeline: PipelineRecord
    warnings: tuple[PipelineWarning, ...]


@dataclass(slots=True)
class Plans:
    """The plans of one workspace."""

    context: WorkspaceContext
    catalog: Catalog

    def check(self, request: PipelineRequest) -> tuple[PipelineWarning, ...]:
        """Return advice about a notebook; what is wrong with it is raised."""
        pinned = self.pin(request)
        return (*pinned.warnings, *pipeline_advice(pinned.situation, self.context.history, pinned.pipeline.id))

    def plan(self, request: PipelineRequest) -> PlanResult:
        """Return what would run, what is reused, and why; nothing is executed."""
        pinned = self.pin(request)
        decisions = plan_steps(pinned.planner, pinned.situation.selected)
        return PlanResult(request.notebook, decisions, pinned.situation.graph.pipeline.needs, pinned.warnings)

    def why(self, request: PipelineRequest, step: str) -> Explanation:
        """Return why a step would run or be reused now, compared with its nearest earlier result."""
        pinned, decision = self._decide(request, step)
        history, layout = self.context.history, self.context.layout
        last = history.runs.last(pinned.pipeline.id)
        recorded = history.executions.of_step(last.id, step) if last else None
        before = history.executions.latest(pinned.pipeline.id).get(step)
        return Explanation(
            step, decision.verdict, layout.located(before) if before else None, decision.components,
            layout.located(recorded) if recorded else None,
        )  # fmt: skip

    def accept(self, request: PipelineRequest, step: str) -> AcceptedResult:
        """Let a step's newest result stand for what the step is now; raise BadUsage when that cannot be."""
        pinned, decision = self._decide(request, step)
        return accept_result(
            decision, pinned.planner, pinned.situation.around, self.context.history, user=this_user(),
            now=self.context.clock(),
        )  # fmt: skip

    def step_context(self, request: PipelineRequest, step: str) -> StepContext:
        """Return what a step would find now: inputs from results that are up to date, else raise BadUsage."""
        pinned = self.pin(dataclasses.replace(request, steps=(step,)))
        return current_step_context(
            pinned.situation, plan_steps(pinned.planner, pinned.situation.selected), step, self.context.materializer
        )

    def pin(self, request: PipelineRequest, environ: Mapping[str, str] | None = None) -> PinnedPlan:
        """Return a request with everything pinned that a plan depends on; what is wrong is raised.

        ``environ`` are the environment variables of whoever asks, by default the workspace's own.
        """
        context = self.context
        situation = resolve_request(request, context.layout, environ or context.environ, context.digests)
        identified = self.catalog.pipeline_of(request)
        recall = ReuseLookup(context.history, context.materializer, context.digests, situation.around, context.clock)
        past = recall.past(identified.pipeline.id)
        planner = Planner(situation.graph, situation.circumstances, past, situation.forced)
        said = (PipelineWarning("notebook", identified.note, ""),) if identified.note else ()
        warnings = (*context.distrust_warnings(), *said, *situation.graph.pipeline.warnings)
        return PinnedPlan(situation, planner, identified.pipeline, warnings)

    def _decide(self, request: PipelineRequest, step: str) -> tuple[PinnedPlan, StepDecision]:
        pinned = self.pin(dataclasses.replace(request, steps=(step,)))
        return pinned, plan_steps(pinned.planner, pinned.situation.selected)[step]
