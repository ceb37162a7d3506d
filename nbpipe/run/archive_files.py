"""The archive files beside a run's executed notebooks, from which a lost database or a broken run is recovered.

The run's folder contains a record of the run, and long texts that its results share. An attempt's folder contains the
driver's record of the submitted attempt; the committed result later replaces that and the worker's manifest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbpipe.codec import decode, encode_sparse, gunzip_text, gzip_text
from nbpipe.data.atomic_file import write_file
from nbpipe.data.attempt_manifest import NAME as MANIFEST
from nbpipe.data.attempt_manifest import read_manifest
from nbpipe.data.regular_file import read_regular
from nbpipe.data.run_texts import RunTexts
from nbpipe.history.rebuild_archive import (
    ArchivedResult,
    ArchivedRun,
    archive_text,
    read_archived_result,
    read_archived_run,
)
from nbpipe.history.results import ReuseEntry
from nbpipe.history.store import History
from nbpipe.model import AttemptRecord, ExecutionRecord, Outcome, PipelineRecord, RunRecord, Status
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.dataset_archive import keep_versions
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.registrations import Registered

_RESULT = "record.json.gz"
_SUBMITTED = "submitted.json"
_RUN = "run.json"
# Shorter texts are stored in place, since a reference is about this long.
_LONG_TEXT = 200
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubmittedAttempt:
    """A driver's record of a submitted attempt: its result without the outcome, and the declared files.

    ``files`` are digests by pattern; ``base`` is the folder of relative patterns, itself relative to the workspace.
    ``register`` are the outputs to be registered with their datasets, ``parents`` the versions that they are made from.
    """

    result: ArchivedResult
    base: str
    files: Mapping[str, str]
    register: Registered = ()
    parents: tuple[str, ...] = ()


@dataclass(slots=True)
class ResultArchiveWriter:
    """Writes the archive files of a workspace; ``base`` is the folder of the notebook."""

    layout: WorkspaceLayout
    pipeline: PipelineRecord
    base: Path
    _written: set[str] = field(default_factory=set)

    def keep_submitted(
        self, run: RunRecord, state: ExecutionState, files: Mapping[str, str], parents: tuple[str, ...], now: float
    ) -> None:
        """Write what recovery needs to adopt an attempt; without it, the step runs again."""
        if state.attempt is None:
            return
        result = ArchivedResult(state.stands(Status.RUNNING), state.attempt, state.entries(), now)
        folder = self.layout.path(state.attempt.directory)
        try:
            self._keep_run(run)
            submitted = SubmittedAttempt(
                _with_shared_texts(self.layout, result),
                self.layout.relative(self.base),
                files,
                state.increment.planner.graph.steps[state.step].options.register,
                parents,
            )
            write_file(folder / _SUBMITTED, encode_sparse(submitted).encode(), durable=False)
        except OSError as error:
            _LOG.warning("the submitted attempt in %s could not be recorded: %s", folder, error)

    def keep(self, run: RunRecord, state: ExecutionState, entries: Sequence[ReuseEntry], now: float) -> None:
        """Write a committed result beside its notebook; it is needed only if the history is lost."""
        if state.attempt is None:
            return
        try:
            self._keep_run(run)
            keep_result(self.layout, ArchivedResult(state.record, state.attempt, tuple(entries), now))
        except OSError as error:
            _LOG.warning("the record of step %s could not be written: %s", state.step, error)

    def keep_versions(self, history: History, record: ExecutionRecord) -> None:
        """Write the versions of datasets that an execution's outputs are."""
        keep_versions(self.layout, history, record)

    def keep_ending(self, run: RunRecord) -> None:
        """Write the ending of a run; a run that executed nothing has no folder and needs none."""
        if not (self.layout.runs / run.id).is_dir():
            return
        try:
            keep_run(self.layout, ArchivedRun(run, self.pipeline))
        except OSError as error:
            _LOG.warning("the record of run %s could not be written: %s", run.number, error)

    def finished(self, attempt: AttemptRecord) -> Outcome | None:
        """Return the outcome of a successful attempt whose worker could not report it."""
        return read_manifest(self.layout.path(attempt.directory), attempt.id, attempt.token)

    def _keep_run(self, run: RunRecord) -> None:
        if run.id not in self._written:
            keep_run(self.layout, ArchivedRun(run, self.pipeline))
            self._written.add(run.id)


