"""The contexts of steps, for debugging: as they are now, or as they were in a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from nbpipe.authoring.step_context import StepContext, current_step_context, recorded_step_context
from nbpipe.data.stores.object_store import no_progress
from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest
from nbpipe.planning.plan import plan_steps
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.unread_inputs import read_inputs, stage_inputs, unread_bytes
from nbpipe.workspace.workspace import Workspace


def context_now(workspace: Workspace, request: PipelineRequest, step: str) -> StepContext:
    """Return a step's context now, with inputs from up-to-date results; raise BadUsage if one is missing."""
    pinned = workspace.plans.pin_declared(dataclasses.replace(request, steps=(step,)))
    if unread_bytes(pinned.resolved, step) is not None:
        pinned.planner.settle(step, read_inputs(pinned.resolved, step, no_progress))
    stage_inputs(pinned.resolved, step, no_progress)
    decisions = plan_steps(pinned.planner, pinned.resolved.selected)
    return current_step_context(pinned.resolved, decisions, step, workspace.materializer)


def context_in_run(workspace: Workspace, notebook: str, step: str) -> StepContext:
    """Return a step's context in the newest run that executed or reused it; raise BadUsage if there is none."""
    history, layout = workspace.context.history, workspace.layout
    pipeline = workspace.catalog.pipeline(notebook).pipeline.id
    execution = history.executions.newest_executed(pipeline, step)
    run = history.runs.get(execution.run) if execution else None
    if execution is None or run is None:
        names = [name for name in history.executions.newest(pipeline) if name != step]
        message = f"step `{step}` has not been executed in this workspace"
        raise BadUsage(message, nearest(step, names) or "`--here` runs it with its present inputs.")
    located = layout.located(execution)
    return recorded_step_context(
        layout.located_run(run), located, workspace.results.recorded_digest(Path(located.notebook or "")),
        materializer=workspace.materializer, digests=workspace.context.digests,
    )  # fmt: skip
