"""Plans, runs and errors as JSON objects for other programs; their keys are a stable interface."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nbpipe.errors import NbpipeError, Refusals
from nbpipe.model import (
    Artifact,
    CachedResult,
    ExecutionRecord,
    Failure,
    Metric,
    PipelineWarning,
    Reason,
    ResultOrigin,
    ReuseVerdict,
    RunRecord,
    Status,
    Verdict,
)
from nbpipe.model.compute import Needs, Placement
from nbpipe.model.datasets import DatasetQuery
from nbpipe.views.text_tables import NO_DATASETS
from nbpipe.views.wording import VERDICTS

# Returns the URL of a stored output's bytes, as understood by fsspec; None if its datastore is unknown.
NO_QUERIES: Mapping[str, DatasetQuery] = MappingProxyType({})

UrlOf = Callable[[Artifact], str | None]


def plan_object(
    notebook: str,
    verdicts: Mapping[str, Verdict],
    needs: Mapping[str, Iterable[str]],
    warnings: Iterable[PipelineWarning],
    placements: Mapping[str, Placement],
    *,
    refused: Mapping[str, str],
    datasets: Mapping[str, Mapping[str, str]] = NO_DATASETS,
    queries: Mapping[str, DatasetQuery] = NO_QUERIES,
) -> dict[str, Any]:
    """Return a plan; steps run where ``placements`` says, and in the notebook's own environment.

    What a step occupies is told if it is more than a core. ``refused`` are the reasons why other steps are refused.
    ``datasets`` are the versions that inputs are bound to: a step without any has no such key.
    """
    steps = [
        {
            "name": name, **verdict_object(verdict), "needs": list(needs[name]),
            "target": placements[name].target.name, "environment": None, **_resources(placements[name].needs),
            **({"datasets": dict(datasets[name])} if datasets.get(name) else {}),
        }
        for name, verdict in verdicts.items()
    ]  # fmt: skip
    steps += [{"name": name, "verdict": "refused", "refused": reason} for name, reason in refused.items()]
    asked = {name: {"store": each.store, "query": each.query, "read": each.read} for name, each in queries.items()}
    return {
        "notebook": notebook, "steps": steps, "warnings": [warning_object(warning) for warning in warnings],
        **({"queries": asked} if asked else {}),
    }  # fmt: skip


def _resources(needs: Needs) -> dict[str, Any]:
    if needs == Needs():
        return {}
    return {"resources": {"cpu": needs.cpu, "memory": needs.memory or None, "gpu": needs.gpu}}


def verdict_object(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict with its reasons, the origin of a reused result, and the seconds saved."""
    hit = verdict.hit if isinstance(verdict, ReuseVerdict) else None
    return {
        "verdict": VERDICTS[type(verdict)][1],
        "reasons": reason_objects(verdict.reasons),
        "origin": origin_object(hit.origin if hit else None),
        "saved_seconds": hit.seconds if hit else 0.0,
    }


def accepted_object(step: str, hit: CachedResult, reasons: Iterable[Reason], record: str) -> dict[str, Any]:
    """Return a result that was accepted for a step's new code."""
    return {"step": step, "origin": origin_object(hit.origin), "reasons": reason_objects(reasons), "accepted": record}


def verified_object(verified: Mapping[str, Any], *, is_intact: bool) -> dict[str, Any]:
    """Return the result of verifying a workspace."""
    return {"whole": is_intact, **verified}


def run_object(
    run: RunRecord,
    steps: Iterable[ExecutionRecord],
    seconds: float | None,
    url_of: UrlOf,
    metrics: Iterable[Metric] = (),
) -> dict[str, Any]:
    """Return a run with the metrics of its steps; a step may be of another run, as its ``run`` tells."""
    logged = list(metrics)
    measured, counts = metrics_object(logged), metric_counts(logged)
    listed = list(steps)
    return {
        "run": run.id,
        "number": run.number,
        "notebook": run.notebook,
        "experiment": run.experiment,
        "status": run.status.value,
        "seconds": seconds,
        "saved_seconds": sum(step.saved_seconds for step in listed if step.run == run.id),
        "parameters": dict(run.parameters),
        "tags": dict(run.tags),
        "steps": [
            {
                **step_object(step, url_of),
                "metrics": measured.get(step.step, {}),
                "metric_counts": counts.get(step.step, {}),
            }
            for step in listed
        ],
    }


