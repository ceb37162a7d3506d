"""The tables of history, in SQL that SQLite and PostgreSQL share.

Structured fields that are never searched (parameters, reasons, failures) are JSON text. Long texts are rows of
``texts``, named by their content, so that an unchanged step does not store its code again. ``executions`` and
``outputs`` repeat their run's ``pipeline`` and ``number``, so that an index alone finds the newest record. ``events``
is the log of the runs: each transaction that changes ``runs``, ``executions`` or ``attempts`` appends rows; no row is
ever changed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, event, literal_column

from nbpipe.history.column_types import (
    StoredBytes,
    StoredDuration,
    StoredFlag,
    StoredInteger,
    StoredName,
    StoredNumber,
    StoredPath,
    StoredText,
    StoredTime,
)

SCHEMA_VERSION = 1

metadata = MetaData()


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, StoredText(), nullable=False, **options)


def _text_or_none(name: str) -> Column[str | None]:
    return Column(name, StoredText(optional=True), nullable=True)


def _number(name: str, **options: Any) -> Column[int]:
    return Column(name, StoredNumber(), nullable=False, **options)


def _number_or_none(name: str) -> Column[int | None]:
    return Column(name, StoredNumber(optional=True), nullable=True)


def _integer(name: str) -> Column[int]:
    return Column(name, StoredInteger(), nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, StoredFlag(), nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, StoredTime(), nullable=False)


def _time_or_none(name: str) -> Column[float | None]:
    return Column(name, StoredTime(optional=True), nullable=True)


def _reference(name: str, target: str, **options: Any) -> Column[str]:
    return Column(name, StoredText(), ForeignKey(target), nullable=False, **options)


def _text_reference(name: str) -> Column[str | None]:
    return Column(name, StoredText(optional=True), ForeignKey("texts.digest"), nullable=True)


meta = Table("meta", metadata, _text("name", primary_key=True), _text("value"))

counters = Table("counters", metadata, _text("name", primary_key=True), _number("value"))

# Compressed: an uncompressed list of components would waste most of its page.
texts = Table("texts", metadata, _text("digest", primary_key=True), Column("text", StoredBytes(), nullable=False))

pipelines = Table(
    "pipelines",
    metadata,
    _text("id", primary_key=True),
    _text("notebook"),
    _text("cells"),
    _text("steps"),
    Index("pipelines_by_notebook", "notebook"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", StoredName(), primary_key=True),
    _number("number", unique=True),
    _reference("pipeline", "pipelines.id"),
    _text("notebook"),
    _text("experiment"),
    _text("status"),
    _time("started"),
    _time_or_none("ended"),
    _text("parameters"),
    _text("tags"),
    _text_or_none("git"),
    _text_reference("patch"),
    _text("owner"),
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
    _text("id", primary_key=True),
    Column("run", StoredName(), ForeignKey("runs.id"), nullable=False),
    _text("step"),
    _text("pipeline"),
    _number("number"),
    _number("position"),
    _text("status"),
    _flag("current"),
    _flag("done"),
    _number("attempts"),
    Column("seconds", StoredDuration(), nullable=False),
    Column("saved_seconds", StoredDuration(), nullable=False),
    _text("reasons"),
    _text_reference("components"),
    _text_or_none("key"),
    _text_or_none("origin_run"),
    _text_or_none("origin_step"),
    _text_or_none("origin_attempt"),
    Column("notebook", StoredPath(optional=True), nullable=True),
    _text_or_none("failure"),
    _time_or_none("started"),
    _time_or_none("ended"),
    _text("notes"),
    _text_reference("observed"),
    _text("written"),
    _text("needs"),
    _text("datasets"),
    _time_or_none("cancel_asked"),
    Index("executions_of_run", "run", "position"),
    Index("executions_of_step", "run", "step"),
    # ``done``: it has its outputs, and was not replaced in its run.
    Index("executions_newest", "pipeline", "done", "step", "number"),
)

outputs = Table(
    "outputs",
    metadata,
    _reference("execution", "executions.id", primary_key=True),
    _text("name", primary_key=True),
    _text("pipeline"),
    _number("number"),
    _number("position"),
    _text("format"),
    _text("store"),
    _text("digest"),
    _text("basename"),
    _number("bytes"),
    _text("dataset"),
    Index("outputs_by_name", "name", "number"),
    Index("outputs_of_pipeline", "pipeline", "name", "number"),
)

attempts = Table(
    "attempts",
    metadata,
    _text("id", primary_key=True),
    _reference("execution", "executions.id"),
    Column("run", StoredName(), ForeignKey("runs.id"), nullable=False),
    _number("number"),
    _text_or_none("key"),
    _number("token"),
    Column("directory", StoredPath(), nullable=False),
    _text("status"),
    _time_or_none("started"),
    _time_or_none("ended"),
    Column("seconds", StoredDuration(), nullable=False),
    _text("notebook"),
    _text("notebook_digest"),
    _number("pieces"),
    _text_or_none("failure"),
    _text("artifacts"),
    _time_or_none("quarantined"),
    _text_or_none("why"),
    Index("attempts_of_execution", "execution", "number"),
    Index("attempts_of_run", "run", "status"),
)
# As DDL, because PostgreSQL options of an index make SQLAlchemy load that dialect in every command.
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
    _reference("run", "runs.id", primary_key=True),
    _number("number", primary_key=True),
    _time("time"),
    _text("kind"),
    _text_or_none("attempt"),
    # Compressed: JSON of this length takes half as much. Checked where it is unpacked, which names the entry.
    Column("fact", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
# A run has thousands of events, of which only the metrics are looked up by their kind.
logs_metric = events.c.kind == literal_column("'metric'")
# As DDL for the same reason as above.
event.listen(
    events,
    "after_create",
    DDL("CREATE INDEX metric_events ON events (run, number) WHERE kind = 'metric'"),  # type: ignore[no-untyped-call]
)

entries = Table(
    "entries",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("key"),
    _reference("attempt", "attempts.id"),
    _text_or_none("static_key"),
    _time("committed"),
    _flag("offered"),
    _text_reference("observed"),
    _text_or_none("accepted"),
    Index("entries_by_key", "key", "offered", "id"),
    Index("entries_by_static_key", "static_key", "offered"),
    Index("entries_of_attempt", "attempt"),
)

claims = Table(
    "claims",
    metadata,
    _text("key", primary_key=True),
    _text("owner"),
    _number("token"),
    _time("taken"),
    _time("expires"),
    Index("claims_of_owner", "owner"),
)

# A device or an inode may be an unsigned 64-bit number, which does not fit into an SQL integer: they are text.
remembered = Table(
    "remembered",
    metadata,
    _text("path", primary_key=True),
    _text("device"),
    _text("inode"),
    _integer("size"),
    _integer("mtime_ns"),
    _integer("ctime_ns"),
    _text("digest"),
)


def _object_columns() -> tuple[Column[Any], ...]:
    """Return the columns that identify an object of a datastore and its content."""
    return (
        _text("store", primary_key=True), _text("key", primary_key=True), _integer("size"), _text("etag"),
        _text("version"), _text("digest"),
    )  # fmt: skip


# The address of a datastore and what it says about an object identify the object's content.
remembered_objects = Table(
    "remembered_objects",
    metadata,
    *_object_columns(),
)

# Versions outlive the runs that made them, so they refer to no row of these. ``recipe`` says how the bytes are read.
dataset_versions = Table(
    "dataset_versions",
    metadata,
    _text("name", primary_key=True),
    _number("number", primary_key=True),
    _text("kind"),
    _text("digest"),
    _number("bytes"),
    _text("recipe"),
    _text("store"),
    _text("object"),
    _text("basename"),
    _number("object_bytes"),
    _text_or_none("columns"),
    _number_or_none("rows"),
    _text("arrow_schema"),
    _number("skipped"),
    _text_or_none("profile"),
    _time("created"),
    _text("owner"),
    _text("run"),
    _text("step"),
    _text("output"),
    _text("parents"),
    _text("description"),
    _text("tags"),
    _text_or_none("query"),
    Index("dataset_versions_by_content", "name", "digest", "recipe", unique=True),
)

dataset_labels = Table(
    "dataset_labels",
    metadata,
    _text("name", primary_key=True),
    _text("label", primary_key=True),
    _number("number"),
)

# What nbpipe put into datastores outside of its own objects, and may replace there.
deliveries = Table(
    "deliveries",
    metadata,
    *_object_columns(),
    _text("run"),
    _text("step"),
    _text("output"),
)

# Runs whose results are kept whatever their age.
pins = Table("pins", metadata, Column("run", StoredName(), ForeignKey("runs.id"), primary_key=True), _time("pinned"))

# Objects that nothing needs, from when that is found until nobody can rely on them any more. ``run`` is the number of
# the newest run at the last change of ``state``.
condemned = Table(
    "condemned",
    metadata,
    _text("store", primary_key=True),
    _text("key", primary_key=True),
    _text("state"),
    _number("run"),
)

# Results that were withdrawn because nothing keeps them, as long as all their bytes are there.
condemned_results = Table(
    "condemned_results", metadata, _reference("attempt", "attempts.id", primary_key=True), _number("run")
)
