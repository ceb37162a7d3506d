"""Rows made from the model's values, and the values made from rows: no question is asked here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from sqlalchemy import Row

from nbpipe.model import (
    Artifact,
    Component,
    Failure,
    GitState,
    Hit,
    Observed,
    Origin,
    Reason,
    Reference,
    RunRecord,
    Status,
    StepRecord,
)

TERMINAL = tuple(status.value for status in Status if status.terminal)
DONE = frozenset((Status.SUCCEEDED, Status.REUSED))

_ENCODER = json.JSONEncoder(separators=(",", ":"), default=repr)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt as history keeps it."""

    attempt: str
    number: int
    status: Status
    started: float
    ended: float | None
    directory: str
    notebook: str
    failure: Failure | None


def to_json(value: object) -> str:
    """Get ``value`` as compact ASCII JSON; what JSON cannot say is shown by its ``repr``."""
    return "[]" if value == () else _ENCODER.encode(value)


def run_from(row: Row[Any], patch: str) -> RunRecord:
    """Get the run; ``patch`` is the text that the row only refers to."""
    return RunRecord(
        id=row.id,
        number=row.number,
        notebook=row.notebook,
        experiment=row.experiment,
        status=Status(row.status),
        started=row.started,
        ended=row.ended,
        parameters=json.loads(row.parameters),
        tags=json.loads(row.tags),
        git=None if row.git is None else GitState(**json.loads(row.git), patch=patch),
        owner=row.owner,
        needs=needs_from(json.loads(row.needs or "{}")),
    )


def needs_from(told: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Get what each step needs."""
    return {step: tuple(needed) for step, needed in told.items()}


def git_to_json(git: GitState | None) -> str | None:
    """Get the repository's state without its patch, which is a text of its own."""
    if git is None:
        return None
    return to_json({"remote": git.remote, "branch": git.branch, "commit": git.commit, "dirty": git.dirty})


def step_to_row(record: StepRecord, components: str | None, observed: str | None) -> dict[str, Any]:
    """Get the step's row, but for what it repeats of its run; the other two are the names of their texts."""
    return {
        "run": record.run,
        "step": record.step,
        "position": record.position,
        "status": record.status.value,
        "done": record.status in DONE,
        "attempts": record.attempts,
        "seconds": record.seconds,
        "saved_seconds": record.saved_seconds,
        "reasons": to_json([(reason.component, reason.was, reason.now) for reason in record.reasons]),
        "components": components,
        "key": record.key,
        "origin_run": record.origin.run if record.origin else None,
        "origin_step": record.origin.step if record.origin else None,
        "notebook": record.notebook,
        "failure": failure_to_json(record.failure),
        "started": record.started,
        "ended": record.ended,
        "notes": to_json(record.notes),
        "observed": observed,
        "written": to_json(record.written),
    }


def step_from(
    row: Row[Any],
    components: tuple[Component, ...],
    artifacts: Iterable[Artifact],
    observed: tuple[Observed, ...] = (),
) -> StepRecord:
    """Get the step with what its row only refers to."""
    return StepRecord(
        run=row.run,
        step=row.step,
        position=row.position,
        status=Status(row.status),
        attempts=row.attempts,
        seconds=row.seconds,
        saved_seconds=row.saved_seconds,
        reasons=tuple(Reason(*reason) for reason in json.loads(row.reasons)),
        components=components,
        key=row.key,
        origin=None if row.origin_run is None else Origin(row.origin_run, row.origin_step),
        notebook=row.notebook,
        artifacts=tuple(artifacts),
        failure=failure_from(row.failure),
        started=row.started,
        ended=row.ended,
        notes=tuple(json.loads(row.notes)),
        observed=observed,
        written=tuple(json.loads(row.written)),
    )


def output_to_row(record: StepRecord, position: int, number: int) -> dict[str, Any]:
    """Get the row of the step's output at ``position``; ``number`` is that of the run."""
    artifact = record.artifacts[position]
    return {
        "run": record.run,
        "step": record.step,
        "number": number,
        "position": position,
        "name": artifact.name,
        "format": artifact.format,
        "store": artifact.reference.store,
        "digest": artifact.digest,
        "basename": artifact.basename,
        "bytes": artifact.bytes,
    }


def artifact_from(row: Row[Any]) -> Artifact:
    """Get the output's artifact."""
    return Artifact(row.name, row.format, Reference(row.store, row.digest, row.basename, row.bytes))


def artifacts_to_json(artifacts: Iterable[Artifact]) -> str:
    """Get what an attempt made, as its own row keeps it."""
    return to_json([(a.name, a.format, a.reference.store, a.digest, a.basename, a.bytes) for a in artifacts])


def artifacts_from(stored: str) -> tuple[Artifact, ...]:
    """Get what an attempt made back."""
    return tuple(Artifact(name, format, Reference(*parts)) for name, format, *parts in json.loads(stored))


def hit_from(row: Row[Any], key: str, observed: tuple[Observed, ...] = (), accepted: str | None = None) -> Hit:
    """Get the attempt's result as one that may be reused under ``key``."""
    return Hit(
        key, row.id, *_made(row.run, row.step, row.seconds, row.notebook, row.artifacts), observed, accepted or ""
    )


# An attempt's result is offered under two keys, one row after the other.
@lru_cache(maxsize=16)
def _made(
    run: str, step: str, seconds: float, notebook: str, artifacts: str
) -> tuple[Origin, float, str, tuple[Artifact, ...]]:
    return Origin(run, step), seconds, notebook, artifacts_from(artifacts)


def attempt_from(row: Row[Any]) -> AttemptRow:
    """Get the attempt."""
    return AttemptRow(
        attempt=row.id,
        number=row.number,
        status=Status(row.status),
        started=row.started,
        ended=row.ended,
        directory=row.directory,
        notebook=row.notebook,
        failure=failure_from(row.failure),
    )


def failure_to_json(failure: Failure | None) -> str | None:
    """Get the failure as JSON text."""
    return None if failure is None else to_json({field.name: getattr(failure, field.name) for field in fields(failure)})


def failure_from(stored: str | None) -> Failure | None:
    """Get the failure back."""
    if stored is None:
        return None
    values: Mapping[str, Any] = json.loads(stored)
    return Failure(**values)
