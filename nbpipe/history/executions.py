"""The executions of the runs, with their outputs: written, read, and the newest of each step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Subquery,
    bindparam,
    delete,
    false,
    func,
    insert,
    select,
    true,
    update,
)

from nbpipe.errors import REPAIR, HistoryDamaged
from nbpipe.history import event_log, text_pool
from nbpipe.history.database import Repository, chunks
from nbpipe.history.row_mapping import artifact_from, execution_from, execution_to_row, output_to_row, texts_from
from nbpipe.history.schema import attempts, executions, outputs, runs
from nbpipe.model import Artifact, ExecutionRecord, Status

_FIXED = ("id", "run", "step", "pipeline", "number")
_CHANGE = cache(lambda: update(executions).where(executions.c.id == bindparam("_id")))
_FORGET = cache(lambda: delete(outputs).where(outputs.c.execution == bindparam("_id")))
_NEW = cache(lambda: insert(executions))
_NEW_OUTPUTS = cache(lambda: insert(outputs))
_STATES = cache(
    lambda: (
        select(executions.c.id, executions.c.status, executions.c.current)
        .where(executions.c.id.in_(bindparam("ids", expanding=True)))
        .with_for_update()
    )
)
_PLACES = cache(
    lambda: select(runs.c.id, runs.c.number, runs.c.pipeline).where(runs.c.id.in_(bindparam("ids", expanding=True)))
)
_OUTPUTS = cache(
    lambda: (
        select(outputs)
        .where(outputs.c.execution.in_(bindparam("ids", expanding=True)))
        .order_by(outputs.c.execution, outputs.c.position)
    )
)


@dataclass(frozen=True, slots=True)
class _State:
    """What is stored of an execution; it is ``current`` until a newer one of its step replaces it."""

    status: Status
    current: bool

    def may_become(self, status: Status) -> bool:
        return not self.status.terminal or self.status == status


class ExecutionRepository(Repository):
    """The executions of the steps of all runs."""

    def of_run(self, run: str) -> list[ExecutionRecord]:
        """Return the current executions of a run in notebook order."""
        return self._read(select(executions).where(executions.c.run == run, executions.c.current.is_(true())))

    def all_of_run(self, run: str) -> list[ExecutionRecord]:
        """Return all executions of a run in notebook order, including those that were replaced."""
        return self._read(select(executions).where(executions.c.run == run))

    def tried_in(self, run_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the names of the steps that were executed in each of these runs, in notebook order."""
        steps_of_run: dict[str, dict[str, None]] = {run: {} for run in run_ids}
        with self._database.reading() as connection:
            for chunk in chunks(run_ids):
                tried = (executions.c.run.in_(chunk)) & (executions.c.attempts > 0)
                query = select(executions.c.run, executions.c.step).where(tried)
                for row in connection.execute(query.order_by(executions.c.position, executions.c.step)):
                    steps_of_run[row.run][row.step] = None
        return {run: list(steps) for run, steps in steps_of_run.items()}

    def get(self, ids: Sequence[str]) -> list[ExecutionRecord]:
        """Return the known executions among these ids."""
        records: list[ExecutionRecord] = []
        for chunk in chunks(ids):
            records += self._read(select(executions).where(executions.c.id.in_(chunk)))
        return records

    def of_step(self, run: str, step: str) -> ExecutionRecord | None:
        """Return the current execution of a run's step."""
        query = select(executions).where(executions.c.run == run, executions.c.step == step)
        records = self._read(query.where(executions.c.current.is_(true())))
        return records[0] if records else None

    def latest(self, pipeline: str) -> dict[str, ExecutionRecord]:
        """Return each step's execution in the newest run of the pipeline in which it has its outputs."""
        newest = _newest_of_each(pipeline)
        is_newest = (executions.c.step == newest.c.step) & (executions.c.number == newest.c.number) & _done(pipeline)
        records = self._read(select(executions).select_from(newest).join(executions, is_newest))
        return {record.step: record for record in records}

    def with_side_effects(self, pipeline: str) -> dict[str, ExecutionRecord]:
        """Return the same as :meth:`latest`, with the notes on reused results and what they wrote beside their outputs.

        Nothing if there is none of that, which is found out without reading the records.
        """
        newest = _newest_of_each(pipeline)
        is_newest = (executions.c.step == newest.c.step) & (executions.c.number == newest.c.number) & _done(pipeline)
        columns = (executions.c.step, executions.c.written, executions.c.notes, executions.c.origin_attempt)
        with self._database.reading() as connection:
            rows = connection.execute(select(*columns).select_from(newest).join(executions, is_newest)).all()
            origins = dict[str, Row[Any]]()
            for chunk in chunks([row.origin_attempt for row in rows if row.origin_attempt is not None]):
                made = select(attempts.c.id, executions.c.written, executions.c.notes)
                made = made.where(attempts.c.id.in_(chunk))
                made = made.join(executions, executions.c.id == attempts.c.execution)
                origins |= {row.id: row for row in connection.execute(made)}
        made_by = {row.step: origins.get(row.origin_attempt, row) for row in rows}
        effects = {step: (texts_from(row.written), texts_from(row.notes)) for step, row in made_by.items()}
        if not any(written or notes for written, notes in effects.values()):
            return {}
        latest = {step: record for step, record in self.latest(pipeline).items() if step in effects}
        return {
            step: replace(record, written=effects[step][0], notes=effects[step][1]) for step, record in latest.items()
        }

    def newest(self, pipeline: str) -> dict[str, ExecutionRecord]:
        """Return each step's execution in the newest run of the pipeline with this step, with any status."""
        newest_by_step: dict[str, tuple[int, ExecutionRecord]] = {}
        with self._database.reading() as connection:
            for done in (True, False):
                newest = _newest_of_each(pipeline, done=done)
                is_newest = (executions.c.step == newest.c.step) & (executions.c.number == newest.c.number)
                is_newest &= _done(pipeline, done=done) & executions.c.current.is_(true())
                rows = connection.execute(select(executions).select_from(newest).join(executions, is_newest)).all()
                for row, record in zip(rows, _records(connection, rows), strict=True):
                    if record.step not in newest_by_step or newest_by_step[record.step][0] < row.number:
                        newest_by_step[record.step] = row.number, record
        return {step: record for step, (_, record) in newest_by_step.items()}

    def newest_of_step(self, pipeline: str, step: str) -> ExecutionRecord | None:
        """Return the step's execution in the newest run of the pipeline with this step, with any status."""
        return self._newest(pipeline, executions.c.step == step)

    def newest_executed(self, pipeline: str, step: str) -> ExecutionRecord | None:
        """Return the step's newest execution that has ended and has an executed notebook."""
        ended = executions.c.status.in_([status.value for status in Status if status.terminal])
        return self._newest(pipeline, (executions.c.step == step) & ended & executions.c.notebook.is_not(None))

    def recent(self, pipeline: str, step: str, limit: int) -> list[ExecutionRecord]:
        """Return the step's executions in the newest runs in which it has its outputs, newest first."""
        query = select(executions).where(_done(pipeline), executions.c.step == step)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(executions.c.number.desc()).limit(limit)).all()
            return _records(connection, rows)

    def find_output(self, pipeline: str | None, step: str | None, output: str) -> Artifact | None:
        """Return the newest output of that name, of this pipeline and this step if they are given."""
        belongs = executions.c.id == outputs.c.execution
        query = select(outputs).join(executions, belongs).where(outputs.c.name == output, executions.c.done.is_(true()))
        number = outputs.c.number
        if step is not None:
            query = query.where(executions.c.step == step)
        if pipeline is not None and step is not None:
            # The index over both is one of the executions.
            query, number = query.where(executions.c.pipeline == pipeline), executions.c.number
        elif pipeline is not None:
            query = query.where(outputs.c.pipeline == pipeline)
        with self._database.reading() as connection:
            newest = query.order_by(number.desc(), executions.c.position).limit(1)
            row = connection.execute(newest).first()
            return None if row is None else artifact_from(row)

    def ask_cancel(self, execution: str, now: float) -> None:
        """Request the cancellation of one execution; those that do not need it continue."""
        with self._database.writing() as connection:
            statement = update(executions).where(executions.c.id == execution)
            connection.execute(statement.values(cancel_asked=now))

    def _newest(self, pipeline: str, condition: ColumnElement[bool]) -> ExecutionRecord | None:
        with self._database.reading() as connection:
            rows: list[Row[Any]] = []
            # One query for each, because the index begins with pipeline and ``done``.
            for done in (True, False):
                query = select(executions).where(
                    _done(pipeline, done=done), condition, executions.c.current.is_(true())
                )
                rows += connection.execute(query.order_by(executions.c.number.desc()).limit(1)).all()
            return _records(connection, [max(rows, key=lambda row: row.number)])[0] if rows else None

    def _read(self, query: Select[Any]) -> list[ExecutionRecord]:
        with self._database.reading() as connection:
            return read(connection, query.order_by(executions.c.position, executions.c.step))