def metrics_object(metrics: Iterable[Metric]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return metrics by step and name, the values of each in order.

    A metric that only an earlier attempt has logged contains the number of that ``attempt``.
    """
    values_by_step: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for metric in metrics:
        value = metric.value if math.isfinite(metric.value) else str(metric.value)
        point = {"value": value, "step": metric.at, "time": metric.time}
        if metric.earlier_attempt is not None:
            point["attempt"] = metric.earlier_attempt
        values_by_step.setdefault(metric.step, {}).setdefault(metric.name, []).append(point)
    return values_by_step


def metric_counts(metrics: Iterable[Metric]) -> dict[str, dict[str, int]]:
    """Return by step and name how many values were logged; of very many, not each is recorded."""
    counts: dict[str, dict[str, int]] = {}
    for metric in metrics:
        counts.setdefault(metric.step, {})[metric.name] = metric.ordinal
    return counts


def step_seconds(step: ExecutionRecord) -> float | None:
    """Return how long a step's last attempt took, 0 without one; None if it was lost, since nobody saw it end."""
    return None if step.status is Status.LOST else step.seconds


def step_object(step: ExecutionRecord, url_of: UrlOf) -> dict[str, Any]:
    """Return one step of a run."""
    return {
        "name": step.step,
        "run": step.run,
        "status": step.status.value,
        "attempts": step.attempts,
        "seconds": step_seconds(step),
        "saved_seconds": step.saved_seconds,
        "reasons": reason_objects(step.reasons),
        "origin": origin_object(step.origin),
        "notebook": step.notebook,
        "items": None,
        "outputs": {artifact.name: artifact_object(artifact, url_of) for artifact in step.artifacts},
        "datasets": dict(step.datasets),
        "error": failure_object(step.failure),
        "notes": list(step.notes),
    }


def runs_object(runs: Iterable[RunRecord], ran: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a list of runs, each with the names of the steps that ran."""
    return {
        "runs": [
            {
                "run": run.id, "number": run.number, "notebook": run.notebook, "experiment": run.experiment,
                "status": run.status.value, "started": run.started, "ended": run.ended, "tags": dict(run.tags),
                "steps": list(ran.get(run.id, ())),
            }
            for run in runs
        ]
    }  # fmt: skip


def artifact_object(artifact: Artifact, url_of: UrlOf) -> dict[str, Any]:
    """Return a stored output."""
    uri = url_of(artifact)
    return {
        "uri": uri, "format": artifact.format, "digest": artifact.digest, "bytes": artifact.bytes,
        "dataset": artifact.dataset or None,
    }  # fmt: skip


def errors_object(error: NbpipeError) -> dict[str, Any]:
    """Return errors."""
    errors = error.errors if isinstance(error, Refusals) else (error,)
    return {"errors": [one.to_json() for one in errors]}


def warning_object(warning: PipelineWarning) -> dict[str, Any]:
    """Return a warning."""
    place = warning.place
    return {
        "code": warning.code, "message": warning.message, "hint": warning.hint,
        "cell": place.cell, "line": place.line, "column": place.column,
    }  # fmt: skip


def reason_objects(reasons: Iterable[Reason]) -> list[dict[str, Any]]:
    """Return reasons."""
    return [{"component": reason.component, "was": reason.was, "now": reason.now} for reason in reasons]


def origin_object(origin: ResultOrigin | None) -> dict[str, Any] | None:
    """Return where a reused result is from; null for one of its own."""
    return {"run": origin.run, "step": origin.step} if origin else None


def failure_object(failure: Failure | None) -> dict[str, Any] | None:
    """Return a failure, or None."""
    if failure is None:
        return None
    return {
        "ename": failure.ename, "evalue": failure.evalue, "cell": failure.cell, "line": failure.line,
        "message": failure.message, "kind": failure.kind,
    }  # fmt: skip
