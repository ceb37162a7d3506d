"""A new history from a damaged one: every row that is whole, and what the logs and kept records say of the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from nbpipe.history import event_log, pipelines
from nbpipe.history.database import Repository
from nbpipe.history.inspection import DatabaseContents, Row, RunLog, executions_of, intact_events, read_contents
from nbpipe.history.rebuild_archive import ArchivedRun, free_number, lost_run
from nbpipe.history.row_mapping import (
    as_row,
    attempt_from,
    attempt_to_row,
    execution_to_row,
    output_to_row,
)
from nbpipe.history.runs import run_to_row
from nbpipe.history.schema import metadata
from nbpipe.history.sequences import is_plausible, raise_to
from nbpipe.model import AttemptChanged, AttemptRecord, ExecutionRecord, PipelineRecord, RunChanged, Status

_TABLES = metadata.tables
_BATCH = 100


@contextmanager
def damaged_database(path: Path) -> Iterator[DamagedDatabase]:
    """Yield everything that can be read from a database that may be damaged in any way."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            contents = read_contents(connection)
        except sqlite3.Error as error:
            contents = DatabaseContents(problems=[str(error)])
        yield DamagedDatabase(contents, intact_events(connection, contents))


@dataclass(frozen=True, slots=True)
class DamagedDatabase:
    """What can be read from a damaged database; the entries of its logs apart, since they may be very many."""

    contents: DatabaseContents
    events: Iterator[Row]


class SalvageRepository(Repository):
    """Takes what is whole of a damaged database over into a new one."""

    def take_over(self, damaged: DamagedDatabase, archived: Mapping[str, ArchivedRun], now: float) -> None:
        """Write everything that is known of the runs of a damaged database, in one transaction.

        ``archived`` are the kept records of runs by id; they stand for the values that are lost.
        """
        contents = damaged.contents
        with self._database.writing() as connection:
            _insert(connection, "pipelines", contents.rows["pipelines"].values())
            _insert(connection, "texts", contents.rows["texts"].values())
            known = executions_of(contents)
            runs = _run_ids(contents)
            for run in runs:
                _take_run(connection, contents, run, archived.get(run), known)
            events = (row for row in damaged.events if row["run"] in runs)
            for batch in iter(lambda: list(islice(events, _BATCH)), []):
                _insert(connection, "events", batch)
            _take_entries(connection, contents)
            _take_datasets(connection, contents)
            for run, log in contents.logs.items():
                _complete_log(connection, run, log, known, now)
            for name, row in contents.rows["counters"].items():
                raise_to(connection, name, row["value"])


def _run_ids(contents: DatabaseContents) -> dict[str, None]:
    ids = dict.fromkeys([*contents.rows["runs"], *contents.damaged["runs"], *contents.logs])
    column = _TABLES["runs"].c.id.type
    return {run: None for run in ids if column.accepts(run)}  # type: ignore[attr-defined]  # ours


def _insert(connection: Connection, table: str, rows: Any) -> None:
    listed = list(rows)
    if listed:
        connection.execute(insert(_TABLES[table]), listed)


def _take_run(
    connection: Connection,
    contents: DatabaseContents,
    run: str,
    archived: ArchivedRun | None,
    known: Mapping[str, ExecutionRecord],
) -> None:
    log = contents.logs[run]
    row = _run_row(contents, run, archived or lost_run(run))
    row |= {"events": len(log.numbers)}
    if log.whole and log.status is not None:
        row |= {"status": log.status.value, "ended": log.ended}
    if row["pipeline"] not in contents.rows["pipelines"]:
        pipeline = archived.pipeline if archived else PipelineRecord(row["pipeline"], row["notebook"])
        pipelines.keep(connection, replace(pipeline, id=row["pipeline"]))
    row["number"] = free_number(connection, row["number"])
    connection.execute(insert(_TABLES["runs"]).values(row))
    place = {"number": row["number"], "pipeline": row["pipeline"]}
    for record in _executions_of_run(run, log, known):
        _take_execution(connection, contents, record, place)
    for attempt in _attempts_of_run(contents, run, log).values():
        _take_attempt(connection, contents, attempt)


