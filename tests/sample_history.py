"""Values that the tests of history write, and short ways to write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbpipe.history.attempts import RunChanges
from nbpipe.history.claims import Claim
from nbpipe.history.results import ReuseEntry
from nbpipe.history.store import History
from nbpipe.model import (
    Artifact,
    AttemptRecord,
    ExecutionRecord,
    Failure,
    KeyComponent,
    ObjectReference,
    Observation,
    PipelineRecord,
    Reason,
    ResultOrigin,
    RunRecord,
    Status,
)


def everyone(_owner: str) -> bool:
    """Return that the owner is alive."""
    return True


def nobody(_owner: str) -> bool:
    """Return that the owner is dead."""
    return False


def pipeline(notebook: str = "a.ipynb") -> PipelineRecord:
    """Return the pipeline of a notebook; its id is not the notebook's name."""
    return PipelineRecord(f"id-{notebook}", notebook)


def begin(history: History, run: str, notebook: str = "a.ipynb", **given: Any) -> RunRecord:
    """Begin a run, of ``a.ipynb`` unless told otherwise."""
    values: dict[str, Any] = {
        "pipeline": pipeline(notebook),
        "experiment": "default",
        "parameters": {},
        "tags": {},
        "git": None,
        "owner": "me",
        "now": 100.0,
    }
    return history.runs.begin(run=run, **(values | given))


def artifact(name: str = "df", content: str = "1") -> Artifact:
    """Return an artifact of this content."""
    return Artifact(name, "arrow", ObjectReference("default", f"blake3:{content}", f"{name}.arrow", 10))


def failure() -> Failure:
    """Return why an attempt failed."""
    return Failure("user", "ValueError", "no", "no", 3, 2)


def record(run: str, step: str, status: Status = Status.SUCCEEDED, **given: Any) -> ExecutionRecord:
    """Return the record of a run's first execution of a step; what is done has one output."""
    done = status in (Status.SUCCEEDED, Status.REUSED)
    values: dict[str, Any] = {
        "id": f"{run}/{step}",
        "position": 0,
        "attempts": 1,
        "seconds": 1.5,
        "reasons": (Reason("code", "a", "b"),),
        "components": (KeyComponent("code", "blake3:c", "3 lines", "df = 1\n"),),
        "key": f"key-{step}",
        "notebook": "runs/n/n.ipynb",
        "artifacts": (artifact(),) if done else (),
        "failure": failure() if status is Status.FAILED else None,
        "started": 101.0,
        "ended": 102.5,
    }
    return ExecutionRecord(run=run, step=step, status=status, **(values | given))


def reused(run: str, step: str, origin: str, **given: Any) -> ExecutionRecord:
    """Return the record of a step that took the result that :func:`succeed` made in run ``origin``."""
    return record(run, step, Status.REUSED, origin=ResultOrigin(origin, step, f"{origin}-{step}"), **given)


def put(history: History, *records: ExecutionRecord) -> None:
    """Record executions, all together."""
    history.attempts.record(records[0].run, RunChanges(executions=records), 102.5)


def attempt_record(name: str, run: str, step: str, status: Status = Status.RUNNING, **given: Any) -> AttemptRecord:
    """Return the record of an attempt at a run's first execution of a step; what succeeded has one output."""
    ended = {"ended": 102.5, "seconds": 1.5, "notebook": "n.ipynb"} if status.terminal else {}
    made = {"artifacts": (artifact(),)} if status is Status.SUCCEEDED else {}
    failed = {"failure": failure()} if status in (Status.FAILED, Status.LOST, Status.CANCELLED) else {}
    values: dict[str, Any] = {
        "execution": f"{run}/{step}",
        "number": 1,
        "directory": f"runs/{name}",
        "key": f"key-{step}",
        "started": 101.0,
    }
    return AttemptRecord(id=name, run=run, status=status, **(values | ended | made | failed | given))


def attempt(history: History, name: str, run: str, step: str, number: int = 1) -> None:
    """Begin an attempt at the step."""
    running = record(run, step, Status.RUNNING, notebook=None, ended=None)
    begun = attempt_record(name, run, step, number=number)
    history.attempts.record(run, RunChanges(executions=[running], attempts=[begun]), 101.0)


def end(history: History, name: str, run: str, step: str, status: Status, **given: Any) -> None:
    """End an attempt otherwise than by success."""
    history.attempts.record(run, RunChanges(attempts=[attempt_record(name, run, step, status, **given)]), 102.0)


def commit(
    history: History,
    name: str,
    run: str,
    step: str,
    *,
    number: int = 1,
    keys: Sequence[str] | None = None,
    claim: Claim | None = None,
    content: str = "1",
    observed: tuple[Observation, ...] = (),
) -> bool:
    """Commit the attempt's success, offered under ``key-STEP`` and ``raw-STEP`` unless told otherwise."""
    given = [f"key-{step}", f"raw-{step}"] if keys is None else keys
    made = (artifact(content=content),)
    return history.attempts.commit(
        attempt_record(name, run, step, Status.SUCCEEDED, number=number, artifacts=made),
        record(run, step, artifacts=made),
        offers=[ReuseEntry(key, f"static-{step}", observed) for key in given],
        claim=claim,
        now=102.5,
    )


def succeed(history: History, run: str, step: str, **given: Any) -> str:
    """Carry the step out; return the attempt."""
    name = f"{run}-{step}"
    attempt(history, name, run, step)
    assert commit(history, name, run, step, **given)
    return name
