"""What dead processes left behind, brought to an end."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, delete, select, update

from nbpipe.history.database import Part
from nbpipe.history.records import TERMINAL, failure_to_json
from nbpipe.history.schema import attempts, claims, runs, steps
from nbpipe.model import Failure, Status

_FAILURE = Failure("lost", "", "", "the process that carried the run ended without a word")


class Recovery(Part):
    """Runs whose process is gone."""

    def abandoned(self, *, alive: Callable[[str], bool]) -> list[tuple[str, str, int]]:
        """Get the attempts that were going on in runs whose owner is dead: directory, attempt and token."""
        going_on = attempts.c.status.not_in(TERMINAL) & runs.c.status.not_in(TERMINAL)
        wanted = select(attempts.c.directory, attempts.c.id, attempts.c.token, runs.c.owner)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.join(runs, runs.c.id == attempts.c.run).where(going_on)).all()
        dead = {owner for owner in {row.owner for row in rows} if not alive(owner)}
        return [(row.directory, row.id, row.token) for row in rows if row.owner in dead]

    def mark_lost(self, *, alive: Callable[[str], bool], now: float) -> list[str]:
        """Get the runs that were going on and whose owner is dead, now lost with all that had not ended in them."""
        going_on = runs.c.status.not_in(TERMINAL)
        with self._database.reading() as connection:
            rows = connection.execute(select(runs.c.id, runs.c.owner).where(going_on).order_by(runs.c.number)).all()
        dead = {owner for owner in {row.owner for row in rows} if not alive(owner)}
        suspects = [row for row in rows if row.owner in dead]
        if not suspects:
            return []
        with self._database.writing() as connection:
            lost = [row.id for row in suspects if _lose(connection, row.id, now)]
            for owner in dead:
                connection.execute(delete(claims).where(claims.c.owner == owner))
            return lost


def _lose(connection: Connection, run: str, now: float) -> bool:
    lost = {"status": Status.LOST.value, "ended": now}
    # Another process may have come first.
    ended = update(runs).where(runs.c.id == run, runs.c.status.not_in(TERMINAL)).values(lost)
    if connection.execute(ended).rowcount != 1:
        return False
    connection.execute(update(steps).where(steps.c.run == run, steps.c.status.not_in(TERMINAL)).values(lost))
    of_run = update(attempts).where(attempts.c.run == run, attempts.c.status.not_in(TERMINAL))
    connection.execute(of_run.values(lost | {"failure": failure_to_json(_FAILURE)}))
    return True
