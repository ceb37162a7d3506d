"""The steps of the runs, with their outputs: written, read, and the newest of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Subquery, bindparam, delete, func, insert, select, true, update

from nbpipe.errors import HistoryOutOfReach
from nbpipe.history import texts
from nbpipe.history.database import Part, chunks
from nbpipe.history.records import artifact_from, output_to_row, step_from, step_to_row
from nbpipe.history.schema import outputs, runs, steps
from nbpipe.model import Artifact, Status, StepRecord

_Name = tuple[str, str]
_FIXED = ("run", "step", "pipeline", "number")
_CHANGE = update(steps).where(steps.c.run == bindparam("_run"), steps.c.step == bindparam("_step"))
_FORGET = delete(outputs).where(outputs.c.run == bindparam("_run"), outputs.c.step == bindparam("_step"))


class Steps(Part):
    """What became of each step of each run."""

    def put_steps(self, records: Sequence[StepRecord]) -> None:
        """Write the records together; one that has ended keeps its status, whatever is told later."""
        if records:
            with self._database.writing() as connection:
                write(connection, records)

    def steps(self, run: str) -> list[StepRecord]:
        """Get the run's steps in notebook order."""
        wanted = select(steps).where(steps.c.run == run).order_by(steps.c.position, steps.c.step)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
            found = connection.execute(_in_order(select(outputs).where(outputs.c.run == run))).all()
            return _records(connection, rows, found)

    def step_marks(self, run: str) -> dict[str, tuple[object, ...]]:
        """Get for each step of a run what differs whenever the step's record has changed."""
        told = (steps.c.status, steps.c.attempts, steps.c.started, steps.c.ended, steps.c.notes)
        with self._database.reading() as connection:
            rows = connection.execute(select(steps.c.step, *told).where(steps.c.run == run)).all()
            return {row[0]: tuple(row[1:]) for row in rows}

    def steps_named(self, run: str, names: Sequence[str]) -> list[StepRecord]:
        """Get some of the run's steps."""
        with self._database.reading() as connection:
            found: list[StepRecord] = []
            for chunk in chunks(names):
                rows = connection.execute(select(steps).where(steps.c.run == run, steps.c.step.in_(chunk))).all()
                made = select(outputs).where(outputs.c.run == run, outputs.c.step.in_(chunk))
                found += _records(connection, rows, connection.execute(_in_order(made)).all())
            return found

    def statuses(self, run: str) -> dict[str, Status]:
        """Get the status of each of the run's steps."""
        wanted = select(steps.c.step, steps.c.status).where(steps.c.run == run)
        with self._database.reading() as connection:
            return {row.step: Status(row.status) for row in connection.execute(wanted)}

    def latest_steps(self, notebook: str) -> dict[str, StepRecord]:
        """Get for each step its record in the newest run of the notebook in which it succeeded or was reused."""
        newest = _newest_of_each(notebook)
        is_newest = (steps.c.step == newest.c.step) & (steps.c.number == newest.c.number) & _done(notebook)
        of_newest = (outputs.c.run == steps.c.run) & (outputs.c.step == steps.c.step)
        made = select(outputs).select_from(newest).join(steps, is_newest).join(outputs, of_newest)
        with self._database.reading() as connection:
            rows = connection.execute(select(steps).select_from(newest).join(steps, is_newest)).all()
            found = connection.execute(_in_order(made)).all()
            return {record.step: record for record in _records(connection, rows, found)}

    def recent(self, notebook: str, step: str, limit: int) -> list[StepRecord]:
        """Get the step's records in the newest runs in which it succeeded or was reused, newest first."""
        wanted = select(steps).where(_done(notebook), steps.c.step == step).order_by(steps.c.number.desc()).limit(limit)
        with self._database.reading() as connection:
            return _records(connection, connection.execute(wanted).all(), ())

    def find_output(self, notebook: str | None, step: str | None, output: str) -> Artifact | None:
        """Get the output of that name from the newest run that has it, of this notebook and step if they are named."""
        of_step = (outputs.c.run == steps.c.run) & (outputs.c.step == steps.c.step)
        wanted = select(outputs).join(steps, of_step).where(outputs.c.name == output, steps.c.done.is_(true()))
        if notebook is not None:
            wanted = wanted.where(steps.c.pipeline == notebook)
        if step is not None:
            wanted = wanted.where(steps.c.step == step)
        with self._database.reading() as connection:
            newest = wanted.order_by(steps.c.number.desc(), steps.c.position).limit(1)
            row = connection.execute(newest).first()
            return None if row is None else artifact_from(row)


