"""Reusable results: by key, by run, by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, insert, select, true, update

from nbpipe.history import text_pool
from nbpipe.history.database import Repository, chunks
from nbpipe.history.row_mapping import hit_from, stored_objects_from_json
from nbpipe.history.schema import attempts, entries, executions, runs
from nbpipe.model import Artifact, CachedResult, Observation, Status

_OFFERED = entries.c.offered.is_(true())


@dataclass(frozen=True, slots=True)
class ReuseEntry:
    """A key under which a result may be reused, as long as all observations hold."""

    key: str
    static_key: str | None
    observed: tuple[Observation, ...] = ()


class ResultRepository(Repository):
    """The results that can be reused."""

    def lookup(self, keys: Sequence[str]) -> dict[str, CachedResult]:
        """Return the newest result that is offered under each known key."""
        results: dict[str, CachedResult] = {}
        with self._database.reading() as connection:
            for chunk in chunks(keys):
                results.update(_by_key(connection, _NEWEST(), {"keys": chunk}))
        return results

    def candidates(self, key: str) -> list[CachedResult]:
        """Return all results that are offered under a key, newest first; they differ in their observations."""
        with self._database.reading() as connection:
            # A damaged index may lead to the row of another key.
            return [hit for hit in _hits(connection, _CANDIDATES(), {"at": key}) if hit.key == key]

    def accept(self, attempt: str, offers: Sequence[ReuseEntry], accepted: str, now: float) -> None:
        """Offer an earlier attempt's result under other keys too; ``accepted`` says who accepted it, and why.

        One that was withdrawn meanwhile is not offered.
        """
        with self._database.writing() as connection:
            gone = select(attempts.c.id).where(attempts.c.id == attempt, attempts.c.quarantined.is_not(None))
            if connection.scalar(gone) is None:
                add_reuse_entries(connection, attempt, offers, now=now, accepted=accepted)

    def withdrawn(self, attempt_ids: Sequence[str]) -> set[str]:
        """Return those of these attempts whose results are not offered any more."""
        gone: set[str] = set()
        with self._database.reading() as connection:
            for chunk in chunks(attempt_ids):
                gone.update(connection.scalars(_WITHDRAWN(), {"ids": chunk}))
        return gone

    def hits_of_run(self, run: str) -> dict[str, CachedResult]:
        """Return what :meth:`lookup` would for every key of the results that the run's steps made or reused."""
        with self._database.reading() as connection:
            return _by_key(connection, _NEWEST_OF_RUN(), {"of_run": run})

    def static_known(self, static_keys: Sequence[str]) -> set[str]:
        """Return those static keys under which some result is offered."""
        offered: set[str] = set()
        with self._database.reading() as connection:
            for chunk in chunks(static_keys):
                known = connection.scalars(_STATIC(), {"keys": chunk}).all()
                offered.update(key for key in known if key is not None)
        return offered

    def newest_result(self, pipeline: str, step: str) -> CachedResult | None:
        """Return a step's result in the newest run of its pipeline in which it succeeded or was reused."""
        mine = (executions.c.pipeline == pipeline) & executions.c.done.is_(true()) & (executions.c.step == step)
        producers = executions.alias()
        query = select(attempts, producers.c.step).select_from(executions).join(attempts, _produced_result())
        query = query.join(producers, producers.c.id == attempts.c.execution).where(mine)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(executions.c.number.desc()).limit(1)).first()
            return None if row is None else hit_from(row, row.key or "")

    def stored(self) -> Iterator[tuple[str, str, Artifact]]:
        """Yield every stored output and display that is not in quarantine, once for each attempt that produced it.

        Each comes with its attempt's id and a description of its origin. Runs that reused a result are not read.
        """
        query = select(
            attempts.c.id, attempts.c.artifacts, executions.c.step, runs.c.number.label("run_number")
        ).select_from(attempts)
        query = query.join(executions, executions.c.id == attempts.c.execution).join(runs, runs.c.id == attempts.c.run)
        query = query.where(attempts.c.status == Status.SUCCEEDED.value, attempts.c.quarantined.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(runs.c.number, executions.c.position, attempts.c.number)).all()
            produced = [(row, stored_objects_from_json(row.artifacts)) for row in rows]
        for row, artifacts in produced:
            for artifact in artifacts:
                yield row.id, f"run {row.run_number}, step {row.step}", artifact

    def quarantine(self, attempt: str, why: str, now: float) -> None:
        """Never offer the attempt's result again, but keep its record."""
        with self._database.writing() as connection:
            marked = update(attempts).where(attempts.c.id == attempt, attempts.c.quarantined.is_(None))
            connection.execute(marked.values(quarantined=now, why=why))
            connection.execute(update(entries).where(entries.c.attempt == attempt).values(offered=False))


