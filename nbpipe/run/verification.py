"""Whether all that history promises is there: every stored output, every kept result, the database itself."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.data.artifacts import check
from nbpipe.data.digests import DigestCache
from nbpipe.data.materializer import Materializer
from nbpipe.errors import StoreOutOfReach
from nbpipe.history.rebuild_archive import ArchivedResult
from nbpipe.history.store import History
from nbpipe.model import Artifact
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import archived_results, archived_runs, run_files
from nbpipe.run.workspace_repair import mend_result, mend_run, set_aside, unreadable


@dataclass(frozen=True, slots=True)
class VerificationProblem:
    """Something that is not as it was recorded: ``where`` is run, step and output, or a file."""

    where: str
    said: str


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What was looked at, what is wrong, and what was done about it.

    ``outputs`` counts stored outputs, ``bytes`` what they hold. ``unknown`` are results on disk that the history does
    not know; with ``repaired`` they were taken in, and what is wrong is offered no more. ``unreachable`` counts the
    problems that are outputs nobody can look at, as their datastore is not known here: these stay as they are.
    """

    outputs: int
    bytes: int
    problems: tuple[VerificationProblem, ...]
    unknown: int
    unreachable: int
    repaired: bool

    @property
    def whole(self) -> bool:
        """Say whether nothing is wrong, or nothing any more."""
        return not self.unreachable and (self.repaired or (not self.problems and not self.unknown))


def _check_outputs(
    history: History,
    materializer: Materializer,
    digests: DigestCache,
    problems: list[VerificationProblem],
    quarantined_at: float | None,
) -> tuple[dict[Artifact, str | None], int]:
    """Return what is wrong with each recorded artifact, None where nothing is, and how many uses are out of reach.

    Each use of a wrong one is added to ``problems``; a time ``quarantined_at`` withdraws the results that use it.
    """
    seen: dict[Artifact, str | None] = {}
    out_of_reach: set[Artifact] = set()
    unreachable = 0
    for attempt, where, artifact in history.results.stored():
        if artifact not in seen:
            try:
                seen[artifact] = check(materializer, artifact, digests)
            except StoreOutOfReach as error:
                seen[artifact] = error.message
                out_of_reach.add(artifact)
        problem = seen[artifact]
        if problem is not None:
            problems.append(VerificationProblem(where, problem))
            unreachable += artifact in out_of_reach
            if quarantined_at is not None and artifact not in out_of_reach:
                history.results.quarantine(attempt, problem, quarantined_at)
    return seen, unreachable


def verify_workspace(
    history: History,
    materializer: Materializer,
    place: WorkspaceLayout,
    digests: DigestCache,
    *,
    repair: bool,
    now: float,
) -> VerificationReport:
    """Return whether everything recorded is whole, and how many results the history lacks; ``repair`` mends it."""
    problems: list[VerificationProblem] = []
    _check_run_files(history, place, problems, repair=repair)
    for path, said in unreadable(place):
        problems.append(VerificationProblem(str(path), said))
        if repair:
            set_aside(path)
    unknown = _check_results(history, place, problems, repair=repair)
    checked, unreachable = _check_outputs(history, materializer, digests, problems, now if repair else None)
    size = sum(artifact.bytes for artifact in checked)
    return VerificationReport(len(checked), size, tuple(problems), unknown, unreachable, repair)


def _check_run_files(
    history: History, place: WorkspaceLayout, problems: list[VerificationProblem], *, repair: bool
) -> None:
    for path, record in run_files(place):
        if isinstance(record, str):
            problems.append(VerificationProblem(str(path), record))
            if repair:
                mend_run(place, history, path)


def _check_results(
    history: History, place: WorkspaceLayout, problems: list[VerificationProblem], *, repair: bool
) -> int:
    """Compare the kept results with the history, and return how many it does not know."""
    known = history.archive.known_attempts()
    kept: list[ArchivedResult] = []
    for path, found in archived_results(place):
        if isinstance(found, ArchivedResult):
            kept.append(found)
            continue
        problems.append(VerificationProblem(str(path), found))
        if repair:
            mend_result(place, history, path)
    misoffered = history.archive.misoffered(result for result in kept if result.attempt.id in known)
    for result in misoffered:
        where = f"attempt {result.attempt.id} of step {result.execution.step}"
        problems.append(VerificationProblem(where, "is not offered for reuse as it was committed"))
    if repair and misoffered:
        history.archive.offer_again(misoffered)
    unknown = [result for result in kept if result.attempt.id not in known]
    return history.archive.restore(unknown, archived_runs(place)) if repair and unknown else len(unknown)
