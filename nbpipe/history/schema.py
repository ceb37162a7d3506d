"""The tables of history, in SQL that SQLite and PostgreSQL share.

Structured fields that nothing searches (parameters, reasons, failures) are JSON text. Long texts are rows of ``texts``,
named by their content, so that an unchanged step does not write its code again. ``executions`` and ``outputs`` repeat
their run's ``pipeline`` and ``number``: the newest record is then found by an index alone. ``events`` is the log of
the runs: rows are added in each transaction that changes ``runs``, ``executions`` or ``attempts``; none is changed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
    literal_column,
)

SCHEMA_VERSION = 1

metadata = MetaData()


def _words(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _words_or_none(name: str) -> Column[str | None]:
    return Column(name, Text, nullable=True)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


def _time_or_none(name: str) -> Column[float | None]:
    return Column(name, Double, nullable=True)


def _text_reference(name: str) -> Column[str | None]:
    return Column(name, Text, ForeignKey("texts.digest"), nullable=True)


meta = Table("meta", metadata, _words("name", primary_key=True), _words("value"))

counters = Table("counters", metadata, _words("name", primary_key=True), _number("value"))

# Compressed: a row of an uncompressed list of components would leave most of its page empty.
texts = Table("texts", metadata, _words("digest", primary_key=True), Column("text", LargeBinary, nullable=False))

pipelines = Table(
    "pipelines",
    metadata,
    _words("id", primary_key=True),
    _words("notebook"),
    _words("cells"),
    _words("steps"),
    Index("pipelines_by_notebook", "notebook"),
)

runs = Table(
    "runs",
    metadata,
    _words("id", primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("pipeline", Text, ForeignKey("pipelines.id"), nullable=False),
    _words("notebook"),
    _words("experiment"),
    _words("status"),
    _time("started"),
    _time_or_none("ended"),
    _words("parameters"),
    _words("tags"),
    _words_or_none("git"),
    _text_reference("patch"),
    _words("owner"),
    _time_or_none("cancel_asked"),
    _number("events"),
    Index("runs_of_pipeline", "pipeline", "number"),
    Index("runs_of_experiment", "experiment", "number"),
    Index("runs_by_status", "status", "number"),
    Index("runs_of_pipeline_by_status", "pipeline", "status", "number"),
)

executions = Table(
    "executions",
    metadata,
    _words("id", primary_key=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    _words("step"),
    _words("pipeline"),
    _number("number"),
    _number("position"),
    _words("status"),
    Column("current", Boolean, nullable=False),
    Column("done", Boolean, nullable=False),
    _number("attempts"),
    _time("seconds"),
    _time("saved_seconds"),
    _words("reasons"),
    _text_reference("components"),
    _words_or_none("key"),
    _words_or_none("origin_run"),
    _words_or_none("origin_step"),
    _words_or_none("origin_attempt"),
    _words_or_none("notebook"),
    _words_or_none("failure"),
    _time_or_none("started"),
    _time_or_none("ended"),
    _words("notes"),
    _text_reference("observed"),
    _words("written"),
    _words("needs"),
    _time_or_none("cancel_asked"),
    Index("executions_of_run", "run", "position"),
    Index("executions_of_step", "run", "step"),
    # ``done``: it has its outputs, and nothing has replaced it in its run.
    Index("executions_newest", "pipeline", "done", "step", "number"),
)

outputs = Table(
    "outputs",
    metadata,
    Column("execution", Text, ForeignKey("executions.id"), primary_key=True),
    _words("name", primary_key=True),
    _words("pipeline"),
    _number("number"),
    _number("position"),
    _words("format"),
    _words("store"),
    _words("digest"),
    _words("basename"),
    _number("bytes"),
    Index("outputs_by_name", "name", "number"),
    Index("outputs_of_pipeline", "pipeline", "name", "number"),
)

attempts = Table(
    "attempts",
    metadata,
    _words("id", primary_key=True),
    Column("execution", Text, ForeignKey("executions.id"), nullable=False),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    _number("number"),
    _words_or_none("key"),
    _number("token"),
    _words("directory"),
    _words("status"),
    _time_or_none("started"),
    _time_or_none("ended"),
    _time("seconds"),
    _words("notebook"),
    _number("pieces"),
    _words_or_none("failure"),
    _words("artifacts"),
    _time_or_none("quarantined"),
    _words_or_none("why"),
    Index("attempts_of_execution", "execution", "number"),
    Index("attempts_of_run", "run", "status"),
)
# Written out, for an index that says what PostgreSQL needs makes SQLAlchemy load all of that dialect in every command.
event.listen(
    attempts,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]  # theirs
        "CREATE UNIQUE INDEX attempts_one_success ON attempts (execution) WHERE status = 'succeeded'"
    ),
)

events = Table(
    "events",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    _time("time"),
    _words("kind"),
    _words_or_none("attempt"),
    _words("fact"),
    sqlite_with_rowid=False,
)
# A run has thousands of events, of which only the metrics are looked up by their kind.
logs_metric = events.c.kind == literal_column("'metric'")
Index("metric_events", events.c.run, events.c.number, sqlite_where=logs_metric, postgresql_where=logs_metric)

entries = Table(
    "entries",
    metadata,
    Column("id", Integer, primary_key=True),
    _words("key"),
    Column("attempt", Text, ForeignKey("attempts.id"), nullable=False),
    _words_or_none("static_key"),
    _time("committed"),
    Column("offered", Boolean, nullable=False),
    _text_reference("observed"),
    _words_or_none("accepted"),
    Index("entries_by_key", "key", "offered", "id"),
    Index("entries_by_static_key", "static_key", "offered"),
    Index("entries_of_attempt", "attempt"),
)

claims = Table(
    "claims",
    metadata,
    _words("key", primary_key=True),
    _words("owner"),
    _number("token"),
    _time("taken"),
    _time("expires"),
    Index("claims_of_owner", "owner"),
)

# A device or an inode may be an unsigned 64-bit number, which no SQL integer holds: they are text.
remembered = Table(
    "remembered",
    metadata,
    _words("path", primary_key=True),
    _words("device"),
    _words("inode"),
    _number("size"),
    _number("mtime_ns"),
    _number("ctime_ns"),
    _words("digest"),
)
