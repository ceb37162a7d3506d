"""The check of a notebook: its errors and warnings, and advice, without planning or running it."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.authoring.pipeline_advice import pipeline_advice
from nbpipe.errors import Refused
from nbpipe.model import PipelineWarning
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What is to be said about a notebook: warnings and errors."""

    warnings: tuple[PipelineWarning, ...]
    errors: tuple[Refused, ...]


def check_notebook(workspace: Workspace, request: PipelineRequest) -> CheckResult:
    """Return warnings about a notebook, and its errors; raise them if they leave no step."""
    pinned, errors = workspace.plans.pin_rest(request)
    advice = pipeline_advice(pinned.resolved, workspace.context.history, pinned.pipeline.id)
    return CheckResult((*pinned.warnings, *advice), errors)
