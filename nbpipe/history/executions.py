"""The executions of the runs, with their outputs: written, read, and the newest of each step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, Subquery, bindparam, delete, false, func, insert, select, true, update

from nbpipe.errors import HistoryOutOfReach
from nbpipe.history import event_log, text_pool
from nbpipe.history.database import Repository, chunks
from nbpipe.history.row_mapping import artifact_from, execution_from, execution_to_row, output_to_row
from nbpipe.history.schema import executions, outputs, runs
from nbpipe.model import Artifact, ExecutionRecord, Status

_FIXED = ("id", "run", "step", "pipeline", "number")
_CHANGE = update(executions).where(executions.c.id == bindparam("_id"))
_FORGET = delete(outputs).where(outputs.c.execution == bindparam("_id"))


class ExecutionRepository(Repository):
    """What became of each step of each run."""

    def of_run(self, run: str) -> list[ExecutionRecord]:
        """Return the current executions of a run in notebook order."""
        return self._read(select(executions).where(executions.c.run == run, executions.c.current.is_(true())))

    def all_of_run(self, run: str) -> list[ExecutionRecord]:
        """Return all executions of a run in notebook order, those that were replaced among them."""
        return self._read(select(executions).where(executions.c.run == run))

    def tried_in(self, wanted: Sequence[str]) -> dict[str, list[str]]:
        """Return for each of some runs the names of the steps that were executed in it, in notebook order."""
        found: dict[str, dict[str, None]] = {run: {} for run in wanted}
        with self._database.reading() as connection:
            for chunk in chunks(wanted):
                tried = (executions.c.run.in_(chunk)) & (executions.c.attempts > 0)
                asked = select(executions.c.run, executions.c.step).where(tried)
                for row in connection.execute(asked.order_by(executions.c.position, executions.c.step)):
                    found[row.run][row.step] = None
        return {run: list(steps) for run, steps in found.items()}

    def get(self, ids: Sequence[str]) -> list[ExecutionRecord]:
        """Return the executions with these ids, as far as they are known."""
        found: list[ExecutionRecord] = []
        for chunk in chunks(ids):
            found += self._read(select(executions).where(executions.c.id.in_(chunk)))
        return found

    def of_step(self, run: str, step: str) -> ExecutionRecord | None:
        """Return the current execution of a run's step."""
        wanted = select(executions).where(executions.c.run == run, executions.c.step == step)
        found = self._read(wanted.where(executions.c.current.is_(true())))
        return found[0] if found else None

    def latest(self, pipeline: str) -> dict[str, ExecutionRecord]:
        """Return for each step its execution in the newest run of the pipeline in which it has its outputs."""
        newest = _newest_of_each(pipeline)
        is_newest = (executions.c.step == newest.c.step) & (executions.c.number == newest.c.number) & _done(pipeline)
        found = self._read(select(executions).select_from(newest).join(executions, is_newest))
        return {record.step: record for record in found}

    def newest(self, pipeline: str) -> dict[str, ExecutionRecord]:
        """Return for each step its execution in the newest run of the pipeline that has the step, however it ended."""
        found: dict[str, tuple[int, ExecutionRecord]] = {}
        with self._database.reading() as connection:
            for done in (True, False):
                newest = _newest_of_each(pipeline, done=done)
                is_newest = (executions.c.step == newest.c.step) & (executions.c.number == newest.c.number)
                is_newest &= _done(pipeline, done=done) & executions.c.current.is_(true())
                rows = connection.execute(select(executions).select_from(newest).join(executions, is_newest)).all()
                for row, record in zip(rows, _records(connection, rows), strict=True):
                    if record.step not in found or found[record.step][0] < row.number:
                        found[record.step] = row.number, record
        return {step: record for step, (_, record) in found.items()}

    def recent(self, pipeline: str, step: str, limit: int) -> list[ExecutionRecord]:
        """Return the step's executions in the newest runs in which it has its outputs, newest first."""
        wanted = select(executions).where(_done(pipeline), executions.c.step == step)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(executions.c.number.desc()).limit(limit)).all()
            return _records(connection, rows)

    def find_output(self, pipeline: str | None, step: str | None, output: str) -> Artifact | None:
        """Return the newest output of that name, of this pipeline and this step where they are named."""
        made = executions.c.id == outputs.c.execution
        wanted = select(outputs).join(executions, made).where(outputs.c.name == output, executions.c.done.is_(true()))
        number = outputs.c.number
        if step is not None:
            wanted = wanted.where(executions.c.step == step)
        if pipeline is not None and step is not None:
            # The index by which both are found is the executions' own.
            wanted, number = wanted.where(executions.c.pipeline == pipeline), executions.c.number
        elif pipeline is not None:
            wanted = wanted.where(outputs.c.pipeline == pipeline)
        with self._database.reading() as connection:
            newest = wanted.order_by(number.desc(), executions.c.position).limit(1)
            row = connection.execute(newest).first()
            return None if row is None else artifact_from(row)

    def ask_cancel(self, execution: str, now: float) -> None:
        """Ask whoever carries the run to stop one execution; those that do not need it go on."""
        with self._database.writing() as connection:
            asked = update(executions).where(executions.c.id == execution)
            connection.execute(asked.values(cancel_asked=now))

    def _read(self, wanted: Select[Any]) -> list[ExecutionRecord]:
        with self._database.reading() as connection:
            return read(connection, wanted.order_by(executions.c.position, executions.c.step))


