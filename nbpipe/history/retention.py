"""What is kept and what was collected: the uses of results, the pinned runs, and the right to collect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, insert, select

from nbpipe.history import claims as claiming
from nbpipe.history.claims import Claim, ClaimedByOther, ClaimRepository
from nbpipe.history.database import Repository, chunks
from nbpipe.history.row_mapping import GOING_ON, stored_objects_from_json
from nbpipe.history.schema import attempts, condemned_results, entries, executions, pins, runs
from nbpipe.model import Artifact, Status
from nbpipe.model.retention import ResultUse

COLLECTED = "collected"
"""What the reason begins with for which a collected result is withdrawn."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result whose bytes are stored: the attempt that made it, its step and run number, and its outputs."""

    attempt: str
    step: str
    number: int
    outputs: tuple[Artifact, ...]

    @property
    def bytes(self) -> int:
        """Return the size of its outputs."""
        return sum(output.bytes for output in self.outputs)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed, with its directory as a reference in the workspace."""

    id: str
    pipeline: str
    step: str
    directory: str
    ended: float


class RetentionRepository(Repository):
    """The uses of results, the pinned runs, and the right to collect."""

    def uses(self) -> Iterator[ResultUse]:
        """Yield every use of a result by a step of a run: of its own result, or of one that it reused."""
        columns = (executions.c.pipeline, executions.c.step, executions.c.run, executions.c.number, runs.c.started)
        own = select(attempts.c.id, *columns).join(executions, executions.c.id == attempts.c.execution)
        own = own.join(runs, runs.c.id == executions.c.run).where(attempts.c.status == Status.SUCCEEDED.value)
        reused = select(executions.c.origin_attempt.label("id"), *columns).join(runs, runs.c.id == executions.c.run)
        with self._database.reading() as connection:
            rows = [
                *connection.execute(own),
                *connection.execute(reused.where(executions.c.origin_attempt.is_not(None))),
            ]
        for row in rows:
            yield ResultUse(row.id, row.pipeline, row.step, row.run, row.number, row.started)

    def stored(self) -> list[StoredResult]:
        """Return every result that was neither withdrawn nor collected."""
        return self._stored(attempts.c.quarantined.is_(None))

    def condemned(self) -> list[StoredResult]:
        """Return the results that were withdrawn because nothing keeps them, and still have all their bytes."""
        return self._stored(attempts.c.id.in_(select(condemned_results.c.attempt)))

    def _stored(self, condition: ColumnElement[bool]) -> list[StoredResult]:
        query = select(attempts.c.id, attempts.c.artifacts, executions.c.step, executions.c.number)
        query = query.join(executions, executions.c.id == attempts.c.execution)
        query = query.where(attempts.c.status == Status.SUCCEEDED.value, condition)
        query = query.order_by(executions.c.number, executions.c.position)
        with self._database.reading() as connection:
            return [
                StoredResult(row.id, row.step, row.number, tuple(stored_objects_from_json(row.artifacts)))
                for row in connection.execute(query)
            ]

    def failed(self) -> list[FailedAttempt]:
        """Return the attempts that failed in runs that have ended, newest first."""
        query = select(
            attempts.c.id, executions.c.pipeline, executions.c.step, attempts.c.directory, attempts.c.ended
        ).join(executions, executions.c.id == attempts.c.execution)
        query = query.join(runs, runs.c.id == attempts.c.run).where(runs.c.status.not_in(GOING_ON))
        ended = (Status.FAILED.value, Status.CANCELLED.value, Status.LOST.value)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(attempts.c.status.in_(ended)).order_by(attempts.c.ended.desc()))
            return [FailedAttempt(row.id, row.pipeline, row.step, row.directory, row.ended or 0.0) for row in rows]

    def collected(self, key: str) -> str | None:
        """Return when and why the newest result under a key was collected; None if it was not."""
        query = select(attempts.c.why).join(entries, entries.c.attempt == attempts.c.id)
        query = query.where(entries.c.key == key).order_by(entries.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            why = connection.scalar(query)
        return why if why is not None and why.startswith(COLLECTED) else None

    def collected_static(self, static_keys: Iterable[str]) -> set[str]:
        """Return those static keys under which a result was collected."""
        known: set[str] = set()
        query = select(entries.c.static_key).join(attempts, attempts.c.id == entries.c.attempt).distinct()
        with self._database.reading() as connection:
            for chunk in chunks(list(static_keys)):
                withdrawn = entries.c.static_key.in_(chunk) & entries.c.offered.is_(False)
                rows = connection.scalars(query.where(withdrawn, attempts.c.why.startswith(COLLECTED)))
                known.update(key for key in rows if key is not None)
        return known

    def pin(self, run: str, now: float) -> None:
        """Keep all results of a run until it is unpinned."""
        with self._database.writing() as connection:
            connection.execute(delete(pins).where(pins.c.run == run))
            connection.execute(insert(pins), [{"run": run, "pinned": now}])

    def unpin(self, run: str) -> bool:
        """No longer keep a run for its own sake; return whether it was pinned."""
        with self._database.writing() as connection:
            return connection.execute(delete(pins).where(pins.c.run == run)).rowcount > 0

    def pinned(self) -> set[str]:
        """Return the ids of the pinned runs."""
        with self._database.reading() as connection:
            return set(connection.scalars(select(pins.c.run)))

    def going_on(self) -> set[str]:
        """Return the ids of the runs that have not ended."""
        with self._database.reading() as connection:
            return set(connection.scalars(select(runs.c.id).where(runs.c.status.in_(GOING_ON))))

    def begin(self, *, owner: str, now: float, lease: float, alive: Callable[[str], bool]) -> Claim | ClaimedByOther:
        """Claim the right to collect, which one process at a time has until it is released, or has expired."""
        return ClaimRepository(self._database).claim(
            claiming.COLLECTION, owner=owner, now=now, lease=lease, alive=alive
        )
