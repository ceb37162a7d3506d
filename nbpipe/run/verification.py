"""Whether all that history promises is there: every stored output, every kept result, the database itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbpipe.data.artifacts import check
from nbpipe.data.digests import DigestCache
from nbpipe.data.materializer import Materializer
from nbpipe.errors import HistoryOutOfReach, StoreOutOfReach
from nbpipe.history.rebuild_archive import ArchivedResult
from nbpipe.history.store import History
from nbpipe.model import Artifact
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import archived_results, archived_runs


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
    full: bool = False,
) -> VerificationReport:
    """Return whether every recorded output is whole, and which kept results history does not know.

    With ``full`` the kept results that history knows are read as well; with ``repair`` what can be mended is.
    """
    problems: list[VerificationProblem] = []
    checked, unreachable = _check_outputs(history, materializer, digests, problems, now if repair else None)
    known = history.archive.known_attempts()
    kept: list[ArchivedResult] = []
    for path, found in archived_results(place, () if full else known):
        if isinstance(found, str):
            problems.append(VerificationProblem(str(path), found))
        elif found.attempt.id not in known:
            kept.append(found)
    unknown = history.archive.restore(kept, archived_runs(place)) if repair and kept else len(kept)
    size = sum(artifact.bytes for artifact in checked)
    return VerificationReport(len(checked), size, tuple(problems), unknown, unreachable, repair)


def set_aside(place: WorkspaceLayout) -> Path | None:
    """Move a damaged database out of the way, so that a new one can be made; None when there is none."""
    if not place.database.exists():
        return None
    number = 1
    while (aside := place.database.with_name(f"{place.database.name}.damaged-{number}")).exists():
        number += 1
    try:
        place.database.rename(aside)
        for beside in ("-wal", "-shm", "-journal"):
            Path(f"{place.database}{beside}").unlink(missing_ok=True)
    except OSError as error:
        raise HistoryOutOfReach(f"the damaged history {place.database} cannot be moved: {error.strerror}") from error
    return aside
