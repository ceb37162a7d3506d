"""One attempt on a worker, from its job to its outcome.

The worker's entry points: :func:`run_attempt` runs in a worker's thread, :func:`stop_attempt` in any other. Outputs are
published before the manifest, which is written last: if it exists, everything else does.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from nbpipe.data.artifacts import publish
from nbpipe.data.atomic_file import write_file
from nbpipe.data.event_writer import EventFileWriter
from nbpipe.data.materializer import ArtifactStore, DistantStore, Materializer, with_paths
from nbpipe.data.stored_display import BASENAME, display_text, empty_display_text
from nbpipe.data.stores.worker_stores import stores_of
from nbpipe.errors import NbpipeError, StoreOutOfReach
from nbpipe.execution.attempt import device_leases, notebook_engine
from nbpipe.execution.attempt.attempt_directory import AttemptDirectory, StagedOutput
from nbpipe.execution.attempt.attempt_registry import ActiveAttempt, AttemptRegistry, StopReason
from nbpipe.execution.attempt.failure_diagnosis import failure_of, one_line
from nbpipe.execution.attempt.runtime_bundle import write_bundle
from nbpipe.execution.observation.observation_result import input_notes, observation_result
from nbpipe.model import (
    DISPLAY,
    Artifact,
    AttemptOutputWritten,
    AttemptStarted,
    AttemptWaiting,
    Failure,
    FailureKind,
    Job,
    Outcome,
    Status,
)

_Told = AttemptWaiting | AttemptStarted | AttemptOutputWritten
Report = Callable[[_Told], None]
"""Receives reports of an attempt; may be called from any thread and must return at once."""

_HERE = AttemptRegistry()
_LOG = logging.getLogger(__name__)

_STATUS = {FailureKind.CANCELLED: Status.CANCELLED, FailureKind.LOST: Status.LOST}

_SETUP = """\
{loading}from nbpipe.execution.kernel_runtime import step_runtime as _nbpipe
_nbpipe.begin({job!r})
"""
# The part of it that is the same for every step.
_AHEAD = "{loading}from nbpipe.execution.kernel_runtime import step_runtime"


def _ignore_report(_report: _Told) -> None:
    """Do nothing."""


def run_attempt(job: Job, report: Report = _ignore_report) -> Outcome:
    """Carry out one attempt and return how it ended; failures are outcomes, never exceptions.

    ``report`` is called when the attempt has its directory, and whenever more of its events can be read there.
    """
    started = time.monotonic()
    directory = AttemptDirectory(Path(job.directory))
    with _HERE.carrying(job.attempt) as attempt:
        try:
            ended = _carry_out(job, attempt, directory, _harmless(report))
        except Exception as error:  # noqa: BLE001  # an unexpected error is an outcome, too
            ended = _surprise(error)
    if isinstance(ended, Outcome):
        return ended
    status = _STATUS.get(ended.kind, Status.FAILED)
    executed = directory.notebook.name if directory.notebook.is_file() else ""
    digest = directory.notebook_digest()
    return Outcome(
        job.attempt, job.token, status, time.monotonic() - started, executed, failure=ended, notebook_digest=digest
    )


def stop_attempt(attempt: str) -> bool:
    """Stop an attempt that runs in this process; return at once, False if there is none of that name.

    One that has not arrived yet will not start. Its outcome is ``cancelled`` when its processes have ended.
    """
    return _HERE.stop(attempt)


def _harmless(report: Report) -> Report:
    """Return a wrapper of ``report`` that raises no exceptions."""

    def reported(event: _Told) -> None:
        try:
            report(event)
        except Exception as error:  # noqa: BLE001  # a missing listener must not fail the step
            _LOG.info("a report of attempt %s was lost: %s", event.attempt, error)

    return reported


def _carry_out(job: Job, attempt: ActiveAttempt, directory: AttemptDirectory, report: Report) -> Outcome | Failure:
    started = time.monotonic()
    if not directory.claim():
        # A scheduler may start a task twice; the second one does nothing.
        message = "this attempt was already started by another worker"
        failure = Failure(FailureKind.LOST, "BegunElsewhere", str(directory.path), message)
        return Outcome(job.attempt, job.token, Status.LOST, time.monotonic() - started, "", failure=failure)
    try:
        with device_leases.lease_for(job, report, lambda: attempt.stopped is not None) as attempt.devices:
            return _carry_out_with_devices(job, attempt, directory, report)
    finally:
        directory.clear()


def _carry_out_with_devices(
    job: Job, attempt: ActiveAttempt, directory: AttemptDirectory, report: Report
) -> Outcome | Failure:
    """Carry out an attempt that has its devices."""
    started = time.monotonic()
    if attempt.stopped is None:
        report(AttemptStarted(job.attempt, time.time()))
    job = replace(job, env=attempt.devices.environment(job.env))
    stores = stores_of(job)
    progress = notebook_engine.NotebookExecution(notebook_engine.read(job.notebook))
    try:
        job = replace(job, inputs=with_paths(job.inputs, stores))
    except NbpipeError as error:
        return Failure(FailureKind.INPUT, error.code, error.message, one_line(str(error)))
    try:
        _execute(job, attempt, directory, report, progress)
    finally:
        attempt.devices.give_back()
        write_file(directory.notebook, notebook_engine.notebook_text(progress.notebook), durable=True)
    # From here on a stop has no effect; before, it takes precedence.
    attempt.seal()
    return failure_of(job, attempt, progress, directory) or _published(job, directory, started, progress, stores)


def _execute(
    job: Job,
    attempt: ActiveAttempt,
    directory: AttemptDirectory,
    report: Report,
    progress: notebook_engine.NotebookExecution,
) -> None:
    """Run the job's notebook in its kernel, with its timeout."""
    directory.write_job(job)
    runtime = write_bundle(Path(job.store))
    loading = runtime.loading
    for cell in progress.notebook.cells:
        if cell.metadata.get("nbpipe", {}).get("role") == "setup":
            cell.source = _SETUP.format(loading=loading, job=str(directory.job))
    # Run so, it leaves no name behind.
    ahead = f"exec({_AHEAD.format(loading=loading)!r}, {{}})"
    clock = threading.Timer(min(job.timeout or inf, threading.TIMEOUT_MAX), attempt.stop, (StopReason.TIMEOUT,))
    clock.daemon = True
    clock.start()
    try:
        with EventFileWriter(
            directory.path, wrote=lambda number: report(AttemptOutputWritten(job.attempt, number))
        ) as events:
            notebook_engine.run_notebook(
                notebook_engine.ExecutionContext(job, attempt, progress, directory.log, events, runtime, ahead)
            )
    finally:
        clock.cancel()