def _run_row(contents: DatabaseContents, run: str, archived: ArchivedRun) -> Row:
    """Return a run's row, with the kept record's values in the place of those that are lost."""
    whole = contents.rows["runs"].get(run)
    if whole is not None:
        return dict(whole)
    row = run_to_row(archived.run)
    row |= {name: value for name, value in contents.damaged["runs"].get(run, {}).items() if name in _PLAIN}
    return row if is_plausible(row["number"]) else row | {"number": archived.run.number}


_PLAIN = ("id", "number", "notebook", "experiment", "started", "ended", "owner", "cancel_asked")


def _executions_of_run(run: str, log: RunLog, known: Mapping[str, ExecutionRecord]) -> list[ExecutionRecord]:
    """Return the executions of a run: as its log has them if that is whole, else as the tables have them."""
    if log.whole:
        return list(log.executions.values())
    tables = {key: record for key, record in known.items() if record.run == run}
    return list((log.executions | tables).values())


def _take_execution(connection: Connection, contents: DatabaseContents, record: ExecutionRecord, place: Row) -> None:
    rows, texts = contents.rows["executions"], contents.rows["texts"]
    row = rows.get(record.id) or contents.damaged["executions"].get(record.id, {})
    components, observed = (row.get(name) if row.get(name) in texts else None for name in ("components", "observed"))
    values = execution_to_row(record, components, observed) | place | {"cancel_asked": row.get("cancel_asked")}
    connection.execute(insert(_TABLES["executions"]).values(values))
    _insert(connection, "outputs", [output_to_row(record, at) | place for at in range(len(record.artifacts))])


def _attempts_of_run(contents: DatabaseContents, run: str, log: RunLog) -> dict[str, AttemptRecord]:
    if log.whole:
        return log.attempts
    rows = contents.rows["attempts"]
    return log.attempts | {key: attempt_from(as_row(row)) for key, row in rows.items() if row["run"] == run}


def _take_attempt(connection: Connection, contents: DatabaseContents, attempt: AttemptRecord) -> None:
    execution = _TABLES["executions"].select().where(_TABLES["executions"].c.id == attempt.execution)
    if connection.execute(execution).first() is None:
        return
    row = contents.rows["attempts"].get(attempt.id) or contents.damaged["attempts"].get(attempt.id, {})
    pieces = max(contents.logs[attempt.run].pieces.get(attempt.id, 0), attempt.pieces)
    values = attempt_to_row(replace(attempt, pieces=pieces))
    values |= {"quarantined": row.get("quarantined"), "why": row.get("why")}
    connection.execute(insert(_TABLES["attempts"]).values(values))
    raise_to(connection, "token", attempt.token)


def _take_entries(connection: Connection, contents: DatabaseContents) -> None:
    """Write the entries under which results may be reused; one that is damaged in any way is offered no more."""
    attempts = _TABLES["attempts"].c
    succeeded = select(attempts.id).where(attempts.status == Status.SUCCEEDED.value)
    known = set(connection.scalars(succeeded))
    _insert(connection, "entries", [row for row in contents.rows["entries"].values() if row["attempt"] in known])


def _take_datasets(connection: Connection, contents: DatabaseContents) -> None:
    """Write the versions of datasets and their labels; of two with one content, whose index is damaged, the older."""
    ordered = sorted(contents.rows["dataset_versions"].values(), key=lambda row: -row["number"])
    by_content = {(row["name"], row["digest"], row["recipe"]): row for row in ordered}
    _insert(connection, "dataset_versions", by_content.values())
    known = {(row["name"], row["number"]) for row in by_content.values()}
    labels = contents.rows["dataset_labels"].values()
    _insert(connection, "dataset_labels", [row for row in labels if (row["name"], row["number"]) in known])


def _complete_log(
    connection: Connection, run: str, log: RunLog, known: Mapping[str, ExecutionRecord], now: float
) -> None:
    """Add the last states that a log has lost."""
    if log.whole:
        return
    row = connection.execute(_TABLES["runs"].select().where(_TABLES["runs"].c.id == run)).first()
    if row is None:
        return
    changed = [record for key, record in known.items() if record.run == run and log.executions.get(key) != record]
    facts = [event_log.execution_changed(record) for record in changed]
    attempts = _TABLES["attempts"].select().where(_TABLES["attempts"].c.run == run)
    stored = [attempt_from(each) for each in connection.execute(attempts)]
    more = [AttemptChanged(each) for each in stored if log.attempts.get(each.id) != each]
    event_log.append(connection, run, [*facts, *more, RunChanged(Status(row.status), row.ended)], now)
