"""Recovery of results that attempts had finished when their run broke off: they are adopted, not computed again."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nbpipe.data.attempt_manifest import read_manifest
from nbpipe.data.event_file import PieceReader, metrics_of
from nbpipe.data.file_pinning import DigestCache, pin_files
from nbpipe.data.materializer import Materializer
from nbpipe.errors import NbpipeError
from nbpipe.history.attempts import LogEntry, RunChanges
from nbpipe.history.claims import Claim
from nbpipe.history.store import History
from nbpipe.model import AttemptRecord, Outcome, OutputWritten, Status
from nbpipe.model.datasets import DatasetOrigin
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import SubmittedAttempt, keep_result, read_submitted
from nbpipe.run.dataset_archive import keep_versions
from nbpipe.run.process_identity import this_user
from nbpipe.run.registrations import output_drafts
from nbpipe.run.safe_objects import find_lost

_LOG = logging.getLogger(__name__)
_CHANGED = "a declared file may have changed while the step ran"


def adopt_results(
    layout: WorkspaceLayout,
    history: History,
    digests: DigestCache,
    materializer: Materializer,
    attempts: Iterable[AttemptRecord],
    *,
    now: float,
) -> None:
    """Log the last events of abandoned attempts, and commit the results of those that had finished."""
    for attempt in attempts:
        entries = _unlogged_entries(layout, history, attempt)
        if entries:
            history.attempts.record(attempt.run, RunChanges(entries=entries), now)
        outcome = read_manifest(layout.path(attempt.directory), attempt.id, attempt.token)
        submitted = read_submitted(layout, attempt) if outcome is not None else None
        if outcome is None or submitted is None:
            continue
        stored = outcome.artifacts if outcome.display is None else (*outcome.artifacts, outcome.display)
        if find_lost(history, materializer, lambda: now, stored) is None:
            _adopt(layout, history, submitted, outcome, digests=digests, now=now)


def _unlogged_entries(layout: WorkspaceLayout, history: History, attempt: AttemptRecord) -> list[LogEntry]:
    """Return log entries for the events of an attempt since its driver died."""
    events = PieceReader(layout.path(attempt.directory)).read(attempt.pieces)
    if not events:
        return []
    step = next((execution.step for execution in history.executions.get([attempt.execution])), "")
    metrics = metrics_of(events, attempt.run, step, attempt.id)
    return [*metrics, OutputWritten(attempt.id, attempt.pieces + 1, events[-1].number)]


def _adopt(
    layout: WorkspaceLayout,
    history: History,
    submitted: SubmittedAttempt,
    outcome: Outcome,
    *,
    digests: DigestCache,
    now: float,
) -> None:
    result = submitted.result
    doubts = outcome.doubts if _same(layout, submitted, digests) else (*outcome.doubts, _CHANGED)
    attempt = replace(
        result.attempt, status=Status.SUCCEEDED, started=now - outcome.seconds, ended=now, seconds=outcome.seconds,
        notebook=outcome.notebook, artifacts=outcome.artifacts, notebook_digest=outcome.notebook_digest,
        display=outcome.display,
    )  # fmt: skip
    recorded = history.attempts.get(attempt.id)
    attempt = replace(attempt, pieces=recorded.pieces if recorded else 0)
    execution = replace(
        result.execution, status=Status.SUCCEEDED, seconds=outcome.seconds, notebook=attempt.executed_notebook,
        artifacts=outcome.artifacts, observed=outcome.observed, written=outcome.written, started=now - outcome.seconds,
        ended=now, notes=(*outcome.notes, *(f"{doubt}: its result serves this run only" for doubt in doubts)),
    )  # fmt: skip
    entries = () if doubts else tuple(replace(entry, observed=outcome.observed) for entry in result.offers)
    run = history.runs.get(attempt.run)
    claim = Claim(attempt.key, run.owner, attempt.token) if run and attempt.key and attempt.token else None
    origin = DatasetOrigin(now, this_user(), attempt.run, execution.step, parents=submitted.parents)
    drafts = output_drafts(submitted.register, outcome.artifacts, origin)
    committed = history.attempts.commit(attempt, execution, offers=entries, claim=claim, now=now, registrations=drafts)
    if committed and drafts:
        (execution,) = history.executions.get([execution.id])
        keep_versions(layout, history, execution)
    if committed and not history.is_private:
        try:
            keep_result(layout, replace(result, execution=execution, attempt=attempt, offers=entries, committed=now))
        except OSError as error:
            _LOG.warning("the record of step %s could not be written: %s", execution.step, error)


def _same(layout: WorkspaceLayout, submitted: SubmittedAttempt, digests: DigestCache) -> bool:
    """Return whether the step's declared files are unchanged since the attempt was submitted."""
    base = layout.absolute(submitted.base)
    try:
        return all(
            pin_files(pattern, Path(base), digests).digest == digest for pattern, digest in submitted.files.items()
        )
    except NbpipeError:
        return False
