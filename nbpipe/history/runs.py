"""The runs of the workspace: begun, ended, found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, insert, or_, select, update

from nbpipe.history import event_log, pipelines, text_pool
from nbpipe.history.database import Repository, chunks
from nbpipe.history.row_mapping import GOING_ON, git_to_json, run_from, to_json
from nbpipe.history.schema import executions, runs
from nbpipe.history.sequences import next_number
from nbpipe.model import GitState, PipelineRecord, RunChanged, RunRecord, Status


@dataclass(frozen=True, slots=True)
class CancelRequests:
    """What somebody wants stopped: the ``whole`` run, or some of its executions."""

    whole: bool = False
    executions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are wanted: those for which all that is given holds; ``step`` names one that was executed in them."""

    pipeline: str | None = None
    experiment: str | None = None
    status: Status | None = None
    step: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class RunRepository(Repository):
    """What was run, when, with which parameters and by whom."""

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
        """Return the new run's record, with the next number of the workspace; its pipeline is kept with it."""
        with self._database.writing() as connection:
            number = next_number(connection, "run")
            pipelines.keep(connection, pipeline)
            record = RunRecord(
                run, number, pipeline.id, pipeline.notebook, experiment, Status.RUNNING, now, None,
                parameters, tags, git, owner,
            )  # fmt: skip
            insert_run(connection, record)
            event_log.append(connection, run, [RunChanged(Status.RUNNING)], now)
            return _read(connection, select(runs).where(runs.c.id == run))[0]

    def end(self, run: str, status: Status, now: float) -> None:
        """Record how the run ended; a run that has ended already stays as it is."""
        if not status.terminal:
            raise ValueError(f"a run cannot end as {status}")
        with self._database.writing() as connection:
            end(connection, run, status, now)

    def live(self, pipeline: str) -> list[RunRecord]:
        """Return the runs of a pipeline that have not ended."""
        wanted = select(runs).where(runs.c.pipeline == pipeline, runs.c.status.in_(GOING_ON))
        with self._database.reading() as connection:
            # Sorted here: SQLite would go through all runs of the pipeline to have them in order.
            return sorted(_read(connection, wanted), key=lambda run: run.number)

    def status(self, run: str) -> Status | None:
        """Return a run's status; None when there is no such run."""
        with self._database.reading() as connection:
            status = connection.scalar(select(runs.c.status).where(runs.c.id == run))
            return None if status is None else Status(status)

    def ask_cancel(self, run: str, now: float) -> None:
        """Ask whoever carries the run to stop it."""
        with self._database.writing() as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(cancel_asked=now))

    def cancel_requests(self, run: str) -> CancelRequests:
        """Return what somebody has asked to stop of a run."""
        asked = select(executions.c.id).where(executions.c.run == run, executions.c.cancel_asked.is_not(None))
        with self._database.reading() as connection:
            whole = connection.scalar(select(runs.c.cancel_asked).where(runs.c.id == run)) is not None
            return CancelRequests(whole, frozenset(connection.scalars(asked)))

    def last(self, pipeline: str | None = None) -> RunRecord | None:
        """Return the newest run, of this pipeline if one is named."""
        found = self.newest(limit=1, wanted=RunFilter(pipeline))
        return found[0] if found else None

    def newest(self, *, limit: int = 50, wanted: RunFilter | None = None) -> list[RunRecord]:
        """Return the newest runs that are wanted, newest first; no more than these are read."""
        with self._database.reading() as connection:
            return _read(connection, _filtered(wanted or RunFilter()).order_by(runs.c.number.desc()).limit(limit))

    def get(self, reference: str) -> RunRecord | None:
        """Return the run with this id, else with this number, else the one whose id begins so."""
        if not reference:
            return None
        with self._database.reading() as connection:
            for wanted in _meanings(reference):
                found = _read(connection, wanted)
                if len(found) == 1:
                    return found[0]
        return None

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the numbers of runs by their ids."""
        found: dict[str, int] = {}
        with self._database.reading() as connection:
            for chunk in chunks(ids):
                rows = connection.execute(select(runs.c.id, runs.c.number).where(runs.c.id.in_(chunk)))
                found.update((row.id, row.number) for row in rows)
        return found


def insert_run(connection: Connection, record: RunRecord) -> None:
    """Write a new run inside the caller's transaction."""
    texts = text_pool.TextPool()
    git = record.git
    row = {
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
        "git": git_to_json(git),
        "patch": texts.add(git.patch) if git and git.patch else None,
        "owner": record.owner,
        "events": 0,
    }
    texts.store(connection)
    connection.execute(insert(runs).values(row))


def end(connection: Connection, run: str, status: Status, now: float) -> bool:
    """End a run inside the caller's transaction; return False when it had ended already."""
    going_on = (runs.c.id == run) & runs.c.status.in_(GOING_ON)
    ended = connection.execute(update(runs).where(going_on).values(status=status.value, ended=now)).rowcount == 1
    if ended:
        event_log.append(connection, run, [RunChanged(status, now)], now)
    return ended


def _filtered(wanted: RunFilter) -> Select[Any]:
    found = select(runs)
    if wanted.pipeline is not None:
        found = found.where(runs.c.pipeline == wanted.pipeline)
    if wanted.experiment is not None:
        found = found.where(runs.c.experiment == wanted.experiment)
    if wanted.status is not None:
        found = found.where(runs.c.status == wanted.status.value)
    if wanted.step is not None:
        executed = select(executions.c.run).where(
            executions.c.run == runs.c.id, executions.c.step == wanted.step, executions.c.attempts > 0
        )
        found = found.where(executed.exists())
    for name, value in wanted.tags.items():
        # One member of the object that to_json has written; a quote inside a text never follows a brace or comma bare.
        member = to_json({name: value})[1:-1]
        found = found.where(or_(*(func.replace(runs.c.tags, at + member, "") != runs.c.tags for at in "{,")))
    return found


def _meanings(reference: str) -> list[Select[Any]]:
    asked = [select(runs).where(runs.c.id == reference)]
    # More digits than any number of runs has would not fit an SQL integer.
    if reference.isascii() and reference.isdecimal() and len(reference) <= 18:
        asked.append(select(runs).where(runs.c.number == int(reference)))
    # LIKE would take upper for lower case in SQLite, and % for anything.
    begins = func.substr(runs.c.id, 1, len(reference)) == reference
    asked.append(select(runs).where(begins).limit(2))
    return asked


def _read(connection: Connection, wanted: Select[Any]) -> list[RunRecord]:
    rows = connection.execute(wanted).all()
    patches = text_pool.load(connection, [row.patch for row in rows if row.patch is not None])
    return [run_from(row, patches.get(row.patch, "")) for row in rows]
