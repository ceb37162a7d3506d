"""The call behind ``debug``, and its response."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.authoring.step_context import StepContext
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.step_contexts import context_in_run


@dataclass(frozen=True, slots=True)
class DebugResponse:
    """The context of a recorded step; with ``with_locals``, the saved variables of the frame that failed."""

    step_context: StepContext
    with_locals: bool


def debug(invocation: Invocation, caller: Caller) -> DebugResponse:
    """Return the inputs, parameters and code of a step in the newest run that executed or reused it."""
    # Raises an error if the notebook cannot be read.
    caller.cells()
    caller.workspace.require_trust()
    step_context = context_in_run(caller.workspace, caller.notebook, invocation[options.STEP])
    return DebugResponse(step_context, invocation[options.LOCALS])
