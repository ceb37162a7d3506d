"""Runs whose process died: they end as lost, or as their steps did if all of them had ended."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from sqlalchemy import Connection, delete, select, true

from nbpipe.history import attempts, executions, runs
from nbpipe.history.database import Repository
from nbpipe.history.row_mapping import GOING_ON, attempt_from
from nbpipe.history.schema import attempts as attempt_rows
from nbpipe.history.schema import claims
from nbpipe.history.schema import executions as execution_rows
from nbpipe.history.schema import runs as run_rows
from nbpipe.model import AttemptRecord, Failure, FailureKind, Status, run_outcome

_FAILURE = Failure(FailureKind.LOST, "", "", "the process that carried the run exited unexpectedly")


class LostRunRepository(Repository):
    """Runs whose process no longer exists."""

    def abandoned(self, *, alive: Callable[[str], bool]) -> list[AttemptRecord]:
        """Return the unfinished attempts of runs whose owner is dead."""
        going_on = attempt_rows.c.status.in_(GOING_ON) & run_rows.c.status.in_(GOING_ON)
        query = select(attempt_rows, run_rows.c.owner).join(run_rows, run_rows.c.id == attempt_rows.c.run)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(going_on)).all()
        dead = {owner for owner in {row.owner for row in rows} if not alive(owner)}
        return [attempt_from(row) for row in rows if row.owner in dead]

    def mark_lost(self, *, alive: Callable[[str], bool], now: float, interrupted: Collection[str] = ()) -> list[str]:
        """End unfinished runs whose owner is dead, and return their ids.

        What is unfinished in them is marked as lost, and so is the run. A run in which nothing was unfinished ends as
        its steps did: its process died while it waited for more. ``interrupted`` are runs in which something was.
        """
        going_on = run_rows.c.status.in_(GOING_ON)
        with self._database.reading() as connection:
            rows = connection.execute(
                select(run_rows.c.id, run_rows.c.owner).where(going_on).order_by(run_rows.c.number)
            ).all()
        dead = {owner for owner in {row.owner for row in rows} if not alive(owner)}
        suspects = [row for row in rows if row.owner in dead]
        if not suspects:
            return []
        with self._database.writing() as connection:
            lost = [row.id for row in suspects if _lose(connection, row.id, now, was_interrupted=row.id in interrupted)]
            for owner in dead:
                connection.execute(delete(claims).where(claims.c.owner == owner))
            return lost


def _lose(connection: Connection, run: str, now: float, *, was_interrupted: bool) -> bool:
    present = connection.scalar(select(run_rows.c.status).where(run_rows.c.id == run).with_for_update())
    # Another process may have been faster.
    if present is None or Status(present).terminal:
        return False
    going_on = attempt_rows.c.run == run, attempt_rows.c.status.in_(GOING_ON)
    unfinished = [attempt_from(row) for row in connection.execute(select(attempt_rows).where(*going_on))]
    lost = [replace(each, status=Status.LOST, ended=now, failure=_FAILURE) for each in unfinished]
    attempts.write(connection, run, lost, now)
    open_ = select(execution_rows).where(execution_rows.c.run == run, execution_rows.c.status.in_(GOING_ON))
    records = [
        replace(each, status=Status.LOST, ended=now, failure=_FAILURE) for each in executions.read(connection, open_)
    ]
    status = Status.LOST if was_interrupted or records or unfinished else _outcome(connection, run)
    executions.write(connection, records, now)
    # Followers of the log stop at the run's end, so everything that ends with it is logged before.
    return runs.end(connection, run, status, now)


def _outcome(connection: Connection, run: str) -> Status:
    """Return the outcome of a run whose executions have all ended; of one without any, that it is lost."""
    of_run = execution_rows.c.run == run, execution_rows.c.current.is_(true())
    statuses = connection.scalars(select(execution_rows.c.status).where(*of_run)).all()
    return run_outcome(map(Status, statuses)) if statuses else Status.LOST
