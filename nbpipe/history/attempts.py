"""The attempts: begun, ended, and the one transaction that makes a success visible."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nbpipe.history import claims, steps
from nbpipe.history.claims import Claim
from nbpipe.history.database import Part
from nbpipe.history.records import TERMINAL, AttemptRow, artifacts_to_json, attempt_from, failure_to_json
from nbpipe.history.results import Offer, offer
from nbpipe.history.schema import attempts, runs
from nbpipe.model import Outcome, Status, StepRecord


class Attempts(Part):
    """Each try to execute a step."""

    def begin_attempt(
        self,
        *,
        attempt: str,
        run: str,
        step: str,
        number: int,
        key: str | None,
        token: int,
        directory: str,
        now: float,
    ) -> None:
        """Record that the attempt starts now."""
        row = {
            "id": attempt,
            "run": run,
            "step": step,
            "number": number,
            "key": key,
            "token": token,
            "directory": directory,
            "status": Status.RUNNING.value,
            "started": now,
            "seconds": 0.0,
            "notebook": "",
            "artifacts": "[]",
        }
        with self._database.writing() as connection:
            connection.execute(insert(attempts).values(row))

    def end_attempt(self, outcome: Outcome, now: float) -> None:
        """Record that the attempt came to nothing; one that has ended already stays as it is."""
        if not outcome.status.terminal or outcome.status is Status.SUCCEEDED:
            raise ValueError(f"an attempt cannot end as {outcome.status} without a commit")
        with self._database.writing() as connection:
            _end(connection, outcome, now)

    def commit(
        self,
        outcome: Outcome,
        record: StepRecord,
        *,
        offers: Sequence[Offer],
        claim: Claim | None,
        now: float,
    ) -> bool:
        """Make the success visible, all of it together; False, and nothing changed, when it came too late.

        It is too late when the claim was taken over, when the attempt, the step or the run has ended otherwise, or when
        another attempt of the step has succeeded. Empty ``offers`` mean: it serves its own run only.
        """
        if outcome.status is not Status.SUCCEEDED:
            raise ValueError(f"an attempt that is {outcome.status} cannot be committed")
        with self._database.writing() as connection:
            if not _in_time(connection, outcome.attempt, record, claim):
                return False
            _end(connection, outcome, now)
            steps.write(connection, [record])
            offer(connection, outcome.attempt, offers, now=now)
            if claim is not None:
                claims.free(connection, claim)
            return True

    def attempts(self, run: str, step: str) -> list[AttemptRow]:
        """Get the attempts at this step of the run, first to last."""
        wanted = select(attempts).where(attempts.c.run == run, attempts.c.step == step).order_by(attempts.c.number)
        with self._database.reading() as connection:
            return [attempt_from(row) for row in connection.execute(wanted)]

    def newest_attempt(self, key: str, among: Collection[str], notebook: str) -> AttemptRow | None:
        """Get the newest attempt at this key among some runs, those of the notebook."""
        ours = select(runs.c.id).where(runs.c.id.in_(among), runs.c.notebook == notebook)
        wanted = select(attempts).where(attempts.c.run.in_(ours), attempts.c.key == key)
        with self._database.reading() as connection:
            row = connection.execute(wanted.order_by(attempts.c.started.desc()).limit(1)).first()
            return None if row is None else attempt_from(row)


def _in_time(connection: Connection, attempt: str, record: StepRecord, claim: Claim | None) -> bool:
    if claim is not None and not claims.is_current(connection, claim):
        return False
    # A run that somebody has closed takes no more results: what has ended stays as it ended.
    going_on = connection.scalar(select(runs.c.status).where(runs.c.id == record.run).with_for_update())
    if going_on is not None and Status(going_on).terminal:
        return False
    status = connection.scalar(select(attempts.c.status).where(attempts.c.id == attempt).with_for_update())
    if status is None or Status(status).terminal:
        return False
    return not _succeeded(connection, record) and steps.may_become(
        steps.status_of(connection, record.run, record.step), record.status
    )


def _succeeded(connection: Connection, record: StepRecord) -> bool:
    of_step: Any = (attempts.c.run == record.run) & (attempts.c.step == record.step)
    won = select(attempts.c.id).where(of_step, attempts.c.status == Status.SUCCEEDED.value)
    return connection.scalar(won) is not None


def _end(connection: Connection, outcome: Outcome, now: float) -> None:
    going_on = (attempts.c.id == outcome.attempt) & attempts.c.status.not_in(TERMINAL)
    ended = {
        "status": outcome.status.value,
        "ended": now,
        "seconds": outcome.seconds,
        "notebook": outcome.notebook,
        "failure": failure_to_json(outcome.failure),
        "artifacts": artifacts_to_json(outcome.artifacts),
    }
    connection.execute(update(attempts).where(going_on).values(ended))
