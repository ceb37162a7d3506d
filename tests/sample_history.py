"""Values that the tests of history write, and short ways to write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stored import artifact_of

from nbpipe.history.claims import Claim
from nbpipe.history.results import ReuseEntry
from nbpipe.history.store import History
from nbpipe.model import (
    Artifact,
    ExecutionRecord,
    Failure,
    KeyComponent,
    Observation,
    Outcome,
    Reason,
    ResultOrigin,
    RunRecord,
    Status,
)


def everyone(_owner: str) -> bool:
    """Say that the owner is alive."""
    return True


def nobody(_owner: str) -> bool:
    """Say that the owner is dead."""
    return False


def begin(history: History, run: str, **given: Any) -> RunRecord:
    """Begin a run of ``a.ipynb``."""
    values: dict[str, Any] = {
        "notebook": "a.ipynb",
        "experiment": "default",
        "parameters": {},
        "tags": {},
        "git": None,
        "owner": "me",
        "now": 100.0,
    }
    return history.begin_run(run=run, **(values | given))


def artifact(name: str = "df", content: str = "1") -> Artifact:
    """Get an artifact of this content."""
    return artifact_of(name, "arrow", f"blake3:{content}")


def record(run: str, step: str, status: Status = Status.SUCCEEDED, **given: Any) -> ExecutionRecord:
    """Get a step's record; what is done has one output."""
    done = status in (Status.SUCCEEDED, Status.REUSED)
    values: dict[str, Any] = {
        "position": 0,
        "attempts": 1,
        "seconds": 1.5,
        "saved_seconds": 0.0,
        "reasons": (Reason("code", "a", "b"),),
        "components": (KeyComponent("code", "blake3:c", "3 lines", "df = 1\n"),),
        "key": f"key-{step}",
        "origin": None,
        "notebook": "file:///runs/n.ipynb",
        "artifacts": (artifact(),) if done else (),
        "failure": Failure("user", "ValueError", "no", "no", 3, 2) if status is Status.FAILED else None,
        "started": 101.0,
        "ended": 102.5,
    }
    return ExecutionRecord(run=run, step=step, status=status, **(values | given))


def reused(run: str, step: str, origin: str, **given: Any) -> ExecutionRecord:
    """Get the record of a step that took its result from run ``origin``."""
    return record(run, step, Status.REUSED, origin=ResultOrigin(origin, step), **given)


def outcome(attempt: str, status: Status = Status.SUCCEEDED, content: str = "1") -> Outcome:
    """Get how the attempt ended."""
    if status is Status.SUCCEEDED:
        return Outcome(attempt, 0, status, 1.5, "file:///runs/n.ipynb", (artifact(content=content),))
    return Outcome(attempt, 0, status, 1.5, "file:///runs/n.ipynb", failure=Failure("user", "ValueError", "no", "no"))


def attempt(history: History, name: str, run: str, step: str, number: int = 1) -> None:
    """Begin an attempt at the step."""
    history.begin_attempt(
        attempt=name,
        run=run,
        step=step,
        number=number,
        key=f"key-{step}",
        token=0,
        directory=f"/runs/{name}",
        now=101.0,
    )


def commit(
    history: History,
    name: str,
    run: str,
    step: str,
    *,
    keys: Sequence[str] | None = None,
    claim: Claim | None = None,
    content: str = "1",
    observed: tuple[Observation, ...] = (),
) -> bool:
    """Commit the attempt's success, offered under ``key-STEP`` and ``raw-STEP`` unless told otherwise."""
    given = [f"key-{step}", f"raw-{step}"] if keys is None else keys
    return history.commit(
        outcome(name, content=content),
        record(run, step, artifacts=(artifact(content=content),)),
        offers=[ReuseEntry(key, f"static-{step}", observed) for key in given],
        claim=claim,
        now=102.5,
    )


def succeed(history: History, run: str, step: str, **given: Any) -> str:
    """Carry the step out; get the attempt."""
    name = f"{run}-{step}"
    attempt(history, name, run, step)
    assert commit(history, name, run, step, **given)
    return name
