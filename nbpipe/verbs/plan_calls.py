"""The call behind ``plan``, and its response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbpipe.model import ReuseVerdict
from nbpipe.run.reports import PlanResult
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation


@dataclass(frozen=True, slots=True)
class PlanResponse:
    """A plan; ``numbers`` are those of the runs whose results it reuses, ``now`` is in seconds since the epoch."""

    planned: PlanResult
    numbers: Mapping[str, int]
    now: float


def plan(invocation: Invocation, caller: Caller) -> PlanResponse:
    """Return what would run, what is reused, and why."""
    request = caller.request(texts=invocation[options.PARAM])
    planned = caller.workspace.plans.plan(request)
    verdicts = [decision.verdict for decision in planned.decisions.values()]
    origins = [verdict.hit.origin.run for verdict in verdicts if isinstance(verdict, ReuseVerdict)]
    return PlanResponse(planned, caller.workspace.runs.numbers(origins), caller.workspace.now())
