"""The check of a notebook: its errors and warnings, and advice, without planning or running it."""

from __future__ import annotations

from nbpipe.authoring.pipeline_advice import pipeline_advice
from nbpipe.model import PipelineWarning
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.workspace.workspace import Workspace


def check_notebook(workspace: Workspace, request: PipelineRequest) -> tuple[PipelineWarning, ...]:
    """Return warnings about a notebook; raise its errors."""
    pinned = workspace.plans.pin(request)
    return (*pinned.warnings, *pipeline_advice(pinned.resolved, workspace.context.history, pinned.pipeline.id))