def _published(
    job: Job,
    directory: AttemptDirectory,
    started: float,
    progress: notebook_engine.NotebookExecution,
    stores: Materializer,
) -> Outcome | Failure:
    """Publish the staged outputs and write the manifest."""
    saved = directory.saved() or ()
    try:
        store = stores.store(job.output_store)
        artifacts = _publish(job, saved, store)
        display = _published_display(job, directory, progress.notebook, store)
    except NbpipeError as error:
        return Failure(FailureKind.OUTPUT, error.code, error.message, one_line(str(error)))
    stored = store.take_written() if isinstance(store, DistantStore) else ()
    used, written, doubts = observation_result(job, directory)
    seconds = time.monotonic() - started
    notes = (*(staged.note for staged in saved if staged.note), *progress.notes, *input_notes(directory))
    outcome = Outcome(
        job.attempt, job.token, Status.SUCCEEDED, seconds, directory.notebook.name,
        artifacts=artifacts, notes=notes, observed=used, written=written, doubts=doubts,
        notebook_digest=directory.notebook_digest(), display=display, stored=stored,
    )  # fmt: skip
    directory.sign(job, outcome)
    return outcome


def _publish(job: Job, saved: tuple[StagedOutput, ...], store: ArtifactStore) -> tuple[Artifact, ...]:
    staged = {output.name: output for output in saved}
    return tuple(
        publish(store, staged[name].path, name=name, format=staged[name].format, like=job.like.get(name))
        for name in (output.name for output in job.outputs)
    )


def _published_display(
    job: Job, directory: AttemptDirectory, notebook: Mapping[str, Any], store: ArtifactStore
) -> Artifact | None:
    """Store what the step displayed and printed; return None if that is nothing, and need not be there."""
    text = display_text(notebook) or (empty_display_text(notebook) if job.shows else None)
    if text is None:
        return None
    # No output has such a name.
    staged = directory.staging / f"-{DISPLAY}" / BASENAME
    try:
        staged.parent.mkdir(exist_ok=True)
        staged.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"what the step displayed cannot be stored: {error.strerror or error}"
        raise StoreOutOfReach(message, "Check the space and the permissions, then run again.") from error
    return publish(store, staged, name=DISPLAY, format=DISPLAY)


def _surprise(error: Exception) -> Failure:
    """Return the failure for an internal error."""
    message = f"nbpipe could not carry out the step: {one_line(str(error)) or type(error).__name__}"
    details = "".join(traceback.format_exception(error))
    return Failure(FailureKind.LOST, type(error).__name__, str(error), message, traceback=details)