def read(connection: Connection, query: Select[Any]) -> list[ExecutionRecord]:
    """Return the executions that a query selects, inside the caller's transaction."""
    return _records(connection, connection.execute(query).all())


def write(connection: Connection, records: Sequence[ExecutionRecord], now: float) -> None:
    """Write executions inside the caller's transaction.

    One that has ended keeps its status, and one that was replaced stays replaced, whatever is written later.
    """
    latest = {record.id: record for record in records}
    present = _states(connection, list(latest))
    accepted = [
        record if record.id not in present or present[record.id].current else replace(record, current=False)
        for record in latest.values() if record.id not in present or present[record.id].may_become(record.status)
    ]  # fmt: skip
    texts = text_pool.TextPool()
    places = _places(connection, dict.fromkeys(record.run for record in accepted))
    rows = [
        execution_to_row(record, texts.add_components(record.components), texts.add_observed(record.observed))
        | places[record.run]
        for record in accepted
    ]
    texts.store(connection)
    _insert(connection, [row for row in rows if row["id"] not in present])
    _change(connection, [row for row in rows if row["id"] in present])
    output_rows = [
        output_to_row(record, position) | places[record.run]
        for record in accepted
        for position in range(len(record.artifacts))
    ]
    if output_rows:
        connection.execute(_NEW_OUTPUTS(), output_rows)
    _log(connection, accepted, now)


