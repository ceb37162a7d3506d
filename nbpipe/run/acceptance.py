"""An old result that its author lets stand for new code: checked, then offered under the new keys, on record."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from nbpipe.data.observations import EnvironmentProbe
from nbpipe.errors import BadUsage
from nbpipe.history.results import ReuseEntry
from nbpipe.history.store import History
from nbpipe.model import Artifact, CachedResult, Output, Reason, ReuseVerdict, RunVerdict, SkipVerdict, Step
from nbpipe.planning.plan import Planner, StepDecision


@dataclass(frozen=True, slots=True)
class AcceptedResult:
    """A result that stands from now on: what it was made by, what had changed since, and the words on record."""

    step: str
    hit: CachedResult
    reasons: tuple[Reason, ...]
    record: str


def accept_result(
    decision: StepDecision, planner: Planner, around: EnvironmentProbe, history: History, *, user: str, now: float
) -> AcceptedResult:
    """Let the newest result of a step stand for what the step is now; BadUsage when that cannot be."""
    name, verdict = decision.step, decision.verdict
    if isinstance(verdict, ReuseVerdict):
        raise BadUsage(f"step `{name}` is up to date: there is nothing to accept")
    if isinstance(verdict, SkipVerdict):
        raise BadUsage(f"step `{name}` is skipped: there is nothing to accept")
    if not decision.keys:
        raise BadUsage(f"what `{name}` takes in is not known yet", "Run the steps that it needs, then accept.")
    step = planner.graph.steps[name]
    if isinstance(verdict, RunVerdict) and verdict.reasons and verdict.reasons[0].component in ("policy", "forced"):
        raise BadUsage(f"step `{name}` always runs, so nothing can stand for it", "Take `reuse: never` away.")
    hit = planner.past.newest(name)
    if hit is None or not step.outputs:
        raise BadUsage(f"there is no result of `{name}` that could stand", f"Run it: nbpipe run NOTEBOOK {name}")
    _require_outputs(step, hit.artifacts)
    before = planner.past.latest(name)
    observed = around.renewed(before.observed if before else ())
    changed = ", ".join(dict.fromkeys(reason.component for reason in verdict.reasons)) or "nothing that is known"
    record = f"accepted by {user} on {time.strftime('%Y-%m-%d %H:%M', time.localtime(now))} although changed: {changed}"
    entries = [ReuseEntry(key, static, observed) for key, static in decision.keys]
    history.results.accept(hit.attempt, entries, record, now)
    return AcceptedResult(name, hit, verdict.reasons, record)


def _require_outputs(step: Step, artifacts: Iterable[Artifact]) -> None:
    """Raise BadUsage unless the result has all that the step declares now, in its format."""
    there = {artifact.name: artifact for artifact in artifacts}
    for output in step.outputs:
        found = there.get(output.name)
        if found is None:
            raise BadUsage(
                f"the last result of `{step.name}` has no output `{output.name}`, which the step declares now",
                f"Run the step: nbpipe run NOTEBOOK {step.name}",
            )
        if not _same_format(output, found):
            raise BadUsage(
                f"the last result of `{step.name}` has `{output.name}` as {found.format}, not as {output.format}",
                f"Run the step: nbpipe run NOTEBOOK {step.name}",
            )


def _same_format(output: Output, found: Artifact) -> bool:
    if output.format is None:
        return not found.is_path
    kept, _, suffix = output.format.partition(".")
    return found.format == kept and (not suffix or found.basename.endswith(f".{suffix}"))
