"""Everything in a database, read row by row: what is whole, and what nbpipe cannot have written.

It reads with SQLite alone, so that one damaged row, or one damaged page, hides no other.
"""

from __future__ import annotations

import contextlib
import sqlite3
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Table

from nbpipe.codec import unpack
from nbpipe.history import text_pool
from nbpipe.history.column_types import CheckedType
from nbpipe.history.database import Repository
from nbpipe.history.datasets import label_from, version_from
from nbpipe.history.event_log import EventKind, entry_damage, fact_from, gap_damage
from nbpipe.history.row_mapping import (
    DONE,
    artifact_from,
    as_row,
    attempt_from,
    execution_from,
    pipeline_from,
    run_from,
)
from nbpipe.history.schema import metadata
from nbpipe.history.schema_objects import STATEMENTS, acting_objects, real_tables
from nbpipe.history.sequences import is_plausible
from nbpipe.model import (
    AttemptChanged,
    AttemptRecord,
    ExecutionChanged,
    ExecutionRecord,
    OutputWritten,
    RunChanged,
    RunFact,
    Status,
)

Row = dict[str, Any]
_READERS: Mapping[str, Callable[[Any], object]] = {
    "pipelines": pipeline_from,
    "dataset_versions": version_from,
    "dataset_labels": label_from,
}
_CACHES = ("claims", "condemned", "condemned_results", "deliveries", "remembered", "remembered_objects")


@dataclass(slots=True)
class RunLog:
    """What the log of one run says: the last state of the run, of its executions and of its attempts.

    ``numbers`` are those of the entries that can be read, ascending; the log is ``whole`` if none is missing.
    """

    numbers: array[int] = field(default_factory=lambda: array("q"))
    whole: bool = True
    status: Status | None = None
    ended: float | None = None
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    attempts: dict[str, AttemptRecord] = field(default_factory=dict)
    pieces: dict[str, int] = field(default_factory=dict)
    _latest: dict[str, int] = field(default_factory=dict)

    def take(self, number: int, fact: RunFact) -> None:
        """Note what an entry says, unless a later one has said it; those behind a damaged page come last first."""
        self.numbers.append(number)
        match fact:
            case RunChanged(status, ended) if self._is_latest("run", number):
                self.status, self.ended = status, ended
            case ExecutionChanged(record) if self._is_latest(record.id, number):
                self.executions[record.id] = record
            case AttemptChanged(attempt) if self._is_latest(attempt.id, number):
                self.attempts[attempt.id] = attempt
            case OutputWritten(name, _, last) if last > self.pieces.get(name, 0):
                self.pieces[name] = last

    def _is_latest(self, about: str, number: int) -> bool:
        latest = number > self._latest.get(about, 0)
        if latest:
            self._latest[about] = number
        return latest


@dataclass(slots=True)
class DatabaseContents:
    """The rows of a database that are whole, by table and primary key, its logs by run, and its ``problems``.

    ``damaged`` are rows that can be read in part: their values of the right type.
    """

    rows: dict[str, dict[Any, Row]] = field(default_factory=lambda: defaultdict(dict))
    damaged: dict[str, dict[Any, Row]] = field(default_factory=lambda: defaultdict(dict))
    logs: dict[str, RunLog] = field(default_factory=lambda: defaultdict(RunLog))
    problems: list[str] = field(default_factory=list)


class InspectionRepository(Repository):
    """Reads everything that the database holds."""

    def damage(self) -> list[str]:
        """Return what is wrong in the file, in its rows and in the logs of its runs; empty if nothing is."""
        with self._database.reading() as connection:
            driver: Any = connection.connection.driver_connection
            return read_contents(driver).problems


class _Undecodable:
    """A text that is not UTF-8."""

    def __repr__(self) -> str:
        return "text that is not UTF-8"