def read(connection: Connection, wanted: Select[Any]) -> list[ExecutionRecord]:
    """Return the executions that a question is about, inside the caller's transaction."""
    return _records(connection, connection.execute(wanted).all())


def write(connection: Connection, records: Sequence[ExecutionRecord], now: float) -> None:
    """Write executions inside the caller's transaction.

    Whatever is told later, one that has ended keeps its status, and one that was replaced stays replaced.
    """
    latest = {record.id: record for record in records}
    known = _statuses(connection, list(latest))
    replaced = _replaced(connection, known)
    accepted = [
        replace(record, current=False) if record.id in replaced else record
        for record in latest.values() if may_become(known.get(record.id), record.status)
    ]  # fmt: skip
    texts = text_pool.TextPool()
    places = _places(connection, dict.fromkeys(record.run for record in accepted))
    rows = [
        execution_to_row(record, texts.add_components(record.components), texts.add_observed(record.observed))
        | places[record.run]
        for record in accepted
    ]
    texts.store(connection)
    _insert(connection, [row for row in rows if row["id"] not in known])
    _change(connection, [row for row in rows if row["id"] in known])
    made = [
        output_to_row(record, position) | places[record.run]
        for record in accepted
        for position in range(len(record.artifacts))
    ]
    if made:
        connection.execute(insert(outputs), made)
    _log(connection, accepted, now)


def supersede(connection: Connection, ids: Sequence[str], now: float) -> None:
    """Note inside the caller's transaction that newer executions stand for the steps of these ones."""
    for chunk in chunks(ids):
        theirs = executions.c.id.in_(chunk) & executions.c.current.is_(true())
        changed = update(executions).where(theirs).values(current=False, done=False).returning(executions.c.id)
        found = list(connection.scalars(changed))
        _log(connection, read(connection, select(executions).where(executions.c.id.in_(found))), now)


def status_of(connection: Connection, execution: str) -> Status | None:
    """Return the status that the execution has now."""
    return _statuses(connection, [execution]).get(execution)


def may_become(present: Status | None, status: Status) -> bool:
    """Return whether an execution may get this status: what has ended stays as it ended."""
    return present is None or not present.terminal or present == status


def _log(connection: Connection, changed: Sequence[ExecutionRecord], now: float) -> None:
    by_run: dict[str, list[ExecutionRecord]] = defaultdict(list)
    for record in changed:
        by_run[record.run].append(record)
    for run, records in by_run.items():
        event_log.append(connection, run, [event_log.execution_changed(record) for record in records], now)


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(executions), rows)


def _change(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        ids = [{"_id": row["id"]} for row in rows]
        values = [{name: value for name, value in row.items() if name not in _FIXED} for row in rows]
        connection.execute(_CHANGE, [value | named for value, named in zip(values, ids, strict=True)])
        connection.execute(_FORGET, ids)


def _statuses(connection: Connection, ids: Sequence[str]) -> dict[str, Status]:
    found: dict[str, Status] = {}
    for chunk in chunks(ids):
        asked = select(executions.c.id, executions.c.status).where(executions.c.id.in_(chunk))
        found.update((row.id, Status(row.status)) for row in connection.execute(asked.with_for_update()))
    return found


def _replaced(connection: Connection, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunks(list(ids)):
        asked = select(executions.c.id).where(executions.c.id.in_(chunk), executions.c.current.is_not(true()))
        found.update(connection.scalars(asked))
    return found


def _places(connection: Connection, wanted: Iterable[str]) -> dict[str, dict[str, Any]]:
    named = list(wanted)
    found: dict[str, dict[str, Any]] = {}
    for chunk in chunks(named):
        rows = connection.execute(select(runs.c.id, runs.c.number, runs.c.pipeline).where(runs.c.id.in_(chunk)))
        found.update((row.id, {"number": row.number, "pipeline": row.pipeline}) for row in rows)
    for run in named:
        if run not in found:
            raise HistoryOutOfReach(f"the history holds no run {run}, so it cannot take its executions")
    return found


def _done(pipeline: str, *, done: bool = True) -> Any:
    return (executions.c.pipeline == pipeline) & executions.c.done.is_(true() if done else false())


def _newest_of_each(pipeline: str, *, done: bool = True) -> Subquery:
    # Steps over the index from one name to the next, so that the number of runs does not matter.
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
        made = select(outputs).where(outputs.c.execution.in_(chunk)).order_by(outputs.c.execution, outputs.c.position)
        for row in connection.execute(made):
            artifacts[row.execution].append(artifact_from(row))
    components = text_pool.load_components(connection, [row.components for row in rows])
    observed = text_pool.load_observed(connection, [row.observed for row in rows])
    return [execution_from(row, components[row.components], artifacts[row.id], observed[row.observed]) for row in rows]
