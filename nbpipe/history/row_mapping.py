"""Conversion between the model's values and rows; nothing here accesses the database."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Row

from nbpipe.codec import decode
from nbpipe.model import (
    Artifact,
    AttemptRecord,
    CachedResult,
    ComponentName,
    ExecutionRecord,
    Failure,
    GitState,
    KeyComponent,
    ObjectReference,
    Observation,
    PipelineRecord,
    Reason,
    ResultOrigin,
    RunRecord,
    Status,
)

GOING_ON = tuple(status.value for status in Status if not status.terminal)
DONE = frozenset((Status.SUCCEEDED, Status.REUSED))

_NONE = "[]"
_EMPTY = "{}"
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=repr)


def to_json(value: object) -> str:
    """Return ``value`` as compact ASCII JSON; what JSON cannot represent becomes its ``repr``."""
    return _NONE if value == () else _ENCODER.encode(value)


def as_row(values: Mapping[str, Any]) -> Any:
    """Return values by column in the form of a row."""
    return SimpleNamespace(**values)


def pipeline_to_row(record: PipelineRecord) -> dict[str, Any]:
    """Return the pipeline's row."""
    return {
        "id": record.id,
        "notebook": record.notebook,
        "cells": to_json(sorted(record.cells)),
        "steps": to_json(sorted(record.steps)),
    }


def pipeline_from(row: Row[Any]) -> PipelineRecord:
    """Return the pipeline."""
    return PipelineRecord(row.id, row.notebook, frozenset(texts_from(row.cells)), frozenset(texts_from(row.steps)))


def run_from(row: Row[Any], patch: str) -> RunRecord:
    """Return the run; ``patch`` is the text that the row only refers to."""
    return RunRecord(
        id=row.id,
        number=row.number,
        pipeline=row.pipeline,
        notebook=row.notebook,
        experiment=row.experiment,
        status=Status(row.status),
        started=row.started,
        ended=row.ended,
        parameters=decode(row.parameters, dict[str, Any]),
        tags=decode(row.tags, dict[str, str]),
        git=None if row.git is None else replace(decode(row.git, GitState), patch=patch),
        owner=row.owner,
    )


def git_to_json(git: GitState | None) -> str | None:
    """Return the repository's state without its patch, which is stored separately."""
    if git is None:
        return None
    return to_json({"remote": git.remote, "branch": git.branch, "commit": git.commit, "dirty": git.dirty})


def execution_to_row(record: ExecutionRecord, components: str | None, observed: str | None) -> dict[str, Any]:
    """Return the execution's row, without its copies of the run's columns; the other arguments name stored texts."""
    return {
        "id": record.id,
        "run": record.run,
        "step": record.step,
        "position": record.position,
        "status": record.status.value,
        "current": record.current,
        "done": record.current and record.status in DONE,
        "attempts": record.attempts,
        "seconds": record.seconds,
        "saved_seconds": record.saved_seconds,
        "reasons": to_json([(reason.component, reason.was, reason.now) for reason in record.reasons]),
        "components": components,
        "key": record.key,
        "origin_run": record.origin.run if record.origin else None,
        "origin_step": record.origin.step if record.origin else None,
        "origin_attempt": record.origin.attempt if record.origin else None,
        "notebook": record.notebook,
        "failure": failure_to_json(record.failure),
        "started": record.started,
        "ended": record.ended,
        "notes": to_json(record.notes),
        "observed": observed,
        "written": to_json(record.written),
        "needs": to_json(record.needs),
        "datasets": to_json(dict(record.datasets)),
    }


def execution_from(
    row: Row[Any],
    components: tuple[KeyComponent, ...],
    artifacts: Iterable[Artifact],
    observed: tuple[Observation, ...] = (),
) -> ExecutionRecord:
    """Return the execution, with the parts that its row only refers to."""
    return ExecutionRecord(
        id=row.id,
        run=row.run,
        step=row.step,
        position=row.position,
        status=Status(row.status),
        attempts=row.attempts,
        seconds=row.seconds,
        saved_seconds=row.saved_seconds,
        reasons=_reasons(row.reasons),
        components=components,
        key=row.key,
        origin=_origin(row.origin_run, row.origin_step, row.origin_attempt),
        notebook=row.notebook,
        artifacts=tuple(artifacts),
        failure=failure_from(row.failure),
        started=row.started,
        ended=row.ended,
        notes=texts_from(row.notes),
        observed=observed,
        written=texts_from(row.written),
        needs=texts_from(row.needs),
        current=row.current,
        datasets={} if row.datasets == _EMPTY else decode(row.datasets, dict[str, str]),
    )


