"""The calls behind the verbs about a step's verdict, and their responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbpipe.run.acceptance import AcceptedResult
from nbpipe.run.reports import Explanation
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.acceptance import accept_step


@dataclass(frozen=True, slots=True)
class WhyResponse:
    """Why a step runs or is reused."""

    explained: Explanation
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AcceptResponse:
    """The result that was accepted."""

    accepted: AcceptedResult
    numbers: Mapping[str, int]


def why(invocation: Invocation, caller: Caller) -> WhyResponse:
    """Return how a step differs from its nearest earlier run."""
    step = invocation[options.STEP]
    request = caller.request((step,), texts=invocation[options.PARAM])
    explained = caller.workspace.plans.why(request, step)
    return WhyResponse(explained, caller.workspace.runs.numbers(explained.runs))


def accept(invocation: Invocation, caller: Caller) -> AcceptResponse:
    """Accept a step's last result for its new code."""
    step = invocation[options.STEP]
    request = caller.request((step,), texts=invocation[options.PARAM])
    accepted = accept_step(caller.workspace, request, step)
    return AcceptResponse(accepted, caller.workspace.runs.numbers([accepted.hit.origin.run]))
