"""Records of results kept as files beside their data: a lost database can be rebuilt from them.

A run is written once, in the run's folder; each committed attempt has its own record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sqlalchemy import Connection, delete, select, true

from nbpipe.codec import ALWAYS, decode, encode_sparse
from nbpipe.history import attempts, event_log, executions, pipelines
from nbpipe.history.database import Repository
from nbpipe.history.results import ReuseEntry, add_reuse_entries
from nbpipe.history.row_mapping import attempt_from
from nbpipe.history.runs import insert_run
from nbpipe.history.schema import attempts as attempt_rows
from nbpipe.history.schema import entries as entry_rows
from nbpipe.history.schema import executions as execution_rows
from nbpipe.history.schema import runs as run_rows
from nbpipe.history.sequences import is_plausible, raise_to
from nbpipe.history.text_pool import load_observed
from nbpipe.model import AttemptRecord, ExecutionRecord, PipelineRecord, RunChanged, RunRecord, Status


@dataclass(frozen=True, slots=True)
class ArchivedRun:
    """A run and its pipeline, as they were when the run began or ended."""

    run: RunRecord
    pipeline: PipelineRecord
    version: Literal[1] = field(default=1, metadata=ALWAYS)


@dataclass(frozen=True, slots=True)
class ArchivedResult:
    """One committed attempt with everything that the history records about it, except its run.

    ``texts`` maps components to the names of texts that the run stores for all of its results.
    """

    execution: ExecutionRecord
    attempt: AttemptRecord
    offers: tuple[ReuseEntry, ...]
    committed: float
    texts: Mapping[str, str] = field(default_factory=dict)
    version: Literal[1] = field(default=1, metadata=ALWAYS)


def archive_text(archived: ArchivedRun | ArchivedResult) -> str:
    """Return an archive record as JSON text; an attempt's artifacts are written once, with its execution."""
    if isinstance(archived, ArchivedResult) and archived.attempt.artifacts == archived.execution.artifacts:
        archived = replace(archived, attempt=replace(archived.attempt, artifacts=()))
    return encode_sparse(archived)


def read_archived_run(text: str) -> ArchivedRun:
    """Return the archived run; raise ValueError if the text is invalid."""
    archived = decode(text, ArchivedRun)
    _require_plausible(archived.run.number)
    return archived


def read_archived_result(text: str) -> ArchivedResult:
    """Return the archived result; raise ValueError if the text is invalid."""
    result = decode(text, ArchivedResult)
    _require_plausible(result.attempt.token)
    artifacts = result.attempt.artifacts or result.execution.artifacts
    return replace(result, attempt=replace(result.attempt, artifacts=artifacts))


def _require_plausible(number: int) -> None:
    if not is_plausible(number):
        raise ValueError(f"no workspace counts up to {number}")


class ArchiveRepository(Repository):
    """Restores archived results into the database."""

    def known_attempts(self) -> set[str]:
        """Return the ids of all recorded attempts."""
        with self._database.reading() as connection:
            return set(connection.scalars(select(attempt_rows.c.id)))

    def misoffered(self, results: Iterable[ArchivedResult]) -> list[ArchivedResult]:
        """Return the results that are not offered as they were committed, except those in quarantine."""
        with self._database.reading() as connection:
            entries = connection.execute(select(entry_rows).where(entry_rows.c.accepted.is_(None))).all()
            observed = load_observed(connection, [row.observed for row in entries])
            quarantined = select(attempt_rows.c.id).where(attempt_rows.c.quarantined.is_not(None))
            withdrawn = set(connection.scalars(quarantined))
        offered: dict[str, set[ReuseEntry]] = {}
        for row in entries:
            offers = offered.setdefault(row.attempt, set())
            if row.offered:
                offers.add(ReuseEntry(row.key, row.static_key, observed[row.observed]))
        return [
            result for result in results
            if result.attempt.id not in withdrawn and offered.get(result.attempt.id, set()) != set(result.offers)
        ]  # fmt: skip

    def offer_again(self, results: Iterable[ArchivedResult]) -> None:
        """Offer results as they were committed, and in no other way."""
        with self._database.writing() as connection:
            for result in results:
                theirs = (entry_rows.c.attempt == result.attempt.id) & entry_rows.c.accepted.is_(None)
                connection.execute(delete(entry_rows).where(theirs))
                add_reuse_entries(connection, result.attempt.id, result.offers, now=result.committed)

    def committed(self, attempt: str) -> ArchivedResult | None:
        """Return what is recorded of a committed attempt; None if there is no such attempt."""
        with self._database.reading() as connection:
            row = connection.execute(select(attempt_rows).where(attempt_rows.c.id == attempt)).first()
            if row is None or row.status != Status.SUCCEEDED.value:
                return None
            of_attempt = select(execution_rows).where(execution_rows.c.id == row.execution)
            (execution,) = executions.read(connection, of_attempt)
            theirs = (entry_rows.c.attempt == attempt) & entry_rows.c.accepted.is_(None)
            entries = connection.execute(select(entry_rows).where(theirs, entry_rows.c.offered.is_(true()))).all()
            observed = load_observed(connection, [entry.observed for entry in entries])
        offers = tuple(ReuseEntry(entry.key, entry.static_key, observed[entry.observed]) for entry in entries)
        record = attempt_from(row)
        return ArchivedResult(execution, record, offers, record.ended or 0.0)

    def restore(self, results: Iterable[ArchivedResult], runs: Mapping[str, ArchivedRun]) -> int:
        """Record the missing attempts in one transaction, oldest first, and return how many there were.

        ``runs`` are the archived runs by id; a result whose run is not among them is added to a placeholder run.
        """
        count = 0
        with self._database.writing() as connection:
            known = set(connection.scalars(select(attempt_rows.c.id)))
            for result in sorted(results, key=lambda result: result.committed):
                if result.attempt.id not in known and _restore(connection, result, runs.get(result.attempt.run)):
                    known.add(result.attempt.id)
                    count += 1
        return count


