"""The calls behind the verbs about recorded runs, and their responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbpipe.entry_points import load_entry_point
from nbpipe.history.runs import RunFilter
from nbpipe.model import ExecutionRecord, Metric, RunRecord
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace import Workspace

# Loaded by its name: only `--follow` watches a run.
_FOLLOW = "nbpipe.verbs.run_following:follow"


@dataclass(frozen=True, slots=True)
class RecordedRunResponse:
    """A recorded run in its state at the time ``now``; ``followed`` if ``--follow`` was given."""

    run: RunRecord
    steps: Sequence[ExecutionRecord]
    numbers: Mapping[str, int]
    metrics: Sequence[Metric]
    now: float
    followed: bool = False

    @property
    def seconds(self) -> float | None:
        """Return how long the run took, or has taken so far; None if nobody knows."""
        return self.run.seconds(self.now)


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """The runs that were cancelled."""

    runs: Sequence[RecordedRunResponse]


@dataclass(frozen=True, slots=True)
class RunListResponse:
    """Runs, newest first, and the steps that ran in each."""

    runs: Sequence[RunRecord]
    ran: Mapping[str, Sequence[str]]
    now: float


def status(invocation: Invocation, caller: Caller) -> RecordedRunResponse | None:
    """Return the newest run with the latest state of every step; with ``--follow``, after that run has ended."""
    if caller.show_live():
        return None
    runs = caller.workspace.runs
    newest, _ = runs.last(caller.notebook)
    if invocation[options.FOLLOW]:
        load_entry_point(_FOLLOW)(caller, newest)
    return _recorded(caller.workspace, *runs.latest(caller.notebook, newest.id), followed=invocation[options.FOLLOW])


def show(invocation: Invocation, caller: Caller) -> RecordedRunResponse:
    """Return one run."""
    return _recorded(caller.workspace, *caller.workspace.runs.show(invocation[options.RUN]))


def runs(invocation: Invocation, caller: Caller) -> RunListResponse:
    """Return the newest runs of the notebook, or of the workspace."""
    workspace = caller.workspace
    notebook = "" if invocation[options.ALL] else caller.notebook
    run_filter = RunFilter(
        workspace.catalog.pipeline(notebook).pipeline.id if notebook else None, invocation[options.OF_EXPERIMENT],
        invocation[options.OF_STATUS], invocation[options.OF_STEP], invocation[options.OF_TAG],
    )  # fmt: skip
    records = workspace.runs.find(run_filter, invocation[options.LIMIT])
    return RunListResponse(records, workspace.runs.executed_steps(run.id for run in records), workspace.now())


def cancel(_invocation: Invocation, caller: Caller) -> CancelResponse:
    """Cancel the notebook's active runs, and return when they have stopped."""
    caller.await_submitted()
    workspace = caller.workspace
    ended = workspace.runs.cancel(caller.notebook)
    now = workspace.now()
    return CancelResponse([RecordedRunResponse(run, workspace.runs.show(run.id)[1], {}, (), now) for run in ended])


def _recorded(
    workspace: Workspace, run: RunRecord, steps: list[ExecutionRecord], *, followed: bool = False
) -> RecordedRunResponse:
    numbers = workspace.runs.numbers({step.run for step in steps} | {step.origin.run for step in steps if step.origin})
    metrics = workspace.runs.metrics(run.id, steps)
    return RecordedRunResponse(run, steps, numbers, metrics, workspace.now(), followed)
