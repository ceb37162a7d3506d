"""The runs of the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, insert, or_, select, update

from nbpipe.history import event_log, pipelines, text_pool
from nbpipe.history.database import Repository, chunks
from nbpipe.history.row_mapping import GOING_ON, git_to_json, run_from, to_json
from nbpipe.history.schema import executions, runs
from nbpipe.history.sequences import next_number
from nbpipe.model import GitState, PipelineRecord, RunChanged, RunRecord, Status

_CANCELLED = cache(lambda: select(runs.c.cancel_asked).where(runs.c.id == bindparam("of_run")))
_CANCELLED_EXECUTIONS = cache(
    lambda: select(executions.c.id).where(
        executions.c.run == bindparam("of_run"), executions.c.cancel_asked.is_not(None)
    )
)


@dataclass(frozen=True, slots=True)
class CancelRequests:
    """The requested cancellations of a run: the ``whole`` run, or some of its executions."""

    whole: bool = False
    executions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Criteria for runs, all of which must match; ``step`` must have been executed in the run."""

    pipeline: str | None = None
    experiment: str | None = None
    status: Status | None = None
    step: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class RunRepository(Repository):
    """The runs of the workspace."""

    def begin(
        self,
        *,
        run: str,
        pipeline: PipelineRecord,
        experiment: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        git: GitState | None,
        owner: str,
        now: float,
    ) -> RunRecord:
        """Record a new run, with the workspace's next number, and its pipeline; return the run's record."""
        with self._database.writing() as connection:
            number = next_number(connection, "run")
            pipeline_id = pipelines.register(connection, pipeline)
            record = RunRecord(
                run, number, pipeline_id, pipeline.notebook, experiment, Status.RUNNING, now, None,
                parameters, tags, git, owner,
            )  # fmt: skip
            insert_run(connection, record)
            event_log.append(connection, run, [RunChanged(Status.RUNNING)], now)
            return _read(connection, select(runs).where(runs.c.id == run))[0]

    def end(self, run: str, status: Status, now: float) -> None:
        """Record how the run ended; a run that has ended already stays unchanged."""
        if not status.terminal:
            raise ValueError(f"a run cannot end as {status}")
        with self._database.writing() as connection:
            end(connection, run, status, now)

    def live(self, pipeline: str) -> list[RunRecord]:
        """Return the runs of a pipeline that have not ended."""
        query = select(runs).where(runs.c.pipeline == pipeline, runs.c.status.in_(GOING_ON))
        with self._database.reading() as connection:
            # Sorted here: SQLite would scan all runs of the pipeline to sort them.
            return sorted(_read(connection, query), key=lambda run: run.number)

    def status(self, run: str) -> Status | None:
        """Return a run's status; None when there is no such run."""
        with self._database.reading() as connection:
            status = connection.scalar(select(runs.c.status).where(runs.c.id == run))
            return None if status is None else Status(status)

    def ask_cancel(self, run: str, now: float) -> None:
        """Request the cancellation of a run."""
        with self._database.writing() as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(cancel_asked=now))

    def cancel_requests(self, run: str) -> CancelRequests:
        """Return the requested cancellations of a run."""
        with self._database.reading() as connection:
            run_asked = connection.scalar(_CANCELLED(), {"of_run": run}) is not None
            return CancelRequests(run_asked, frozenset(connection.scalars(_CANCELLED_EXECUTIONS(), {"of_run": run})))

    def last(self, pipeline: str | None = None) -> RunRecord | None:
        """Return the newest run, of this pipeline if one is given."""
        records = self.newest(limit=1, wanted=RunFilter(pipeline))
        return records[0] if records else None

    def newest(self, *, limit: int = 50, wanted: RunFilter | None = None) -> list[RunRecord]:
        """Return the newest matching runs, newest first; reads no more than these."""
        with self._database.reading() as connection:
            return _read(connection, _filtered(wanted or RunFilter()).order_by(runs.c.number.desc()).limit(limit))

    def get(self, reference: str) -> RunRecord | None:
        """Return the run with this id, else with this number, else the only one whose id has this prefix."""
        if not reference:
            return None
        with self._database.reading() as connection:
            for query in _meanings(reference):
                matches = _read(connection, query)
                if len(matches) == 1:
                    return matches[0]
        return None

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the numbers of runs by their ids."""
        by_id: dict[str, int] = {}
        with self._database.reading() as connection:
            for chunk in chunks(ids):
                rows = connection.execute(select(runs.c.id, runs.c.number).where(runs.c.id.in_(chunk)))
                by_id.update((row.id, row.number) for row in rows)
        return by_id


def insert_run(connection: Connection, record: RunRecord) -> None:
    """Write a new run inside the caller's transaction."""
    texts = text_pool.TextPool()
    git = record.git
    patch = texts.add(git.patch) if git and git.patch else None
    texts.store(connection)
    connection.execute(insert(runs).values(run_to_row(record) | {"patch": patch}))


def run_to_row(record: RunRecord) -> dict[str, Any]:
    """Return the row of a run, without the patch of its repository, which is stored separately."""
    return {
        "id": record.id,
        "number": record.number,
        "pipeline": record.pipeline,
        "notebook": record.notebook,
        "experiment": record.experiment,
        "status": record.status.value,
        "started": record.started,
        "ended": record.ended,
        "parameters": to_json(record.parameters),
        "tags": to_json(record.tags),
        "git": git_to_json(record.git),
        "patch": None,
        "owner": record.owner,
        "events": 0,
    }


def end(connection: Connection, run: str, status: Status, now: float) -> bool:
    """End a run inside the caller's transaction; return False if it had ended already."""
    going_on = (runs.c.id == run) & runs.c.status.in_(GOING_ON)
    ended = connection.execute(update(runs).where(going_on).values(status=status.value, ended=now)).rowcount == 1
    if ended:
        event_log.append(connection, run, [RunChanged(status, now)], now)
    return ended


def _filtered(run_filter: RunFilter) -> Select[Any]:
    query = select(runs)
    if run_filter.pipeline is not None:
        query = query.where(runs.c.pipeline == run_filter.pipeline)
    if run_filter.experiment is not None:
        query = query.where(runs.c.experiment == run_filter.experiment)
    if run_filter.status is not None:
        query = query.where(runs.c.status == run_filter.status.value)
    if run_filter.step is not None:
        executed = select(executions.c.run).where(
            executions.c.run == runs.c.id, executions.c.step == run_filter.step, executions.c.attempts > 0
        )
        query = query.where(executed.exists())
    for name, value in run_filter.tags.items():
        # One member of the object that to_json writes; quotes in texts are escaped, so none follows a brace or comma.
        member = to_json({name: value})[1:-1]
        query = query.where(or_(*(func.replace(runs.c.tags, at + member, "") != runs.c.tags for at in "{,")))
    return query


def _meanings(reference: str) -> list[Select[Any]]:
    queries = [select(runs).where(runs.c.id == reference)]
    # More digits than any number of runs has would not fit an SQL integer.
    if reference.isascii() and reference.isdecimal() and len(reference) <= 18:
        queries.append(select(runs).where(runs.c.number == int(reference)))
    # LIKE would ignore case in SQLite, and treat % as a wildcard.
    begins = func.substr(runs.c.id, 1, len(reference)) == reference
    queries.append(select(runs).where(begins).limit(2))
    return queries


def _read(connection: Connection, query: Select[Any]) -> list[RunRecord]:
    rows = connection.execute(query).all()
    patches = text_pool.load(connection, [row.patch for row in rows if row.patch is not None])
    return [run_from(row, patches.get(row.patch, "")) for row in rows]
