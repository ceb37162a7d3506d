"""Plans, explanations, advice, and the acceptance of results for new code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from nbpipe.authoring.pipeline_advice import pipeline_advice
from nbpipe.authoring.step_context import StepContext, current_step_context
from nbpipe.errors import refuse
from nbpipe.model import PipelineRecord, PipelineWarning
from nbpipe.planning.file_dependencies import file_dependencies
from nbpipe.planning.plan import Planner, StepDecision, plan_steps
from nbpipe.resolve.recorded_effects import recorded_changes, recorded_uses
from nbpipe.resolve.resolved_request import PipelineRequest, ResolvedRequest, resolve_request
from nbpipe.resolve.reuse_lookup import ReuseLookup
from nbpipe.run.acceptance import AcceptedResult, accept_result
from nbpipe.run.process_identity import this_user
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

    def check(self, request: PipelineRequest) -> tuple[PipelineWarning, ...]:
        """Return warnings about a notebook; raise its errors."""
        pinned = self.pin(request)
        return (*pinned.warnings, *pipeline_advice(pinned.resolved, self.context.history, pinned.pipeline.id))

    def plan(self, request: PipelineRequest) -> PlanResult:
        """Return what would run, what is reused, and why, without executing anything."""
        pinned = self.pin(request)
        decisions = plan_steps(pinned.planner, pinned.resolved.selected)
        return PlanResult(request.notebook, decisions, pinned.resolved.graph.pipeline.needs, pinned.warnings)

    def why(self, request: PipelineRequest, step: str) -> Explanation:
        """Return why a step would run or be reused, compared with its nearest earlier result."""
        pinned, decision = self._decide(request, step)
        history, layout = self.context.history, self.context.layout
        recorded = history.executions.newest_of_step(pinned.pipeline.id, step)
        before = history.executions.latest(pinned.pipeline.id).get(step)
        return Explanation(
            step, decision.verdict, layout.located(before) if before else None, decision.components,
            layout.located(recorded) if recorded else None,
        )  # fmt: skip

    def accept(self, request: PipelineRequest, step: str) -> AcceptedResult:
        """Accept a step's newest result for its present code; raise BadUsage if that is not possible."""
        pinned, decision = self._decide(request, step)
        return accept_result(
            decision, pinned.planner, pinned.resolved.around, self.context.history, user=this_user(),
            now=self.context.clock(),
        )  # fmt: skip

    def step_context(self, request: PipelineRequest, step: str) -> StepContext:
        """Return a step's context now, with inputs from up-to-date results; raise BadUsage if one is missing."""
        pinned = self._pin(dataclasses.replace(request, steps=(step,)))
        return current_step_context(
            pinned.resolved, plan_steps(pinned.planner, pinned.resolved.selected), step, self.context.materializer
        )

    def pin(self, request: PipelineRequest, environ: Mapping[str, str] | None = None) -> PinnedRequest:
        """Return a request with everything pinned that a plan depends on; raise the notebook's errors.

        ``environ`` are the environment variables of the client, by default the workspace's own.
        """
        pinned = self._pin(request, environ)
        records = self.context.history.executions.with_side_effects(pinned.pipeline.id)
        if not records:
            return pinned
        graph = pinned.resolved.graph
        uses = recorded_uses(records, pinned.planner, request.base)
        between = file_dependencies(graph.pipeline.steps, graph.pipeline.needs, uses)
        refuse([error for error in between.errors if request.whole or error.reader in pinned.resolved.selected])
        changed = recorded_changes(records, pinned.planner)
        warnings = dict.fromkeys((*pinned.warnings, *between.warnings, *changed))
        return dataclasses.replace(pinned, warnings=tuple(warnings))

    def _pin(self, request: PipelineRequest, environ: Mapping[str, str] | None = None) -> PinnedRequest:
        context = self.context
        resolved = resolve_request(request, context.layout, environ or context.environ, context.digests)
        identified = self.catalog.pipeline_of(request)
        recall = ReuseLookup(context.history, context.materializer, context.digests, resolved.around, context.clock)
        past = recall.past(identified.pipeline.id)
        planner = Planner(resolved.graph, resolved.circumstances, past, resolved.forced)
        notes = (PipelineWarning("notebook", identified.note, ""),) if identified.note else ()
        warnings = (*context.warnings(), *notes, *resolved.warnings, *resolved.graph.pipeline.warnings)
        return PinnedRequest(resolved, planner, identified.pipeline, warnings)

    def _decide(self, request: PipelineRequest, step: str) -> tuple[PinnedRequest, StepDecision]:
        pinned = self._pin(dataclasses.replace(request, steps=(step,)))
        return pinned, plan_steps(pinned.planner, pinned.resolved.selected)[step]
