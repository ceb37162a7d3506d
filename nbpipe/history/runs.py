"""The runs of the workspace: begun, ended, found again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from nbpipe.history import texts
from nbpipe.history.counting import next_number
from nbpipe.history.database import Part, chunks
from nbpipe.history.records import TERMINAL, git_to_json, run_from, to_json
from nbpipe.history.schema import runs, steps
from nbpipe.model import GitState, RunRecord, Status

NO_TAGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stops:
    """What somebody wants stopped: the ``whole`` run, or some of its steps."""

    whole: bool = False
    steps: frozenset[str] = frozenset()


class Runs(Part):
    """What was run, when, with which parameters and by whom."""

    def begin_run(
        self,
        *,
        run: str,
        notebook: str,
        experiment: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        git: GitState | None,
        owner: str,
        now: float,
        needs: Mapping[str, tuple[str, ...]] | None = None,
    ) -> RunRecord:
        """Get the new run's record, with the next number of the workspace."""
        with self._database.writing() as connection:
            number = next_number(connection, "run")
            status = Status.RUNNING
            record = RunRecord(
                run, number, notebook, experiment, status, now, None, parameters, tags, git, owner, needs or {}
            )
            insert_run(connection, record)
            return _read(connection, select(runs).where(runs.c.id == run))[0]

    def end_run(self, run: str, status: Status, now: float) -> None:
        """Record how the run ended; a run that has ended already stays as it is."""
        if not status.terminal:
            raise ValueError(f"a run cannot end as {status}")
        going_on = (runs.c.id == run) & runs.c.status.not_in(TERMINAL)
        with self._database.writing() as connection:
            connection.execute(update(runs).where(going_on).values(status=status.value, ended=now))

    def live(self, notebook: str) -> list[RunRecord]:
        """Get the runs of a notebook that have not ended."""
        wanted = select(runs).where(runs.c.notebook == notebook, runs.c.status.not_in(TERMINAL))
        with self._database.reading() as connection:
            return _read(connection, wanted.order_by(runs.c.number))

    def run_status(self, run: str) -> Status | None:
        """Get a run's status; None when there is no such run."""
        with self._database.reading() as connection:
            status = connection.scalar(select(runs.c.status).where(runs.c.id == run))
            return None if status is None else Status(status)

    def ask_cancel(self, run: str, now: float) -> None:
        """Ask whoever carries the run to stop it."""
        with self._database.writing() as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(cancel_asked=now))

    def ask_cancel_step(self, run: str, step: str, now: float) -> None:
        """Ask whoever carries the run to stop one of its steps; the steps that do not need it go on."""
        wanted = (steps.c.run == run) & (steps.c.step == step)
        with self._database.writing() as connection:
            connection.execute(update(steps).where(wanted).values(cancel_asked=now))

    def stops(self, run: str) -> Stops:
        """Get what somebody has asked to stop of a run."""
        asked = select(steps.c.step).where(steps.c.run == run, steps.c.cancel_asked.is_not(None))
        with self._database.reading() as connection:
            whole = connection.scalar(select(runs.c.cancel_asked).where(runs.c.id == run)) is not None
            return Stops(whole, frozenset(connection.scalars(asked)))

    def last_run(self, notebook: str | None = None) -> RunRecord | None:
        """Get the newest run, of this notebook if one is named."""
        found = self.runs(limit=1, notebook=notebook)
        return found[0] if found else None

    def runs(
        self,
        *,
        limit: int = 50,
        notebook: str | None = None,
        experiment: str | None = None,
        status: Status | None = None,
        step: str | None = None,
        tags: Mapping[str, str] = NO_TAGS,
    ) -> list[RunRecord]:
        """Return the newest runs, newest first.

        Each filter leaves the runs that it fits; ``step`` those in which the step was executed.
        """
        wanted = select(runs).order_by(runs.c.number.desc())
        if notebook is not None:
            wanted = wanted.where(runs.c.notebook == notebook)
        if experiment is not None:
            wanted = wanted.where(runs.c.experiment == experiment)
        if status is not None:
            wanted = wanted.where(runs.c.status == status.value)
        if step is not None:
            executed = (steps.c.run == runs.c.id) & (steps.c.step == step) & (steps.c.attempts > 0)
            wanted = wanted.where(select(steps.c.run).where(executed).exists())
        with self._database.reading() as connection:
            return _tagged(connection, wanted, tags, limit) if tags else _read(connection, wanted.limit(limit))

    def executed_steps(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the names of the steps that were executed in each of these runs, in notebook order."""
        found: dict[str, list[str]] = {run: [] for run in names}
        with self._database.reading() as connection:
            for chunk in chunks(names):
                executed = select(steps.c.run, steps.c.step).where(steps.c.run.in_(chunk), steps.c.attempts > 0)
                for run, step in connection.execute(executed.order_by(steps.c.position, steps.c.step)):
                    found[run].append(step)
        return found

    def run(self, reference: str) -> RunRecord | None:
        """Get the run with this id, else with this number, else the one whose id begins so."""
        if not reference:
            return None
        with self._database.reading() as connection:
            for wanted in _meanings(reference):
                found = _read(connection, wanted)
                if len(found) == 1:
                    return found[0]
        return None


def insert_run(connection: Connection, record: RunRecord) -> None:
    """Write a new run inside the caller's transaction."""
    found = texts.Texts()
    git = record.git
    row = {
        "id": record.id,
        "number": record.number,
        "notebook": record.notebook,
        "experiment": record.experiment,
        "status": record.status.value,
        "started": record.started,
        "ended": record.ended,
        "parameters": to_json(record.parameters),
        "tags": to_json(record.tags),
        "git": git_to_json(git),
        "patch": found.add(git.patch) if git and git.patch else None,
        "owner": record.owner,
        "needs": to_json(record.needs),
    }
    found.store(connection)
    connection.execute(insert(runs).values(row))


def _meanings(reference: str) -> list[Select[Any]]:
    asked = [select(runs).where(runs.c.id == reference)]
    # More digits than any number of runs has would not fit an SQL integer.
    if reference.isascii() and reference.isdecimal() and len(reference) <= 18:
        asked.append(select(runs).where(runs.c.number == int(reference)))
    # LIKE would take upper for lower case in SQLite, and % for anything.
    begins = func.substr(runs.c.id, 1, len(reference)) == reference
    asked.append(select(runs).where(begins).limit(2))
    return asked


def _tagged(connection: Connection, wanted: Select[Any], tags: Mapping[str, str], limit: int) -> list[RunRecord]:
    """Return the newest runs that have all of these tags."""
    for pair in tags.items():
        # SQLite's LIKE takes upper for lower case: what it lets pass is looked at again.
        wanted = wanted.where(runs.c.tags.contains(to_json(dict([pair]))[1:-1], autoescape=True))
    places = connection.execute(wanted.with_only_columns(runs.c.id, runs.c.tags))
    fitting = (row.id for row in places if tags.items() <= json.loads(row.tags).items())
    names = list(islice(fitting, limit))
    return [record for chunk in chunks(names) for record in _read(connection, _newest_first(chunk))]


def _newest_first(names: Sequence[str]) -> Select[Any]:
    return select(runs).where(runs.c.id.in_(names)).order_by(runs.c.number.desc())


def _read(connection: Connection, wanted: Select[Any]) -> list[RunRecord]:
    rows = connection.execute(wanted).all()
    patches = texts.load(connection, [row.patch for row in rows if row.patch is not None])
    return [run_from(row, patches.get(row.patch, "")) for row in rows]