def keep_result(layout: WorkspaceLayout, result: ArchivedResult) -> None:
    """Write a committed result into its attempt's folder, replacing its manifest and the submitted record."""
    folder = layout.path(result.attempt.directory)
    write_file(folder / _RESULT, gzip_text(archive_text(_with_shared_texts(layout, result))), durable=False)
    for superseded in (_SUBMITTED, MANIFEST):
        (folder / superseded).unlink(missing_ok=True)


def read_submitted(layout: WorkspaceLayout, attempt: AttemptRecord) -> SubmittedAttempt | None:
    """Return the record of a submitted attempt; None if it cannot be read."""
    try:
        submitted = decode(read_regular(layout.path(attempt.directory) / _SUBMITTED), SubmittedAttempt)
        return replace(submitted, result=_with_own_texts(layout, submitted.result))
    except (OSError, ValueError):
        return None


def archived_results(layout: WorkspaceLayout) -> Iterator[tuple[Path, ArchivedResult | str]]:
    """Yield every archived result of a workspace with its file, or the reason why it cannot be read."""
    for folder in attempt_folders(layout.runs):
        path = folder / _RESULT
        if not os.path.lexists(path):
            continue
        try:
            result = read_archived_result(gunzip_text(read_regular(path)))
        except (OSError, ValueError) as error:
            yield path, f"is not a kept result: {error}"
            continue
        attempt, ids = result.attempt, (folder.parents[1].name, folder.name)
        if (attempt.run, attempt.id) == ids and layout.root / attempt.directory == folder:
            yield path, _with_own_texts(layout, result)
        else:
            yield path, "is the result of another attempt"


def archived_runs(layout: WorkspaceLayout) -> dict[str, ArchivedRun]:
    """Return the archived runs of a workspace by id, without unreadable ones."""
    return {path.parent.name: record for path, record in run_files(layout) if isinstance(record, ArchivedRun)}


def run_files(layout: WorkspaceLayout) -> Iterator[tuple[Path, ArchivedRun | str]]:
    """Yield every archived run of a workspace with its file, or the reason why it cannot be read."""
    for path in sorted(layout.runs.glob(f"*/{_RUN}")):
        try:
            record = read_archived_run(read_regular(path).decode("utf-8"))
        except (OSError, ValueError) as error:
            yield path, f"is not a kept run: {error}"
        else:
            yield path, record if record.run.id == path.parent.name else "is the record of another run"


def keep_run(layout: WorkspaceLayout, record: ArchivedRun) -> None:
    """Write the record of a run into its folder."""
    write_file(layout.runs / record.run.id / _RUN, archive_text(record).encode(), durable=False)


def _with_shared_texts(layout: WorkspaceLayout, result: ArchivedResult) -> ArchivedResult:
    """Return a result with its long texts stored in the run, where other results share them."""
    texts, components = RunTexts(layout.runs / result.attempt.run), result.execution.components
    shared: dict[str, str] = {item.name: texts.put(item.text) for item in components if len(item.text) > _LONG_TEXT}
    if not shared:
        return result
    short = tuple(replace(item, text="") if item.name in shared else item for item in components)
    return replace(result, execution=replace(result.execution, components=short), texts=shared)


def _with_own_texts(layout: WorkspaceLayout, result: ArchivedResult) -> ArchivedResult:
    """Return a result with the texts stored in its run; lost texts only shorten comparisons."""
    if not result.texts:
        return result
    texts = RunTexts(layout.runs / result.attempt.run)
    texts_by_name: dict[str, str] = {}
    for name, stored in result.texts.items():
        with suppress(OSError, ValueError):
            texts_by_name[name] = texts.get(Path(stored).name)
    components = tuple(
        replace(item, text=texts_by_name.get(item.name, item.text)) for item in result.execution.components
    )
    return replace(result, execution=replace(result.execution, components=components), texts={})


def attempt_folders(folder: Path, depth: int = 3) -> Iterator[Path]:
    """Yield the folders of all attempts, which lie in RUN/STEP/ATTEMPT."""
    if depth == 0:
        yield folder
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        yield from attempt_folders(folder / name, depth - 1)
