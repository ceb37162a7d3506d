"""Plans and explanations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from nbpipe.errors import Refusals, Refused, refuse
from nbpipe.model import PipelineRecord, PipelineWarning
from nbpipe.planning.file_dependencies import file_dependencies
from nbpipe.planning.plan import Planner, StepDecision, plan_steps
from nbpipe.resolve.recorded_side_effects import recorded_changes, recorded_uses
from nbpipe.resolve.refused_steps import refused_steps, without
from nbpipe.resolve.resolved_request import PipelineRequest, ResolvedRequest, resolve_request
from nbpipe.resolve.reuse_lookup import ReuseLookup
from nbpipe.run.registrations import bound_datasets, bound_queries
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
        """Return what would run, what is reused, and why, without executing anything.

        Errors in the notebook only concern the steps that need what is wrong; raise them if they leave no step.
        """
        pinned, errors = self.pin_rest(request)
        decisions = plan_steps(pinned.planner, pinned.resolved.selected)
        needs = pinned.resolved.graph.pipeline.needs
        refused = refused_steps(request, errors) if errors else {}
        bound = {name: bound_datasets(pinned.planner, name) for name in decisions}
        queries = bound_queries(pinned.planner, decisions)
        placements = {name: pinned.resolved.placements[name] for name in decisions}
        return PlanResult(
            request.notebook, decisions, needs, pinned.warnings, refused, errors, bound, placements, queries
        )

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

    def pin_rest(self, request: PipelineRequest) -> tuple[PinnedRequest, tuple[Refused, ...]]:
        """Return a pinned request for the steps that no error concerns, and the errors."""
        errors: list[Refused] = []
        rest = request
        while True:
            try:
                return self.pin(rest), tuple(errors)
            except (Refused, Refusals) as refused:
                more = refused.errors if isinstance(refused, Refusals) else (refused,)
                known = {str(error) for error in errors}
                errors += [error for error in more if str(error) not in known]
                left = without(rest, refused_steps(rest, errors))
                if left is None:
                    refuse(errors)
                    raise
                rest = left

    def pin(
        self,
        request: PipelineRequest,
        environ: Mapping[str, str] | None = None,
        versions: MutableMapping[str, int] | None = None,
    ) -> PinnedRequest:
        """Return a request with everything pinned that a plan depends on; raise the notebook's errors.

        ``environ`` are the environment variables of the client, by default the workspace's own. ``versions`` are those
        of datasets that inputs of the same run are bound to, by their texts; new ones are added.
        """
        pinned = self.pin_declared(request, environ, versions)
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

    def pin_declared(
        self,
        request: PipelineRequest,
        environ: Mapping[str, str] | None = None,
        versions: MutableMapping[str, int] | None = None,
    ) -> PinnedRequest:
        """Return a request with everything pinned, as :meth:`pin` does, whatever earlier runs have recorded."""
        context = self.context
        variables = environ or context.environ
        remote = context.remote_inputs(variables)
        datasets = context.dataset_inputs(variables, {} if versions is None else versions)
        resolved = resolve_request(request, context.layout, variables, context.digests, remote, datasets=datasets)
        identified = self.catalog.pipeline_of(request)
        recall = ReuseLookup(context.history, context.materializer, context.digests, resolved.around, context.clock)
        past = recall.past(identified.pipeline.id)
        planner = Planner(resolved.graph, resolved.circumstances, past, resolved.forced)
        notes = (PipelineWarning("notebook", identified.note, ""),) if identified.note else ()
        warnings = (*context.warnings(), *notes, *resolved.warnings, *resolved.graph.pipeline.warnings)
        return PinnedRequest(resolved, planner, identified.pipeline, warnings)

    def decide(self, request: PipelineRequest, step: str) -> tuple[PinnedRequest, StepDecision]:
        """Return the decision about a step, and the request for it with everything pinned."""
        pinned = self.pin_declared(dataclasses.replace(request, steps=(step,)))
        return pinned, plan_steps(pinned.planner, pinned.resolved.selected)[step]
