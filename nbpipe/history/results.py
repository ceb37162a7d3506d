"""The results that may be reused: by key, by run, by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, true, update

from nbpipe.history.database import Part, chunks
from nbpipe.history.records import hit_from
from nbpipe.history.schema import attempts, entries, steps
from nbpipe.model import Hit, Status

_OFFERED = entries.c.offered.is_(true())


class Results(Part):
    """What need not be computed again."""

    def lookup(self, keys: Sequence[str]) -> dict[str, Hit]:
        """Get for each known key the newest result that is offered under it."""
        found: dict[str, Hit] = {}
        with self._database.reading() as connection:
            for chunk in chunks(keys):
                found.update(_newest(connection, entries.c.key.in_(chunk)))
        return found

    def hits_of_run(self, run: str) -> dict[str, Hit]:
        """Get what :meth:`lookup` would for every key of the results that the run's steps made or reused."""
        mine = select(steps.c.key).where(steps.c.run == run, steps.c.done.is_(true()), steps.c.key.is_not(None))
        theirs = select(entries.c.attempt).where(entries.c.key.in_(mine), _OFFERED)
        keys = select(entries.c.key).where(entries.c.attempt.in_(theirs), _OFFERED)
        with self._database.reading() as connection:
            return _newest(connection, entries.c.key.in_(keys))

    def static_known(self, static_keys: Sequence[str]) -> set[str]:
        """Get those static keys under which some result is offered."""
        found: set[str] = set()
        with self._database.reading() as connection:
            for chunk in chunks(static_keys):
                wanted = select(entries.c.static_key).where(entries.c.static_key.in_(chunk), _OFFERED).distinct()
                found.update(key for key in connection.scalars(wanted).all() if key is not None)
        return found

    def newest_result(self, notebook: str, step: str) -> Hit | None:
        """Get the result that this step had in the newest run of the notebook in which it succeeded or was reused."""
        made = (
            (attempts.c.run == func.coalesce(steps.c.origin_run, steps.c.run))
            & (attempts.c.step == func.coalesce(steps.c.origin_step, steps.c.step))
            & (attempts.c.status == Status.SUCCEEDED.value)
            & attempts.c.quarantined.is_(None)
        )
        mine = (steps.c.pipeline == notebook) & steps.c.done.is_(true()) & (steps.c.step == step)
        wanted = select(attempts).select_from(steps).join(attempts, made).where(mine)
        with self._database.reading() as connection:
            row = connection.execute(wanted.order_by(steps.c.number.desc()).limit(1)).first()
            return None if row is None else hit_from(row, row.key or "")

    def quarantine(self, attempt: str, why: str, now: float) -> None:
        """Never offer the attempt's result again; the record of it stays."""
        with self._database.writing() as connection:
            marked = update(attempts).where(attempts.c.id == attempt, attempts.c.quarantined.is_(None))
            connection.execute(marked.values(quarantined=now, why=why))
            connection.execute(update(entries).where(entries.c.attempt == attempt).values(offered=False))


def _newest(connection: Connection, wanted: ColumnElement[bool]) -> dict[str, Hit]:
    newest = select(func.max(entries.c.id)).where(wanted, _OFFERED).group_by(entries.c.key)
    columns: tuple[Any, ...] = (
        entries.c.key.label("under"),
        attempts.c.id,
        attempts.c.run,
        attempts.c.step,
        attempts.c.seconds,
        attempts.c.notebook,
        attempts.c.artifacts,
    )
    rows = connection.execute(select(*columns).join(attempts).where(entries.c.id.in_(newest))).all()
    return {row.under: hit_from(row, row.under) for row in rows}
