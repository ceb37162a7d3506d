"""The results that may be reused: by key, by run, by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, true, update

from nbpipe.history import text_pool
from nbpipe.history.database import Repository, chunks
from nbpipe.history.row_mapping import artifacts_from_json, hit_from
from nbpipe.history.schema import attempts, entries, executions, runs
from nbpipe.model import Artifact, CachedResult, Observation, Status

_OFFERED = entries.c.offered.is_(true())


@dataclass(frozen=True, slots=True)
class ReuseEntry:
    """A key under which a result may be reused, while everything observed is so."""

    key: str
    static_key: str | None
    observed: tuple[Observation, ...] = ()


class ResultRepository(Repository):
    """What need not be computed again."""

    def lookup(self, keys: Sequence[str]) -> dict[str, CachedResult]:
        """Get for each known key the newest result that is offered under it."""
        found: dict[str, CachedResult] = {}
        with self._database.reading() as connection:
            for chunk in chunks(keys):
                found.update(_newest(connection, entries.c.key.in_(chunk)))
        return found

    def candidates(self, key: str) -> list[CachedResult]:
        """Get all results that are offered under a key, newest first: what they have observed tells them apart."""
        with self._database.reading() as connection:
            return _hits(connection, (entries.c.key == key) & _OFFERED)

    def accept(self, attempt: str, offers: Sequence[ReuseEntry], accepted: str, now: float) -> None:
        """ReuseEntry an earlier attempt's result under other keys too; ``accepted`` says who wanted it, and why."""
        with self._database.writing() as connection:
            add_reuse_entries(connection, attempt, offers, now=now, accepted=accepted)

    def hits_of_run(self, run: str) -> dict[str, CachedResult]:
        """Return what :meth:`lookup` would for every key of the results that the run's steps made or reused."""
        of_run = (executions.c.run == run) & executions.c.done.is_(true()) & executions.c.key.is_not(None)
        mine = select(executions.c.key).where(of_run)
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

    def newest_result(self, pipeline: str, step: str) -> CachedResult | None:
        """Return the result that a step had in the newest run of its pipeline in which it succeeded or was reused."""
        mine = (executions.c.pipeline == pipeline) & executions.c.done.is_(true()) & (executions.c.step == step)
        made_by = executions.alias()
        wanted = select(attempts, made_by.c.step).select_from(executions).join(attempts, _made())
        wanted = wanted.join(made_by, made_by.c.id == attempts.c.execution).where(mine)
        with self._database.reading() as connection:
            row = connection.execute(wanted.order_by(executions.c.number.desc()).limit(1)).first()
            return None if row is None else hit_from(row, row.key or "")

    def stored(self) -> Iterator[tuple[str, str, Artifact]]:
        """Yield every stored output that is not in quarantine, once for each attempt that made it.

        Each is told with its attempt, and in words where it comes from. Runs that reused a result are not read.
        """
        wanted = select(
            attempts.c.id, attempts.c.artifacts, executions.c.step, runs.c.number.label("run_number")
        ).select_from(attempts)
        wanted = wanted.join(executions, executions.c.id == attempts.c.execution).join(
            runs, runs.c.id == attempts.c.run
        )
        wanted = wanted.where(attempts.c.status == Status.SUCCEEDED.value, attempts.c.quarantined.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(runs.c.number, executions.c.position, attempts.c.number)).all()
        for row in rows:
            for artifact in artifacts_from_json(row.artifacts):
                yield row.id, f"run {row.run_number}, step {row.step}", artifact

    def quarantine(self, attempt: str, why: str, now: float) -> None:
        """Never offer the attempt's result again; the record of it stays."""
        with self._database.writing() as connection:
            marked = update(attempts).where(attempts.c.id == attempt, attempts.c.quarantined.is_(None))
            connection.execute(marked.values(quarantined=now, why=why))
            connection.execute(update(entries).where(entries.c.attempt == attempt).values(offered=False))


def _made() -> ColumnElement[bool]:
    """Return what joins an execution to the attempt that made its result, its own or that of its origin."""
    own = executions.c.origin_attempt.is_(None) & (attempts.c.execution == executions.c.id)
    return (
        (own | (attempts.c.id == executions.c.origin_attempt))
        & (attempts.c.status == Status.SUCCEEDED.value)
        & attempts.c.quarantined.is_(None)
    )


def add_reuse_entries(
    connection: Connection, attempt: str, offers: Sequence[ReuseEntry], *, now: float, accepted: str | None = None
) -> None:
    """ReuseEntry an attempt's result inside the caller's transaction."""
    texts = text_pool.TextPool()
    rows = [
        {
            "key": each.key, "attempt": attempt, "static_key": each.static_key, "committed": now, "offered": True,
            "observed": texts.add_observed(each.observed), "accepted": accepted,
        }
        for each in {each.key: each for each in offers}.values()
    ]  # fmt: skip
    texts.store(connection)
    if rows:
        connection.execute(insert(entries), rows)


def _newest(connection: Connection, wanted: ColumnElement[bool]) -> dict[str, CachedResult]:
    newest = select(func.max(entries.c.id)).where(wanted, _OFFERED).group_by(entries.c.key)
    return {hit.key: hit for hit in _hits(connection, entries.c.id.in_(newest))}


def _hits(connection: Connection, wanted: ColumnElement[bool]) -> list[CachedResult]:
    columns: tuple[Any, ...] = (
        entries.c.key.label("under"),
        entries.c.observed,
        entries.c.accepted,
        attempts.c.id,
        attempts.c.run,
        executions.c.step,
        attempts.c.seconds,
        attempts.c.directory,
        attempts.c.notebook,
        attempts.c.artifacts,
    )
    made = select(*columns).join(attempts, attempts.c.id == entries.c.attempt)
    asked = made.join(executions, executions.c.id == attempts.c.execution).where(wanted).order_by(entries.c.id.desc())
    rows = connection.execute(asked).all()
    observed = text_pool.load_observed(connection, [row.observed for row in rows])
    return [hit_from(row, row.under, observed[row.observed], row.accepted) for row in rows]
