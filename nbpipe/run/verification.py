"""Verification of a workspace: every stored output, every archived result, the database itself."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.data.artifacts import check
from nbpipe.data.digests import DigestCache
from nbpipe.data.event_file import fill_gaps, lost_pieces
from nbpipe.data.materializer import Materializer
from nbpipe.errors import HistoryDamaged, StoreOutOfReach
from nbpipe.history.rebuild_archive import ArchivedResult, ArchiveRepository
from nbpipe.history.store import History
from nbpipe.model import Artifact
from nbpipe.model.datasets import DatasetVersion
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import archived_results, archived_runs, run_files
from nbpipe.run.dataset_archive import archived_datasets, keep_version, restore_datasets
from nbpipe.run.workspace_repair import damaged_notebooks, rewrite_result, rewrite_run, set_aside


@dataclass(frozen=True, slots=True)
class VerificationProblem:
    """A difference from the record: ``where`` is run, step and output, or a file; ``said`` describes it."""

    where: str
    said: str


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The result of a verification.

    ``outputs`` and ``bytes`` count the stored outputs and their bytes, without displays. ``unknown`` are results on
    disk that are not in the history. With ``repaired``, these were restored, and damaged results are no longer offered.
    ``unreachable`` counts the problems with outputs in an unknown datastore: these are left unchanged.
    """

    outputs: int
    bytes: int
    problems: tuple[VerificationProblem, ...]
    unknown: int
    unreachable: int
    repaired: bool

    @property
    def is_intact(self) -> bool:
        """Return whether there are no problems, or all were repaired."""
        return not self.unreachable and (self.repaired or (not self.problems and not self.unknown))


def _check_outputs(
    history: History,
    materializer: Materializer,
    digests: DigestCache,
    problems: list[VerificationProblem],
    quarantined_at: float | None,
) -> tuple[dict[Artifact, str | None], int]:
    """Return the problem of each recorded artifact, or None, and the number of uses that are out of reach.

    Each use of a damaged artifact is added to ``problems``; with a time ``quarantined_at``, its results are withdrawn.
    """
    problem_of: dict[Artifact, str | None] = {}
    out_of_reach: set[Artifact] = set()
    unreachable = 0
    for attempt, where, artifact in history.results.stored():
        if artifact not in problem_of:
            try:
                problem_of[artifact] = check(materializer, artifact, digests)
            except StoreOutOfReach as error:
                problem_of[artifact] = error.message
                out_of_reach.add(artifact)
        problem = problem_of[artifact]
        if problem is not None:
            problems.append(VerificationProblem(where, problem))
            unreachable += artifact in out_of_reach
            if quarantined_at is not None and artifact not in out_of_reach:
                history.results.quarantine(attempt, problem, quarantined_at)
    return problem_of, unreachable


def _check_notebooks(history: History, layout: WorkspaceLayout, *, repair: bool) -> list[VerificationProblem]:
    """Return the executed notebooks that were changed or cannot be read; with ``repair`` they are set aside."""
    problems = []
    for path, message in damaged_notebooks(layout, history.attempts.executed_notebooks()):
        problems.append(VerificationProblem(str(path), message))
        if repair:
            set_aside(path)
    return problems


def _check_printed(history: History, layout: WorkspaceLayout, *, repair: bool) -> list[VerificationProblem]:
    """Return the attempts of whose output pieces are lost; with ``repair``, notes take their places."""
    problems = []
    for directory, count in history.attempts.printed():
        folder = layout.path(directory)
        lost = lost_pieces(folder, count) if folder.is_dir() else 0
        if lost:
            message = f"lacks {lost} of the {count} pieces of what the step printed and displayed"
            problems.append(VerificationProblem(str(folder), message))
            if repair:
                fill_gaps(folder, count)
    return problems


def verify_records(
    history: History,
    materializer: Materializer,
    layout: WorkspaceLayout,
    digests: DigestCache,
    *,
    full: bool,
    repair: bool,
    now: float,
) -> VerificationReport:
    """Check every recorded output, executed notebook and archived file; with ``repair``, repair the problems.

    Archived results that are not in the history are counted, or restored. With ``full`` or ``repair``, what attempts
    printed is read.
    """
    problems: list[VerificationProblem] = []
    _check_run_files(history, layout, problems, repair=repair)
    problems += _check_notebooks(history, layout, repair=repair)
    problems += _check_printed(history, layout, repair=repair) if full or repair else []
    unknown = _check_results(history, layout, problems, repair=repair)
    checked, unreachable = _check_outputs(history, materializer, digests, problems, now if repair else None)
    outputs = [artifact for artifact in checked if not artifact.is_display]
    size = sum(artifact.bytes for artifact in outputs)
    unknown += _check_datasets(history, layout, problems, repair=repair)
    problems += _damaged_versions(history, materializer, digests)
    return VerificationReport(len(outputs), size, tuple(problems), unknown, unreachable, repair)


def _check_datasets(
    history: History, layout: WorkspaceLayout, problems: list[VerificationProblem], *, repair: bool
) -> int:
    """Compare the kept records of datasets with the history, and return how many versions it does not have."""
    numbers, missing = {(version.name, version.number) for version in _versions(history)}, 0
    for path, record in archived_datasets(layout):
        if isinstance(record, str):
            problems.append(VerificationProblem(str(path), record))
            if repair:
                set_aside(path)
        elif isinstance(record, DatasetVersion):
            missing += (record.name, record.number) not in numbers
    if not repair:
        return missing
    restored = restore_datasets(layout, history)
    for version in history.datasets.versions():
        keep_version(layout, version)
    return restored


def _versions(history: History) -> list[DatasetVersion]:
    """Return the versions of all datasets; none if a row of them is damaged, which the inspection of the rows tells."""
    try:
        return history.datasets.versions()
    except HistoryDamaged:
        return []


def _damaged_versions(history: History, materializer: Materializer, digests: DigestCache) -> list[VerificationProblem]:
    """Return what is wrong with the stored data, or the stored list of files, of each version."""
    problems = []
    versions = _versions(history)
    materializer.look_up(version.stored for version in versions)
    for version in versions:
        try:
            problem = check(materializer, version.stored, digests)
        except StoreOutOfReach as error:
            problem = error.message
        if problem is not None:
            problems.append(VerificationProblem(f"dataset {version}", problem))
    return problems


def _check_run_files(
    history: History, layout: WorkspaceLayout, problems: list[VerificationProblem], *, repair: bool
) -> None:
    for path, record in run_files(layout):
        if isinstance(record, str):
            problems.append(VerificationProblem(str(path), record))
            if repair:
                rewrite_run(layout, history, path)


def _check_results(
    history: History, layout: WorkspaceLayout, problems: list[VerificationProblem], *, repair: bool
) -> int:
    """Compare the archived results with the history, and return how many it does not have."""
    archive = ArchiveRepository(history.database)
    known_attempts = archive.known_attempts()
    results: list[ArchivedResult] = []
    for path, result in archived_results(layout):
        if isinstance(result, ArchivedResult):
            results.append(result)
            continue
        problems.append(VerificationProblem(str(path), result))
        if repair:
            rewrite_result(layout, history, path)
    misoffered = archive.misoffered(result for result in results if result.attempt.id in known_attempts)
    for result in misoffered:
        where = f"attempt {result.attempt.id} of step {result.execution.step}"
        problems.append(VerificationProblem(where, "is not offered for reuse as it was committed"))
    if repair and misoffered:
        archive.offer_again(misoffered)
    unknown = [result for result in results if result.attempt.id not in known_attempts]
    return archive.restore(unknown, archived_runs(layout)) if repair and unknown else len(unknown)