def _origin(run: str | None, step: str | None, attempt: str | None) -> ResultOrigin | None:
    """Return where a result comes from; raise ValueError if the columns say it in part."""
    if run is None and step is None and attempt is None:
        return None
    if run is None or step is None or attempt is None:
        raise ValueError("it says in part where its result comes from")
    return ResultOrigin(run, step, attempt)


def output_to_row(record: ExecutionRecord, position: int) -> dict[str, Any]:
    """Return the row of the execution's output at ``position``, without its copies of the run's columns."""
    artifact = record.artifacts[position]
    return {
        "execution": record.id,
        "position": position,
        "name": artifact.name,
        "format": artifact.format,
        "store": artifact.reference.store,
        "digest": artifact.digest,
        "basename": artifact.basename,
        "bytes": artifact.bytes,
        "dataset": artifact.dataset,
    }


def artifact_from(row: Row[Any]) -> Artifact:
    """Return the output's artifact."""
    return Artifact(row.name, row.format, ObjectReference(row.store, row.digest, row.basename, row.bytes), row.dataset)


def artifacts_to_json(artifacts: Iterable[Artifact]) -> str:
    """Return an attempt's artifacts as JSON text for its row."""
    return to_json([(a.name, a.format, a.reference.store, a.digest, a.basename, a.bytes) for a in artifacts])


def artifacts_from_json(stored: str) -> tuple[Artifact, ...]:
    """Return an attempt's artifacts."""
    return tuple(artifact for artifact in stored_objects_from_json(stored) if not artifact.is_display)


def display_from_json(stored: str) -> Artifact | None:
    """Return what an attempt displayed; None if that was not stored."""
    return next((each for each in reversed(stored_objects_from_json(stored)) if each.is_display), None)


def stored_objects_from_json(stored: str) -> tuple[Artifact, ...]:
    """Return an attempt's artifacts, and after them what it displayed."""
    if stored == _NONE:
        return ()
    parts = decode(stored, tuple[tuple[str, str, str, str, str, int], ...])
    return tuple(
        Artifact(name, format, ObjectReference(store, digest, basename, size))
        for name, format, store, digest, basename, size in parts
    )


def hit_from(
    row: Row[Any], key: str, observed: tuple[Observation, ...] = (), accepted: str | None = None
) -> CachedResult:
    """Return the attempt's result as reusable under ``key``; the row is an attempt's with its step."""
    executed = f"{row.directory}/{row.notebook}" if row.notebook else ""
    result = _attempt_result(ResultOrigin(row.run, row.step, row.id), row.seconds, executed, row.artifacts)
    return CachedResult(key, row.id, *result, observed, accepted or "", display_from_json(row.artifacts))


# An attempt's result is offered under two keys, one row after the other.
@lru_cache(maxsize=16)
def _attempt_result(
    origin: ResultOrigin, seconds: float, notebook: str, artifacts: str
) -> tuple[ResultOrigin, float, str, tuple[Artifact, ...]]:
    return origin, seconds, notebook, artifacts_from_json(artifacts)


def attempt_to_row(record: AttemptRecord) -> dict[str, Any]:
    """Return the attempt's row."""
    return {
        **{field.name: getattr(record, field.name) for field in fields(record) if field.name != "display"},
        "status": record.status.value,
        "failure": failure_to_json(record.failure),
        "artifacts": artifacts_to_json((*record.artifacts, *((record.display,) if record.display else ()))),
    }


def attempt_from(row: Row[Any]) -> AttemptRecord:
    """Return the attempt."""
    return AttemptRecord(
        id=row.id,
        run=row.run,
        execution=row.execution,
        number=row.number,
        status=Status(row.status),
        directory=row.directory,
        token=row.token,
        key=row.key,
        started=row.started,
        ended=row.ended,
        seconds=row.seconds,
        notebook=row.notebook,
        notebook_digest=row.notebook_digest,
        pieces=row.pieces,
        failure=failure_from(row.failure),
        artifacts=artifacts_from_json(row.artifacts),
        display=display_from_json(row.artifacts),
    )


def failure_to_json(failure: Failure | None) -> str | None:
    """Return the failure as JSON text."""
    return None if failure is None else to_json(dataclasses.asdict(failure))


def failure_from(stored: str | None) -> Failure | None:
    """Return the failure."""
    return None if stored is None else decode(stored, Failure)


def texts_from(stored: str) -> tuple[str, ...]:
    """Return the texts in a column that holds a list of them."""
    return () if stored == _NONE else decode(stored, tuple[str, ...])


def _reasons(stored: str) -> tuple[Reason, ...]:
    if stored == _NONE:
        return ()
    return tuple(Reason(*parts) for parts in decode(stored, tuple[tuple[ComponentName, str | None, str | None], ...]))