def write(connection: Connection, records: Sequence[StepRecord]) -> None:
    """Write the records inside the caller's transaction."""
    latest = {(record.run, record.step): record for record in records}
    known = _statuses(connection, latest)
    accepted = {name: record for name, record in latest.items() if may_become(known.get(name), record.status)}
    found = texts.Texts()
    places = _places(connection, {run for run, _ in accepted})
    rows = {
        name: step_to_row(record, found.add_components(record.components), found.add_observed(record.observed))
        | places[name[0]]
        for name, record in accepted.items()
    }
    found.store(connection)
    _insert(connection, [row for name, row in rows.items() if name not in known])
    _change(connection, [row for name, row in rows.items() if name in known])
    made = [
        output_to_row(record, position, places[record.run]["number"])
        for record in accepted.values()
        for position in range(len(record.artifacts))
    ]
    if made:
        connection.execute(insert(outputs), made)


def status_of(connection: Connection, run: str, step: str) -> Status | None:
    """Get the status that the step has now."""
    return _statuses(connection, [(run, step)]).get((run, step))


def may_become(present: Status | None, status: Status) -> bool:
    """Say whether a step may get this status: what has ended stays as it ended."""
    return present is None or not present.terminal or present == status


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(steps), rows)


def _change(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        places = [{"_run": row["run"], "_step": row["step"]} for row in rows]
        values = [{name: value for name, value in row.items() if name not in _FIXED} for row in rows]
        connection.execute(_CHANGE, [value | place for value, place in zip(values, places, strict=True)])
        connection.execute(_FORGET, places)


def _statuses(connection: Connection, names: Iterable[_Name]) -> dict[_Name, Status]:
    of_run: dict[str, list[str]] = defaultdict(list)
    for run, step in names:
        of_run[run].append(step)
    found: dict[_Name, Status] = {}
    for run, wanted in of_run.items():
        for chunk in chunks(wanted):
            asked = select(steps.c.step, steps.c.status).where(steps.c.run == run, steps.c.step.in_(chunk))
            rows = connection.execute(asked.with_for_update()).all()
            found.update(((run, row.step), Status(row.status)) for row in rows)
    return found


def _places(connection: Connection, wanted: set[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for chunk in chunks(list(wanted)):
        rows = connection.execute(select(runs.c.id, runs.c.number, runs.c.notebook).where(runs.c.id.in_(chunk)))
        found.update((row.id, {"number": row.number, "pipeline": row.notebook}) for row in rows)
    for run in wanted - found.keys():
        raise HistoryOutOfReach(f"the history holds no run {run}, so it cannot take its steps")
    return found


def _done(notebook: str) -> Any:
    return (steps.c.pipeline == notebook) & steps.c.done.is_(true())


def _newest_of_each(notebook: str) -> Subquery:
    # Steps over the index from one name to the next, so that the number of runs does not matter.
    least = select(func.min(steps.c.step).label("step")).where(_done(notebook))
    names = least.cte("names", recursive=True)
    following = least.where(steps.c.step > names.c.step).correlate(names).scalar_subquery()
    names = names.union_all(select(following).where(names.c.step.is_not(None)))
    newest = select(func.max(steps.c.number)).where(_done(notebook), steps.c.step == names.c.step).correlate(names)
    return select(names.c.step, newest.scalar_subquery().label("number")).where(names.c.step.is_not(None)).subquery()


def _in_order(wanted: Select[Any]) -> Select[Any]:
    return wanted.order_by(outputs.c.run, outputs.c.step, outputs.c.position)


def _records(connection: Connection, rows: Sequence[Row[Any]], made: Iterable[Row[Any]]) -> list[StepRecord]:
    artifacts: dict[_Name, list[Artifact]] = defaultdict(list)
    for row in made:
        artifacts[row.run, row.step].append(artifact_from(row))
    components = texts.load_components(connection, [row.components for row in rows])
    observed = texts.load_observed(connection, [row.observed for row in rows])
    return [
        step_from(row, components[row.components], artifacts[row.run, row.step], observed[row.observed]) for row in rows
    ]