def _restore(connection: Connection, result: ArchivedResult, archived: ArchivedRun | None) -> bool:
    execution, attempt, when = result.execution, result.attempt, result.committed
    if connection.scalar(select(run_rows.c.id).where(run_rows.c.id == attempt.run)) is None:
        _restore_run(connection, archived or lost_run(attempt.run), when)
    elif not executions.may_become(connection, execution.id, execution.status):
        return False
    # What it needed was restored before, or is lost; the log has what exists.
    executions.write(connection, [_beside_others(connection, execution, when)], when)
    attempts.write(connection, attempt.run, [attempt], when)
    add_reuse_entries(connection, attempt.id, result.offers, now=when)
    raise_to(connection, "token", attempt.token)
    return True


def _beside_others(connection: Connection, execution: ExecutionRecord, when: float) -> ExecutionRecord:
    """Return the execution, current only if it is the newest of its step in the run.

    Its archived record is from before it was replaced.
    """
    of_step = (execution_rows.c.run == execution.run) & (execution_rows.c.step == execution.step)
    others = select(execution_rows).where(of_step, execution_rows.c.id != execution.id)
    rivals = executions.read(connection, others.where(execution_rows.c.current.is_(true())))
    if any((rival.ended or math.inf) > (execution.ended or 0.0) for rival in rivals):
        return replace(execution, current=False)
    executions.supersede(connection, [rival.id for rival in rivals], when)
    return execution


def _restore_run(connection: Connection, archived: ArchivedRun, when: float) -> None:
    run = archived.run
    if not run.status.terminal:
        run = replace(run, status=Status.LOST, ended=when)
    newer = select(run_rows.c.id).where(run_rows.c.pipeline == run.pipeline, run_rows.c.started > run.started)
    if connection.scalar(newer.limit(1)) is None:
        pipelines.keep(connection, archived.pipeline)
    insert_run(connection, replace(run, number=free_number(connection, run.number)))
    event_log.append(connection, run.id, [RunChanged(run.status, run.ended)], run.ended or when)


def lost_run(run: str) -> ArchivedRun:
    """Return a placeholder for a run of which only results are known."""
    pipeline = PipelineRecord(f"unknown-{run}", "")
    return ArchivedRun(
        RunRecord(run, 0, pipeline.id, "", "", Status.LOST, 0.0, None, {}, {}, None, ""), pipeline
    )  # fmt: skip


def free_number(connection: Connection, number: int) -> int:
    """Return the run's own number, or the next one if it has none or that is taken."""
    holder = connection.scalar(select(run_rows.c.id).where(run_rows.c.number == number))
    if holder is not None or number < 1:
        number = (connection.scalar(select(run_rows.c.number).order_by(run_rows.c.number.desc()).limit(1)) or 0) + 1
    raise_to(connection, "run", number)
    return number
