"""Plans and explanations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from nbpipe.model import PipelineRecord, PipelineWarning
from nbpipe.planning.plan import Planner, StepDecision, plan_steps
from nbpipe.resolve.resolved_request import PipelineRequest, ResolvedRequest, resolve_request
from nbpipe.resolve.reuse_lookup import ReuseLookup
from nbpipe.run.reports import Explanation, PlanResult
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext


@dataclass(frozen=True, slots=True)
class PinnedRequest:
    """A resolved request, its planner and its pipeline.

    ``warnings`` are about the notebook and the workspace, and say how the notebook was recognised, if it moved.
    """

    resolved: ResolvedRequest
    planner: Planner
    pipeline: PipelineRecord
    warnings: tuple[PipelineWarning, ...]


@dataclass(slots=True)
class Plans:
    """The plans of one workspace."""

    context: WorkspaceContext
    catalog: Catalog

    def plan(self, request: PipelineRequest) -> PlanResult:
        """Return what would run, what is reused, and why, without executing anything."""
        pinned = self.pin(request)
        decisions = plan_steps(pinned.planner, pinned.resolved.selected)
        return PlanResult(request.notebook, decisions, pinned.resolved.graph.pipeline.needs, pinned.warnings)

    def why(self, request: PipelineRequest, step: str) -> Explanation:
        """Return why a step would run or be reused, compared with its nearest earlier result."""
        pinned, decision = self.decide(request, step)
        history, layout = self.context.history, self.context.layout
        recorded = history.executions.newest_of_step(pinned.pipeline.id, step)
        before = history.executions.latest(pinned.pipeline.id).get(step)
        return Explanation(
            step, decision.verdict, layout.located(before) if before else None, decision.components,
            layout.located(recorded) if recorded else None,
        )  # fmt: skip

    def pin(self, request: PipelineRequest, environ: Mapping[str, str] | None = None) -> PinnedRequest:
        """Return a request with everything pinned that a plan depends on; raise the notebook's errors.

        ``environ`` are the environment variables of the client, by default the workspace's own.
        """
        context = self.context
        resolved = resolve_request(request, context.layout, environ or context.environ, context.digests)
        identified = self.catalog.pipeline_of(request)
        recall = ReuseLookup(context.history, context.materializer, context.digests, resolved.around, context.clock)
        past = recall.past(identified.pipeline.id)
        planner = Planner(resolved.graph, resolved.circumstances, past, resolved.forced)
        notes = (PipelineWarning("notebook", identified.note, ""),) if identified.note else ()
        warnings = (*context.warnings(), *notes, *resolved.warnings, *resolved.graph.pipeline.warnings)
        return PinnedRequest(resolved, planner, identified.pipeline, warnings)

    def decide(self, request: PipelineRequest, step: str) -> tuple[PinnedRequest, StepDecision]:
        """Return the decision about a step, and the request for it with everything pinned."""
        pinned = self.pin(dataclasses.replace(request, steps=(step,)))
        return pinned, plan_steps(pinned.planner, pinned.resolved.selected)[step]
