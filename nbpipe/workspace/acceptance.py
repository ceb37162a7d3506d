"""The acceptance of a step's result for its present code."""

from __future__ import annotations

from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.acceptance import AcceptedResult, accept_result
from nbpipe.run.process_identity import this_user
from nbpipe.workspace.workspace import Workspace


def accept_step(workspace: Workspace, request: PipelineRequest, step: str) -> AcceptedResult:
    """Accept a step's newest result for its present code; raise BadUsage if that is not possible."""
    pinned, decision = workspace.plans.decide(request, step)
    return accept_result(
        decision, pinned.planner, pinned.resolved.around, workspace.context.history, user=this_user(),
        now=workspace.now(),
    )  # fmt: skip
