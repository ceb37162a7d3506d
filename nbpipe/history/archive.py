"""Results kept beside their bytes as well: each committed attempt as JSON text, and a database made from such texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select

from nbpipe.history import steps
from nbpipe.history.counting import raise_to
from nbpipe.history.database import Part
from nbpipe.history.records import artifacts_to_json, needs_from
from nbpipe.history.results import Offer, offer
from nbpipe.history.runs import insert_run
from nbpipe.history.schema import attempts, runs
from nbpipe.model import (
    Artifact,
    Component,
    GitState,
    Observed,
    Origin,
    Reason,
    Reference,
    RunRecord,
    Status,
    StepRecord,
)

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Archived:
    """One committed attempt with all that history knows of it."""

    run: RunRecord
    step: StepRecord
    attempt: str
    token: int
    directory: str
    offers: tuple[Offer, ...]
    committed: float


def archive_text(archived: Archived) -> str:
    """Get the attempt as JSON text."""
    return json.dumps({"version": _VERSION, **asdict(archived)}, ensure_ascii=True, default=repr)


def read_archive(text: str) -> Archived:
    """Get the attempt back; ValueError when the text is not one of ours."""
    try:
        told = json.loads(text)
        if told["version"] != _VERSION:
            raise ValueError(f"of version {told['version']}")
        return Archived(
            _run(told["run"]), _step(told["step"]), told["attempt"], told["token"], told["directory"],
            tuple(Offer(each["key"], each["static_key"], _observed(each["observed"])) for each in told["offers"]),
            told["committed"],
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a kept result: {error}") from error


class Archive(Part):
    """The way back from archived attempts into the database."""

    def attempts_known(self) -> set[str]:
        """Get the ids of all recorded attempts."""
        with self._database.reading() as connection:
            return set(connection.scalars(select(attempts.c.id)))

    def restore(self, archived: Iterable[Archived], ended: Mapping[str, tuple[Status, float]]) -> int:
        """Record the attempts that are not recorded, all together, oldest first, and get how many there were.

        ``ended`` tells how their runs ended; one that it does not tell of is lost.
        """
        count = 0
        with self._database.writing() as connection:
            known = set(connection.scalars(select(attempts.c.id)))
            for each in sorted(archived, key=lambda each: each.committed):
                if each.attempt not in known and _restore(connection, each, ended):
                    known.add(each.attempt)
                    count += 1
        return count


def _restore(connection: Connection, kept: Archived, ended: Mapping[str, tuple[Status, float]]) -> bool:
    run = kept.run
    if connection.scalar(select(runs.c.id).where(runs.c.id == run.id)) is None:
        status, when = ended.get(run.id, (Status.LOST, kept.committed))
        insert_run(connection, replace(run, status=status, ended=when, number=_free_number(connection, run.number)))
    elif not steps.may_become(steps.status_of(connection, run.id, kept.step.step), kept.step.status):
        return False
    connection.execute(insert(attempts).values(_attempt_row(kept)))
    steps.write(connection, [kept.step])
    offer(connection, kept.attempt, kept.offers, now=kept.committed)
    raise_to(connection, "token", kept.token)
    return True


def _free_number(connection: Connection, number: int) -> int:
    """Get the run's own number, or the next one where somebody has taken that."""
    taken = connection.scalar(select(runs.c.id).where(runs.c.number == number))
    if taken is not None:
        number = (connection.scalar(select(runs.c.number).order_by(runs.c.number.desc()).limit(1)) or 0) + 1
    raise_to(connection, "run", number)
    return number


def _attempt_row(kept: Archived) -> dict[str, Any]:
    step = kept.step
    return {
        "id": kept.attempt, "run": step.run, "step": step.step, "number": step.attempts, "key": step.key,
        "token": kept.token, "directory": kept.directory, "status": Status.SUCCEEDED.value,
        "started": step.started if step.started is not None else kept.committed, "ended": step.ended,
        "seconds": step.seconds, "notebook": step.notebook or "", "artifacts": artifacts_to_json(step.artifacts),
    }  # fmt: skip


def _run(told: Mapping[str, Any]) -> RunRecord:
    git = None if told["git"] is None else GitState(**told["git"])
    needs = needs_from(told.get("needs", {}))
    return RunRecord(**{**told, "status": Status(told["status"]), "git": git, "needs": needs})


def _step(told: Mapping[str, Any]) -> StepRecord:
    changed: dict[str, Any] = {
        "status": Status(told["status"]),
        "reasons": tuple(Reason(**each) for each in told["reasons"]),
        "components": tuple(Component(**each) for each in told["components"]),
        "artifacts": tuple(
            Artifact(each["name"], each["format"], Reference(**each["reference"])) for each in told["artifacts"]
        ),
        "origin": None if told["origin"] is None else Origin(**told["origin"]),
        "failure": None,
        "observed": _observed(told["observed"]),
        "notes": tuple(told["notes"]),
        "written": tuple(told["written"]),
    }
    return StepRecord(**{**told, **changed})


def _observed(told: Iterable[Mapping[str, Any]]) -> tuple[Observed, ...]:
    return tuple(Observed(**each) for each in told)