def _produced_result() -> ColumnElement[bool]:
    """Return the join condition of an execution and the attempt that produced its result, its own or its origin's."""
    own = executions.c.origin_attempt.is_(None) & (attempts.c.execution == executions.c.id)
    return (
        (own | (attempts.c.id == executions.c.origin_attempt))
        & (attempts.c.status == Status.SUCCEEDED.value)
        & attempts.c.quarantined.is_(None)
    )


def add_reuse_entries(
    connection: Connection, attempt: str, offers: Sequence[ReuseEntry], *, now: float, accepted: str | None = None
) -> None:
    """Offer an attempt's result under keys, inside the caller's transaction."""
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
        connection.execute(_NEW(), rows)


def _by_key(connection: Connection, query: Select[Any], values: dict[str, Any]) -> dict[str, CachedResult]:
    return {hit.key: hit for hit in _hits(connection, query, values)}


def _hits(connection: Connection, query: Select[Any], values: dict[str, Any]) -> list[CachedResult]:
    rows = connection.execute(query, values).all()
    observed = text_pool.load_observed(connection, [row.observed for row in rows])
    return [hit_from(row, row.under, observed[row.observed], row.accepted) for row in rows]


def _select_newest(condition: ColumnElement[bool]) -> Select[Any]:
    newest = select(func.max(entries.c.id)).where(condition, _OFFERED).group_by(entries.c.key)
    return _select_hits(entries.c.id.in_(newest))


def _select_hits(condition: ColumnElement[bool]) -> Select[Any]:
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
    selected = select(*columns).join(attempts, attempts.c.id == entries.c.attempt)
    selected = selected.join(executions, executions.c.id == attempts.c.execution)
    return selected.where(condition).order_by(entries.c.id.desc())


def _select_newest_of_run() -> Select[Any]:
    of_run = (executions.c.run == bindparam("of_run")) & executions.c.done.is_(true()) & executions.c.key.is_not(None)
    theirs = select(entries.c.attempt).where(entries.c.key.in_(select(executions.c.key).where(of_run)), _OFFERED)
    keys = select(entries.c.key).where(entries.c.attempt.in_(theirs), _OFFERED)
    return _select_newest(entries.c.key.in_(keys))


# Built when first used, and once: building a statement takes longer than executing it.
_NEWEST = cache(lambda: _select_newest(entries.c.key.in_(bindparam("keys", expanding=True))))
_NEWEST_OF_RUN = cache(_select_newest_of_run)
_CANDIDATES = cache(lambda: _select_hits((entries.c.key == bindparam("at")) & _OFFERED))
_STATIC = cache(
    lambda: (
        select(entries.c.static_key)
        .where(entries.c.static_key.in_(bindparam("keys", expanding=True)), _OFFERED)
        .distinct()
    )
)
_WITHDRAWN = cache(
    lambda: select(attempts.c.id).where(
        attempts.c.id.in_(bindparam("ids", expanding=True)), attempts.c.quarantined.is_not(None)
    )
)
_NEW = cache(lambda: insert(entries))
