"""Attempts: what a run's driver records about them, and the one transaction that commits a success."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from sqlalchemy import Connection, bindparam, func, insert, select, update

from nbpipe.history import claims, datasets, event_log, executions
from nbpipe.history.claims import Claim
from nbpipe.history.database import Repository
from nbpipe.history.results import ReuseEntry, add_reuse_entries
from nbpipe.history.row_mapping import attempt_from, attempt_to_row
from nbpipe.history.schema import attempts, runs
from nbpipe.model import (
    AttemptChanged,
    AttemptRecord,
    ExecutionRecord,
    MetricsLogged,
    OutputWritten,
    RunFact,
    RunGrown,
    Status,
)
from nbpipe.model.datasets import DatasetDraft

LogEntry = RunGrown | MetricsLogged | OutputWritten

_NO_REGISTRATIONS: Mapping[str, DatasetDraft] = {}
# Statements are built when first used, and once: building one takes longer than executing it.
_STATUS = cache(lambda: select(attempts.c.status).where(attempts.c.id == bindparam("attempt")).with_for_update())
_NEW = cache(lambda: insert(attempts))
_CHANGE = cache(lambda: update(attempts).where(attempts.c.id == bindparam("_id")))
_RUN_STATUS = cache(lambda: select(runs.c.status).where(runs.c.id == bindparam("run")).with_for_update())
_SUCCESS = cache(
    lambda: select(attempts.c.id).where(
        attempts.c.execution == bindparam("execution"), attempts.c.status == Status.SUCCEEDED.value
    )
)


@dataclass(frozen=True, slots=True)
class RunChanges:
    """What has changed in a run since it was last recorded: written and logged in one transaction.

    ``superseded`` are the ids of executions that newer ones of their steps have replaced.
    """

    executions: Sequence[ExecutionRecord] = ()
    superseded: Sequence[str] = ()
    attempts: Sequence[AttemptRecord] = ()
    entries: Sequence[LogEntry] = ()

    def __bool__(self) -> bool:
        return bool(self.executions or self.superseded or self.attempts or self.entries)


class AttemptRepository(Repository):
    """The attempts of all executions."""

    def record(self, run: str, changes: RunChanges, now: float) -> None:
        """Write what has changed in a run, except successes; what has ended already stays unchanged."""
        if any(attempt.status is Status.SUCCEEDED for attempt in changes.attempts):
            raise ValueError("an attempt cannot be recorded as succeeded: that takes a commit")
        with self._database.writing() as connection:
            executions.write(connection, changes.executions, now)
            executions.supersede(connection, changes.superseded, now)
            write(connection, run, changes.attempts, now)
            event_log.append(connection, run, changes.entries, now)

    def commit(
        self,
        attempt: AttemptRecord,
        execution: ExecutionRecord,
        *,
        offers: Sequence[ReuseEntry],
        claim: Claim | None,
        now: float,
        registrations: Mapping[str, DatasetDraft] = _NO_REGISTRATIONS,
    ) -> bool:
        """Commit a success atomically; return False, and change nothing, if it came too late.

        It is too late if the claim was taken over, if the attempt, the execution or the run has ended otherwise,
        or if another attempt of the execution has succeeded. With empty ``offers`` the result is not reusable.
        ``registrations`` are versions to be made of its outputs, by output; the execution's outputs name them.
        """
        if attempt.status is not Status.SUCCEEDED:
            raise ValueError(f"an attempt that is {attempt.status} cannot be committed")
        with self._database.writing() as connection:
            if not _in_time(connection, attempt, execution, claim):
                return False
            write(connection, attempt.run, [attempt], now)
            if registrations:
                execution = in_datasets(execution, datasets.registered(connection, registrations))
            executions.write(connection, [execution], now)
            add_reuse_entries(connection, attempt.id, offers, now=now)
            if claim is not None:
                claims.free(connection, claim)
            return True

    def of_execution(self, execution: str) -> list[AttemptRecord]:
        """Return the attempts of an execution, first to last."""
        query = select(attempts).where(attempts.c.execution == execution).order_by(attempts.c.number)
        with self._database.reading() as connection:
            return [attempt_from(row) for row in connection.execute(query)]

    def of_run(self, run: str) -> list[AttemptRecord]:
        """Return the attempts of a run, those of an execution first to last."""
        query = select(attempts).where(attempts.c.run == run).order_by(attempts.c.execution, attempts.c.number)
        with self._database.reading() as connection:
            return [attempt_from(row) for row in connection.execute(query)]

    def executed_notebooks(self) -> list[tuple[str, str]]:
        """Return the path of each executed notebook, relative to the workspace, and the digest of its bytes."""
        query = select(attempts.c.directory, attempts.c.notebook, attempts.c.notebook_digest)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(attempts.c.notebook != "", attempts.c.notebook_digest != "")).all()
        return [(f"{row.directory}/{row.notebook}", row.notebook_digest) for row in rows]

    def printed(self) -> list[tuple[str, int]]:
        """Return the directory of each ended attempt that has told something, with the number of its pieces."""
        query = select(attempts.c.directory, attempts.c.pieces).where(
            attempts.c.pieces > 0, attempts.c.ended.is_not(None)
        )
        with self._database.reading() as connection:
            return [(row.directory, row.pieces) for row in connection.execute(query)]

    def get(self, attempt: str) -> AttemptRecord | None:
        """Return one attempt."""
        with self._database.reading() as connection:
            row = connection.execute(select(attempts).where(attempts.c.id == attempt)).first()
            return None if row is None else attempt_from(row)

    def newest_at(self, key: str, among: Collection[str], pipeline: str) -> AttemptRecord | None:
        """Return the newest attempt at this key among some runs, those of the pipeline."""
        ours = select(runs.c.id).where(runs.c.id.in_(among), runs.c.pipeline == pipeline)
        query = select(attempts).where(attempts.c.run.in_(ours), attempts.c.key == key)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(func.coalesce(attempts.c.started, 0.0).desc()).limit(1)).first()
            return None if row is None else attempt_from(row)


def in_datasets(execution: ExecutionRecord, named: Mapping[str, str]) -> ExecutionRecord:
    """Return an execution whose outputs name the versions that they were registered as, by output."""
    artifacts = (replace(each, dataset=named.get(each.name, each.dataset)) for each in execution.artifacts)
    return replace(execution, artifacts=tuple(artifacts))


def write(connection: Connection, run: str, records: Sequence[AttemptRecord], now: float) -> None:
    """Write attempts of a run inside the caller's transaction; one that has ended already stays unchanged."""
    changed: list[RunFact] = []
    for record in records:
        present = _status_of(connection, record.id)
        if present is not None and present.terminal:
            continue
        row = attempt_to_row(record)
        if present is None:
            connection.execute(_NEW(), row)
        else:
            connection.execute(_CHANGE(), row | {"_id": row.pop("id")})
        changed.append(AttemptChanged(record))
    event_log.append(connection, run, changed, now)


def _status_of(connection: Connection, attempt: str) -> Status | None:
    status = connection.scalar(_STATUS(), {"attempt": attempt})
    return None if status is None else Status(status)


def _in_time(connection: Connection, attempt: AttemptRecord, execution: ExecutionRecord, claim: Claim | None) -> bool:
    if claim is not None and not claims.is_current(connection, claim):
        return False
    # A run that was closed accepts no more results: what has ended stays unchanged.
    run_status = connection.scalar(_RUN_STATUS(), {"run": attempt.run})
    if run_status is not None and Status(run_status).terminal:
        return False
    present = _status_of(connection, attempt.id)
    if present is None or present.terminal:
        return False
    if connection.scalar(_SUCCESS(), {"execution": execution.id}) is not None:
        return False
    return executions.may_become(connection, execution.id, execution.status)