def supersede(connection: Connection, ids: Sequence[str], now: float) -> None:
    """Mark executions as replaced by newer ones of their steps, inside the caller's transaction."""
    for chunk in chunks(ids):
        theirs = executions.c.id.in_(chunk) & executions.c.current.is_(true())
        statement = update(executions).where(theirs).values(current=False, done=False).returning(executions.c.id)
        changed_ids = list(connection.scalars(statement))
        _log(connection, read(connection, select(executions).where(executions.c.id.in_(changed_ids))), now)


def may_become(connection: Connection, execution: str, status: Status) -> bool:
    """Return whether an execution may change to this status: a final status stays."""
    present = _states(connection, [execution]).get(execution)
    return present is None or present.may_become(status)


def _log(connection: Connection, changed: Sequence[ExecutionRecord], now: float) -> None:
    by_run: dict[str, list[ExecutionRecord]] = defaultdict(list)
    for record in changed:
        by_run[record.run].append(record)
    for run, records in by_run.items():
        event_log.append(connection, run, [event_log.execution_changed(record) for record in records], now)


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_NEW(), rows)


def _change(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        ids = [{"_id": row["id"]} for row in rows]
        values = [{name: value for name, value in row.items() if name not in _FIXED} for row in rows]
        connection.execute(_CHANGE(), [value | named for value, named in zip(values, ids, strict=True)])
        connection.execute(_FORGET(), ids)


def _states(connection: Connection, ids: Sequence[str]) -> dict[str, _State]:
    states: dict[str, _State] = {}
    for chunk in chunks(ids):
        rows = connection.execute(_STATES(), {"ids": chunk})
        states.update((row.id, _State(Status(row.status), row.current)) for row in rows)
    return states


def _places(connection: Connection, run_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    ids = list(run_ids)
    columns: dict[str, dict[str, Any]] = {}
    for chunk in chunks(ids):
        rows = connection.execute(_PLACES(), {"ids": chunk})
        columns.update((row.id, {"number": row.number, "pipeline": row.pipeline}) for row in rows)
    for run in ids:
        if run not in columns:
            message = f"the history is damaged: it holds no run {run}, so its executions cannot be recorded"
            raise HistoryDamaged(message, REPAIR)
    return columns


def _done(pipeline: str, *, done: bool = True) -> Any:
    return (executions.c.pipeline == pipeline) & executions.c.done.is_(true() if done else false())


def _newest_of_each(pipeline: str, *, done: bool = True) -> Subquery:
    # Skips through the index from one name to the next, independent of the number of runs.
    least = select(func.min(executions.c.step).label("step")).where(_done(pipeline, done=done))
    names = least.cte("names", recursive=True)
    following = least.where(executions.c.step > names.c.step).correlate(names).scalar_subquery()
    names = names.union_all(select(following).where(names.c.step.is_not(None)))
    newest = select(func.max(executions.c.number)).where(_done(pipeline, done=done), executions.c.step == names.c.step)
    number = newest.correlate(names).scalar_subquery().label("number")
    return select(names.c.step, number).where(names.c.step.is_not(None)).subquery()


def _records(connection: Connection, rows: Sequence[Row[Any]]) -> list[ExecutionRecord]:
    artifacts: dict[str, list[Artifact]] = defaultdict(list)
    for chunk in chunks([row.id for row in rows]):
        for row in connection.execute(_OUTPUTS(), {"ids": chunk}):
            artifacts[row.execution].append(artifact_from(row))
    components = text_pool.load_components(connection, [row.components for row in rows])
    observed = text_pool.load_observed(connection, [row.observed for row in rows])
    return [execution_from(row, components[row.components], artifacts[row.id], observed[row.observed]) for row in rows]
