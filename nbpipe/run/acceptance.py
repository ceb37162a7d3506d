"""Accepting an old result for new code: it is checked, offered under the new keys, and the acceptance is recorded."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from nbpipe.data.observations import EnvironmentProbe
from nbpipe.errors import BadUsage
from nbpipe.history.results import ReuseEntry
from nbpipe.history.store import History
from nbpipe.model import (
    Artifact,
    CachedResult,
    ComponentKind,
    Output,
    Reason,
    ReuseVerdict,
    RunVerdict,
    SkipVerdict,
    Step,
)
from nbpipe.planning.plan import Planner, StepDecision

# Reasons of steps that run whatever their inputs are.
_ALWAYS = frozenset({ComponentKind.POLICY, ComponentKind.FORCED})


@dataclass(frozen=True, slots=True)
class AcceptedResult:
    """An accepted result: its origin, what had changed since, and the recorded text."""

    step: str
    hit: CachedResult
    reasons: tuple[Reason, ...]
    record: str


def accept_result(
    decision: StepDecision, planner: Planner, probe: EnvironmentProbe, history: History, *, user: str, now: float
) -> AcceptedResult:
    """Accept the newest result of a step for its present code; raise BadUsage if that is not possible."""
    name, verdict = decision.step, decision.verdict
    if isinstance(verdict, ReuseVerdict):
        raise BadUsage(f"step `{name}` is up to date: there is nothing to accept")
    if isinstance(verdict, SkipVerdict):
        raise BadUsage(f"step `{name}` is skipped: there is nothing to accept")
    if not decision.keys:
        raise BadUsage(f"the inputs of `{name}` are not known yet", "Run the steps that it needs, then accept.")
    step = planner.graph.steps[name]
    if isinstance(verdict, RunVerdict) and verdict.reasons and verdict.reasons[0].kind in _ALWAYS:
        raise BadUsage(f"step `{name}` always runs, so no result can be accepted", "Remove `reuse: never`.")
    hit = planner.past.newest(name)
    if hit is None or not (step.outputs or step.options.shows):
        raise BadUsage(f"there is no result of `{name}` to accept", f"Run it: nbpipe run NOTEBOOK {name}")
    _require_outputs(step, hit.artifacts)
    if step.options.shows and (problem := planner.past.display_problem(hit)) is not None:
        message = f"the last result of `{name}` cannot be accepted: {problem.now}"
        raise BadUsage(message, f"Run the step: nbpipe run NOTEBOOK {name}")
    before = planner.past.latest(name)
    observed = probe.renewed(before.observed if before else ())
    changed = ", ".join(dict.fromkeys(reason.component for reason in verdict.reasons)) or "nothing that is known"
    record = f"accepted by {user} on {time.strftime('%Y-%m-%d %H:%M', time.localtime(now))} although changed: {changed}"
    entries = [ReuseEntry(key, static, observed) for key, static in decision.keys]
    history.results.accept(hit.attempt, entries, record, now)
    return AcceptedResult(name, hit, verdict.reasons, record)


def _require_outputs(step: Step, artifacts: Iterable[Artifact]) -> None:
    """Raise BadUsage unless the result has all outputs that the step now declares, in their formats."""
    artifacts_by_name = {artifact.name: artifact for artifact in artifacts}
    for output in step.outputs:
        artifact = artifacts_by_name.get(output.name)
        if artifact is None:
            raise BadUsage(
                f"the last result of `{step.name}` has no output `{output.name}`, which the step declares now",
                f"Run the step: nbpipe run NOTEBOOK {step.name}",
            )
        if not _same_format(output, artifact):
            raise BadUsage(
                f"the last result of `{step.name}` has `{output.name}` as {artifact.format}, not as {output.format}",
                f"Run the step: nbpipe run NOTEBOOK {step.name}",
            )


def _same_format(output: Output, artifact: Artifact) -> bool:
    if output.format is None:
        return not artifact.is_path
    format_name, _, suffix = output.format.partition(".")
    return artifact.format == format_name and (not suffix or artifact.basename.endswith(f".{suffix}"))