def read_contents(connection: sqlite3.Connection) -> DatabaseContents:
    """Return everything that can be read from a database, and what is wrong with it."""
    factory, connection.text_factory = connection.text_factory, _text_or_undecodable
    try:
        contents = DatabaseContents()
        contents.problems += _structure(connection)
        for table in metadata.sorted_tables:
            if table.name != "events":
                _read_table(connection, table, contents)
        _read_logs(connection, contents)
    finally:
        connection.text_factory = factory
    _check_references(contents)
    _check_runs(contents)
    _check_counters(contents)
    return contents


def _text_or_undecodable(raw: bytes) -> Any:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return _Undecodable()


def _structure(connection: sqlite3.Connection) -> Iterator[str]:
    try:
        lines = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(20)")]
        yield from (line for line in lines if line != "ok")
        statements = list(connection.execute(STATEMENTS))
    except sqlite3.Error as error:
        yield str(error)
        return
    yield from (f"{name!r:.60} is a view or trigger that nbpipe did not make" for name in acting_objects(statements))
    there = {str(name) for name, _ in statements} - metadata.tables.keys() | real_tables(statements)
    for table in metadata.sorted_tables:
        expected = [table.name, *(str(index.name) for index in table.indexes)]
        yield from (f"`{name}` is missing" for name in expected if name not in there)


def raw_rows(connection: sqlite3.Connection, table: Table, problems: list[str]) -> Iterator[Row]:
    """Yield the rows of a table that can be read, from both of its ends where a page between them cannot."""
    columns = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    try:
        if table.name not in real_tables(connection.execute(STATEMENTS)):
            # Said where the structure is looked at; reading what stands in its place may never end.
            return
        for values in connection.execute(_ordered(table, columns, "ASC")):
            yield dict(zip(columns, values, strict=True))
    except sqlite3.Error as error:
        problems.append(f"table {table.name}: {error}")
    else:
        return
    seen: set[Any] = set()
    with contextlib.suppress(sqlite3.Error):
        seen.update(connection.execute(_ordered(table, keys, "ASC")))
    try:
        for values in connection.execute(_ordered(table, columns, "DESC")):
            row = dict(zip(columns, values, strict=True))
            if tuple(row[name] for name in keys) not in seen:
                yield row
    except sqlite3.Error as error:
        problems.append(f"table {table.name}: {error}")


def _ordered(table: Table, columns: Sequence[str], direction: str) -> str:
    keys = [column.name for column in table.primary_key] if table.name == "events" else ["rowid"]
    order = ", ".join(f"{key} {direction}" for key in keys)
    return f"SELECT {', '.join(columns)} FROM {table.name} NOT INDEXED ORDER BY {order}"  # noqa: S608  # ours


def _read_table(connection: sqlite3.Connection, table: Table, contents: DatabaseContents) -> None:
    for row in raw_rows(connection, table, contents.problems):
        key = _key(table, row)
        whole, error = _checked(table, row)
        if error is None:
            contents.rows[table.name][key] = whole
        else:
            contents.damaged[table.name][key] = whole
            contents.problems.append(f"table {table.name}, row {_shown(key)}: {error}")


def _key(table: Table, row: Mapping[str, Any]) -> Any:
    values = tuple(row[column.name] for column in table.primary_key)
    return values[0] if len(values) == 1 else values


def _shown(key: Any) -> str:
    return f"{key!r:.60}"


def _checked(table: Table, row: Mapping[str, Any]) -> tuple[Row, str | None]:
    """Return a row's values of the right type, and what is wrong with the others or with the row."""
    values: Row = {}
    errors: list[str] = []
    for column in table.columns:
        value = row[column.name]
        try:
            values[column.name] = column.type.checked(value) if isinstance(column.type, CheckedType) else value
        except ValueError as error:
            errors.append(f"{column.name}: {error}")
    if not errors:
        try:
            _decode(table.name, values)
        except (ValueError, LookupError) as error:
            errors.append(str(error))
    return values, "; ".join(errors) or None


