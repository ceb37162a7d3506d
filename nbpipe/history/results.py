"""The results that may be reused: by key, by run, by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, true, update

from nbpipe.history import texts
from nbpipe.history.database import Part, chunks
from nbpipe.history.records import artifact_from, hit_from
from nbpipe.history.schema import attempts, entries, outputs, runs, steps
from nbpipe.model import Artifact, Hit, Observed, Status

_OFFERED = entries.c.offered.is_(true())


@dataclass(frozen=True, slots=True)
class Offer:
    """A key under which a result may be reused, while everything observed is so."""

    key: str
    static_key: str | None
    observed: tuple[Observed, ...] = ()


class Results(Part):
    """What need not be computed again."""

    def lookup(self, keys: Sequence[str]) -> dict[str, Hit]:
        """Get for each known key the newest result that is offered under it."""
        found: dict[str, Hit] = {}
        with self._database.reading() as connection:
            for chunk in chunks(keys):
                found.update(_newest(connection, entries.c.key.in_(chunk)))
        return found

    def candidates(self, key: str) -> list[Hit]:
        """Get all results that are offered under a key, newest first: what they have observed tells them apart."""
        with self._database.reading() as connection:
            return _hits(connection, (entries.c.key == key) & _OFFERED)

    def accept(self, attempt: str, offers: Sequence[Offer], accepted: str, now: float) -> None:
        """Offer an earlier attempt's result under other keys too; ``accepted`` says who wanted it, and why."""
        with self._database.writing() as connection:
            offer(connection, attempt, offers, now=now, accepted=accepted)

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
        mine = (steps.c.pipeline == notebook) & steps.c.done.is_(true()) & (steps.c.step == step)
        wanted = select(attempts).select_from(steps).join(attempts, _made()).where(mine)
        with self._database.reading() as connection:
            row = connection.execute(wanted.order_by(steps.c.number.desc()).limit(1)).first()
            return None if row is None else hit_from(row, row.key or "")

    def stored(self) -> list[tuple[str, str, Artifact]]:
        """Get every recorded output that is not in quarantine: by which attempt, from where, and what it is."""
        of_step = (steps.c.run == outputs.c.run) & (steps.c.step == outputs.c.step)
        wanted = select(outputs, attempts.c.id.label("attempt"), runs.c.number.label("run_number"))
        wanted = wanted.select_from(outputs).join(runs, runs.c.id == outputs.c.run).join(steps, of_step)
        ordered = wanted.join(attempts, _made()).order_by(outputs.c.number, outputs.c.step, outputs.c.position)
        with self._database.reading() as connection:
            rows = connection.execute(ordered).all()
            return [(row.attempt, f"run {row.run_number}, step {row.step}", artifact_from(row)) for row in rows]

    def quarantine(self, attempt: str, why: str, now: float) -> None:
        """Never offer the attempt's result again; the record of it stays."""
        with self._database.writing() as connection:
            marked = update(attempts).where(attempts.c.id == attempt, attempts.c.quarantined.is_(None))
            connection.execute(marked.values(quarantined=now, why=why))
            connection.execute(update(entries).where(entries.c.attempt == attempt).values(offered=False))


def _made() -> ColumnElement[bool]:
    """Get what joins a step to the attempt that made its result, in this run or in the one that it was reused from."""
    return (
        (attempts.c.run == func.coalesce(steps.c.origin_run, steps.c.run))
        & (attempts.c.step == func.coalesce(steps.c.origin_step, steps.c.step))
        & (attempts.c.status == Status.SUCCEEDED.value)
        & attempts.c.quarantined.is_(None)
    )


def offer(
    connection: Connection, attempt: str, offers: Sequence[Offer], *, now: float, accepted: str | None = None
) -> None:
    """Offer an attempt's result inside the caller's transaction."""
    found = texts.Texts()
    rows = [
        {
            "key": each.key, "attempt": attempt, "static_key": each.static_key, "committed": now, "offered": True,
            "observed": found.add_observed(each.observed), "accepted": accepted,
        }
        for each in {each.key: each for each in offers}.values()
    ]  # fmt: skip
    found.store(connection)
    if rows:
        connection.execute(insert(entries), rows)


def _newest(connection: Connection, wanted: ColumnElement[bool]) -> dict[str, Hit]:
    newest = select(func.max(entries.c.id)).where(wanted, _OFFERED).group_by(entries.c.key)
    return {hit.key: hit for hit in _hits(connection, entries.c.id.in_(newest))}


def _hits(connection: Connection, wanted: ColumnElement[bool]) -> list[Hit]:
    columns: tuple[Any, ...] = (
        entries.c.key.label("under"),
        entries.c.observed,
        entries.c.accepted,
        attempts.c.id,
        attempts.c.run,
        attempts.c.step,
        attempts.c.seconds,
        attempts.c.notebook,
        attempts.c.artifacts,
    )
    asked = select(*columns).join(attempts).where(wanted).order_by(entries.c.id.desc())
    rows = connection.execute(asked).all()
    observed = texts.load_observed(connection, [row.observed for row in rows])
    return [hit_from(row, row.under, observed[row.observed], row.accepted) for row in rows]
