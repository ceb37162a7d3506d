"""Verification of a workspace: every stored output, every archived result, the database itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbpipe.data.artifacts import check
from nbpipe.data.digests import DigestCache, bytes_digest
from nbpipe.data.materializer import Materializer
from nbpipe.errors import HistoryOutOfReach, StoreOutOfReach
from nbpipe.history.rebuild_archive import ArchivedResult
from nbpipe.history.store import History
from nbpipe.model import Artifact
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import archived_results, archived_runs


@dataclass(frozen=True, slots=True)
class VerificationProblem:
    """A difference from the record: ``where`` is run, step and output, or a file; ``said`` describes it."""

    where: str
    said: str


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The result of a verification.

    ``outputs`` and ``bytes`` count the stored outputs and their bytes. ``unknown`` are results on disk that are not in
    the history. With ``repaired``, these were restored, and damaged results are no longer offered. ``unreachable``
    counts the problems with outputs in an unknown datastore: these are left unchanged.
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
    """Return the executed notebooks that were changed after their attempts; with ``repair`` they are set aside."""
    problems: list[VerificationProblem] = []
    for reference, digest in history.attempts.executed_notebooks():
        path = layout.path(reference)
        try:
            if not path.is_file() or bytes_digest(path.read_bytes()) == digest:
                continue
            if repair:
                path.rename(path.with_name(f"{path.name}.changed"))
        except OSError as error:
            problems.append(VerificationProblem(str(path), f"cannot be read: {error.strerror}"))
        else:
            problems.append(VerificationProblem(str(path), "the executed notebook was changed after its run"))
    return problems


def verify_workspace(
    history: History,
    materializer: Materializer,
    layout: WorkspaceLayout,
    digests: DigestCache,
    *,
    repair: bool,
    now: float,
    full: bool = False,
) -> VerificationReport:
    """Check every recorded output, and find archived results that are not in the history.

    With ``full``, archived results that are in the history are read as well; with ``repair``, problems are repaired.
    """
    problems: list[VerificationProblem] = []
    checked, unreachable = _check_outputs(history, materializer, digests, problems, now if repair else None)
    problems += _check_notebooks(history, layout, repair=repair)
    known_attempts = history.archive.known_attempts()
    unknown_results: list[ArchivedResult] = []
    for path, result in archived_results(layout, () if full else known_attempts):
        if isinstance(result, str):
            problems.append(VerificationProblem(str(path), result))
        elif result.attempt.id not in known_attempts:
            unknown_results.append(result)
    unknown = (
        history.archive.restore(unknown_results, archived_runs(layout))
        if repair and unknown_results
        else len(unknown_results)
    )
    size = sum(artifact.bytes for artifact in checked)
    return VerificationReport(len(checked), size, tuple(problems), unknown, unreachable, repair)


def set_aside(layout: WorkspaceLayout) -> Path | None:
    """Move a damaged database aside, so that a new one can be created; return None if there is none."""
    if not layout.database.exists():
        return None
    number = 1
    while (aside := layout.database.with_name(f"{layout.database.name}.damaged-{number}")).exists():
        number += 1
    try:
        layout.database.rename(aside)
        for beside in ("-wal", "-shm", "-journal"):
            Path(f"{layout.database}{beside}").unlink(missing_ok=True)
    except OSError as error:
        raise HistoryOutOfReach(f"the damaged history {layout.database} cannot be moved: {error.strerror}") from error
    return aside