def _decode(table: str, values: Row) -> None:
    """Raise ValueError if a row of values of the right types does not say what such a row can say."""
    row = as_row(values)
    if table in _READERS:
        _READERS[table](row)
        return
    match table:
        case "runs":
            _require_plausible(run_from(row, "").number)
        case "executions":
            record = execution_from(row, (), ())
            if values["done"] != (record.current and record.status in DONE):
                raise ValueError("`done` contradicts its status")
        case "attempts":
            _require_plausible(attempt_from(row).token)
        case "texts":
            text_pool.text_from(row.digest, row.text)
        case "meta":
            if row.name != "version" or not row.value.isdecimal():
                raise ValueError("it is no version")
        case "counters":
            if row.name not in ("run", "token"):
                raise ValueError("nothing is counted by that name")
            _require_plausible(row.value)
        case "remembered":
            int(row.device), int(row.inode)


def _require_plausible(number: int) -> None:
    if not is_plausible(number):
        raise ValueError(f"no workspace counts up to {number}")


def _read_logs(connection: sqlite3.Connection, contents: DatabaseContents) -> None:
    table = metadata.tables["events"]
    for row in raw_rows(connection, table, contents.problems):
        values, error = _checked(table, row)
        log = contents.logs[str(row["run"])]
        if error is None:
            error = _take(log, values)
        if error is not None:
            log.whole = False
            contents.problems.append(entry_damage(row["run"], row["number"], error))
    rows = {**contents.damaged["runs"], **contents.rows["runs"]}
    for run in [*rows, *(contents.logs.keys() - rows.keys())]:
        log = contents.logs[run]
        log.numbers = numbers = array("q", sorted(log.numbers))
        missing = next((at for at, number in enumerate(numbers, 1) if number != at), len(numbers) + 1)
        length = rows[run].get("events") if run in rows else len(numbers)
        if log.whole and (missing <= len(numbers) or length != len(numbers)):
            log.whole = False
            contents.problems.append(gap_damage(run, missing))


def intact_events(connection: sqlite3.Connection, contents: DatabaseContents) -> Iterator[Row]:
    """Yield the entries of the logs that can be read, numbered anew without gaps; in no order if a page is damaged."""
    connection.text_factory = _text_or_undecodable
    for row in raw_rows(connection, metadata.tables["events"], []):
        log, number = contents.logs.get(str(row["run"])), row["number"]
        if log is not None and isinstance(number, int):
            position = bisect_left(log.numbers, number)
            if position < len(log.numbers) and log.numbers[position] == number:
                yield row | {"number": position + 1}


def _take(log: RunLog, row: Row) -> str | None:
    try:
        fact = fact_from(EventKind(row["kind"]), unpack(row["fact"]))
    except ValueError as error:
        return str(error)
    match fact:
        case ExecutionChanged(record) | AttemptChanged(record) if record.run != row["run"]:
            return f"it is of run {record.run!r:.60}"
        case AttemptChanged(attempt) if not is_plausible(attempt.token):
            return f"no workspace counts up to {attempt.token}"
    log.take(row["number"], fact)
    return None


def _check_references(contents: DatabaseContents) -> None:
    """Find the rows that refer to rows that are missing or damaged; they are damaged themselves."""
    for table in metadata.sorted_tables:
        if table.name in ("events", *_CACHES):
            continue
        for key, row in list(contents.rows[table.name].items()):
            lost = [
                f"{foreign.parent.name}: there is no {foreign.column.table.name[:-1]} {row[foreign.parent.name]!r:.60}"
                for foreign in table.foreign_keys
                if row[foreign.parent.name] is not None
                and row[foreign.parent.name] not in contents.rows[foreign.column.table.name]
            ]
            lost += _undecodable_texts(contents, table.name, row)
            if lost:
                contents.damaged[table.name][key] = contents.rows[table.name].pop(key)
                contents.problems.append(f"table {table.name}, row {_shown(key)}: {'; '.join(sorted(lost))}")
    for key, row in list(contents.rows["dataset_labels"].items()):
        if (row["name"], row["number"]) not in contents.rows["dataset_versions"]:
            contents.damaged["dataset_labels"][key] = contents.rows["dataset_labels"].pop(key)
            contents.problems.append(f"table dataset_labels, row {_shown(key)}: there is no version {row['number']}")
    for run in contents.logs:
        if run not in contents.rows["runs"] and run not in contents.damaged["runs"]:
            contents.problems.append(f"there is a log of run {run!r:.60}, but not the run")


