"""The log of the runs: every change of a run, an execution or an attempt, and the numbers that were logged.

An entry is written in the transaction of its change (:func:`append`), so the log and the tables cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from nbpipe.codec import decode, encode, encode_sparse, pack, unpack
from nbpipe.errors import REPAIR, HistoryDamaged
from nbpipe.history.database import Repository
from nbpipe.history.schema import attempts, events, logs_metric, runs
from nbpipe.model import (
    AttemptChanged,
    AttemptRecord,
    ExecutionChanged,
    ExecutionRecord,
    Metric,
    MetricsLogged,
    OutputWritten,
    RunChanged,
    RunEvent,
    RunFact,
    RunGrown,
)

# How many entries are read at once, and about how many compressed bytes of them; readers come back for the rest.
BATCH = 5_000
_BATCH_BYTES = 1 << 20
_READ = cache(
    lambda: (
        select(events)
        .where(events.c.run == bindparam("of_run"), events.c.number > bindparam("after"))
        .order_by(events.c.number)
        .limit(bindparam("most"))
    )
)
_LENGTH = cache(lambda: select(runs.c.events).where(runs.c.id == bindparam("of_run")))
_COUNT = cache(
    lambda: (
        update(runs)
        .where(runs.c.id == bindparam("of_run"))
        .values(events=runs.c.events + bindparam("added"))
        .returning(runs.c.events)
    )
)
_NEW = cache(lambda: insert(events))
_REACH = cache(lambda: update(attempts).where(attempts.c.id == bindparam("attempt")).values(pieces=bindparam("reach")))


class EventKind(StrEnum):
    """What an entry of the log is about."""

    RUN = "run"
    GROWTH = "growth"
    EXECUTION = "execution"
    ATTEMPT = "attempt"
    METRIC = "metric"
    OUTPUT = "output"


class EventLog(Repository):
    """What happened in each run, in order."""

    def read(self, run: str, after: int = 0, limit: int = BATCH) -> list[RunEvent]:
        """Return up to ``limit`` entries of a run's log that come after entry ``after``, fewer if they are large.

        An empty list says that there are no more. Raise HistoryDamaged if an entry is missing or cannot be read.
        """
        with self._database.reading() as connection:
            rows = connection.execute(_READ(), {"of_run": run, "after": after, "most": limit})
            found, size = [], 0
            for expected, row in enumerate(rows, after + 1):
                found.append(_event_from(row, expected))
                size += len(row.fact)
                if size > _BATCH_BYTES:
                    break
            rows.close()
            if not found and after < _length(connection, run):
                # Whoever follows the run would wait for its end for ever.
                raise HistoryDamaged(gap_damage(run, after + 1), REPAIR)
        return found

    def length(self, run: str) -> int:
        """Return how many entries a run's log has been given."""
        with self._database.reading() as connection:
            return _length(connection, run)

    def metrics(self, run: str) -> list[Metric]:
        """Return the numbers that a run's attempts logged, in the order in which they were logged."""
        query = select(events).where(events.c.run == run, logs_metric)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(events.c.number))
            facts = (_event_from(row, row.number).fact for row in rows)
            return [metric for fact in facts if isinstance(fact, MetricsLogged) for metric in fact.metrics()]


def _length(connection: Connection, run: str) -> int:
    return connection.scalar(_LENGTH(), {"of_run": run}) or 0


def append(connection: Connection, run: str, facts: Sequence[RunFact], now: float) -> None:
    """Add entries to a run's log inside the caller's transaction."""
    if not facts:
        return
    last = connection.scalar(_COUNT(), {"of_run": run, "added": len(facts)})
    if last is None:
        message = f"the history is damaged: it holds no run {run}, so its events cannot be recorded"
        raise HistoryDamaged(message, REPAIR)
    first = last - len(facts) + 1
    rows = [{"run": run, "number": number, "time": now, **_row_of(fact)} for number, fact in enumerate(facts, first)]
    connection.execute(_NEW(), rows)
    reach = {fact.attempt: fact.last for fact in facts if isinstance(fact, OutputWritten)}
    for attempt, pieces in reach.items():
        connection.execute(_REACH(), {"attempt": attempt, "reach": pieces})


def execution_changed(record: ExecutionRecord) -> ExecutionChanged:
    """Return the entry for an execution; without its longest parts, which are read with the execution."""
    if not record.components and not record.observed:
        return ExecutionChanged(record)
    return ExecutionChanged(replace(record, components=(), observed=()))


def _row_of(fact: RunFact) -> dict[str, Any]:
    kind, attempt, value = _parts(fact)
    # Numbers are many and leave nothing out.
    text = encode(value) if kind is EventKind.METRIC else encode_sparse(value)
    return {"kind": kind.value, "attempt": attempt, "fact": pack(text)}


def _parts(fact: RunFact) -> tuple[EventKind, str | None, object]:
    match fact:
        case RunChanged():
            return EventKind.RUN, None, fact
        case RunGrown():
            return EventKind.GROWTH, None, fact
        case ExecutionChanged(execution):
            return EventKind.EXECUTION, None, execution
        case AttemptChanged(attempt):
            return EventKind.ATTEMPT, attempt.id, attempt
        case MetricsLogged():
            return EventKind.METRIC, fact.attempt, fact
        case OutputWritten(name, _, _):
            return EventKind.OUTPUT, name, fact


def _event_from(row: Row[Any], expected: int) -> RunEvent:
    if row.number != expected:
        raise HistoryDamaged(gap_damage(row.run, expected), REPAIR)
    try:
        return RunEvent(row.number, row.time, fact_from(EventKind(row.kind), unpack(row.fact)))
    except ValueError as error:
        raise HistoryDamaged(entry_damage(row.run, row.number, error), REPAIR) from error


def entry_damage(run: object, number: object, error: object) -> str:
    """Return the sentence about an entry that cannot be read."""
    return f"entry {number} of the log of run {run} is not what nbpipe wrote ({error})"


def gap_damage(run: str, missing: int) -> str:
    """Return the sentence about an entry that is missing."""
    return f"the log of run {run} has a gap: entry {missing} is missing"


def fact_from(kind: EventKind, text: str) -> RunFact:
    """Return what an entry of this kind says; raise ValueError if its text says something else."""
    match kind:
        case EventKind.RUN:
            return decode(text, RunChanged)
        case EventKind.GROWTH:
            return decode(text, RunGrown)
        case EventKind.EXECUTION:
            return ExecutionChanged(decode(text, ExecutionRecord))
        case EventKind.ATTEMPT:
            return AttemptChanged(decode(text, AttemptRecord))
        case EventKind.METRIC:
            return decode(text, MetricsLogged)
        case EventKind.OUTPUT:
            return decode(text, OutputWritten)