def _undecodable_texts(contents: DatabaseContents, table: str, row: Row) -> Iterator[str]:
    """Yield what is wrong with the texts that a row names for its components and observations."""
    for column, read in (("components", text_pool.components_from), ("observed", text_pool.observed_from)):
        name = row.get(column) if table in ("executions", "entries") else None
        stored = contents.rows["texts"].get(name)
        if stored is not None:
            try:
                read(text_pool.text_from(stored["digest"], stored["text"]))
            except ValueError as error:
                yield f"{column}: {error}"


def executions_of(contents: DatabaseContents) -> dict[str, ExecutionRecord]:
    """Return the executions whose rows are whole, with their outputs, without components and observations."""
    outputs: dict[str, list[Row]] = defaultdict(list)
    for row in contents.rows["outputs"].values():
        outputs[row["execution"]].append(row)
    return {
        key: execution_from(
            as_row(row),
            (),
            [artifact_from(as_row(each)) for each in sorted(outputs[key], key=lambda each: each["position"])],
        )
        for key, row in contents.rows["executions"].items()
    }


def _check_runs(contents: DatabaseContents) -> None:
    """Compare what the tables say with what the logs say: both are written in the same transactions."""
    executions = executions_of(contents)
    attempts = {key: attempt_from(as_row(row)) for key, row in contents.rows["attempts"].items()}
    for run, log in contents.logs.items():
        row = contents.rows["runs"].get(run)
        if not log.whole:
            continue
        if row is not None and (row["status"], row["ended"]) != (log.status, log.ended):
            contents.problems.append(f"run {run} is {row['status']}, and {log.status} in its log")
        for key, record in log.executions.items():
            if executions.get(key) != replace(record, components=(), observed=()):
                contents.problems.append(f"execution {key} of step {record.step!r:.60} is not what its log says")
        for key, attempt in log.attempts.items():
            if key not in attempts or attempts[key] != replace(attempt, pieces=attempts[key].pieces):
                contents.problems.append(f"attempt {key} is not what its log says")
    _check_copies(contents, executions)
    for table in ("executions", "attempts"):
        unknown = contents.rows[table].keys() - _logged(contents, table)
        contents.problems += [f"{table[:-1]} {key!r:.60} is in no log" for key in sorted(unknown)]


def _logged(contents: DatabaseContents, kind: str) -> set[str]:
    """Return the ids that the logs know; those of a log that is not whole count as known."""
    known = {key for log in contents.logs.values() for key in getattr(log, kind)}
    cut = {run for run, log in contents.logs.items() if not log.whole}
    return known | {key for key, row in contents.rows[kind].items() if row["run"] in cut}


def _check_copies(contents: DatabaseContents, executions: Mapping[str, ExecutionRecord]) -> None:
    """Check the columns that rows repeat from their run."""
    for table in ("executions", "outputs"):
        for key, row in contents.rows[table].items():
            record = executions.get(row["id"] if table == "executions" else row["execution"])
            run = contents.rows["runs"].get(record.run) if record else None
            if run is not None and (row["pipeline"], row["number"]) != (run["pipeline"], run["number"]):
                contents.problems.append(f"table {table}, row {_shown(key)} contradicts its run")


def _check_counters(contents: DatabaseContents) -> None:
    counters = {name: row["value"] for name, row in contents.rows["counters"].items()}
    runs = _largest(contents.rows["runs"].values(), "number")
    if counters.get("run", -1) < runs or counters.get("run", 0) > runs + _MOST_LOST:
        contents.problems.append("the number of the next run is wrong")
    if counters.get("token", -1) < _largest(contents.rows["attempts"].values(), "token"):
        contents.problems.append("the number of the next claim is wrong")
    if "version" not in contents.rows["meta"]:
        contents.problems.append("it does not say which version of nbpipe wrote it")


# A run that could not begin may have used up a number.
_MOST_LOST = 1_000_000


def _largest(rows: Any, column: str) -> int:
    return max((row[column] for row in rows), default=0)
