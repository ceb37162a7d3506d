"""A run takes more requests while it goes on: what stands already is not executed again, what has changed is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from in_process_executor import carry_out
from sample_pipelines import cells

from nbpipe.compute import unreported_outcomes
from nbpipe.errors import BadUsage
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.runs import RunFilter
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import (
    AttemptEnded,
    AttemptReport,
    AttemptStarted,
    ExecutionRecord,
    Job,
    RunGrown,
    RunSnapshot,
    Status,
)
from nbpipe.model.compute import ComputeTarget
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.reports import RunReport
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import ActiveRun, execute_run

A = "%%step a -o x\nx = 1"
A2 = "%%step a -o x\nx = 2"
B = "%%step b -i x -o y\ny = x + 1"
B2 = "%%step b -i x -o y\ny = x + 2"
C = "%%step c -i y -o z\nz = y + 1"
FAILING = "%%step a -o x\nx = 1 / 0"
PATIENCE = 60.0


class Gated:
    """Carries out attempts in the thread of the driver, those of steps that are ``closed`` when they are no more."""

    def __init__(self) -> None:
        self.closed: set[str] = set()
        self.jobs: list[Job] = []
        self._open: dict[str, Job] = {}
        self._reports: list[AttemptReport] = []

    def slots_on(self, target: ComputeTarget) -> int:
        """Get how many attempts run at the same time."""
        return 4

    def submit(self, job: Job) -> None:
        """Let an attempt begin."""
        self.jobs.append(job)
        self._open[job.attempt] = job
        self._reports.append(AttemptStarted(job.attempt, time.time()))

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Carry out what may be, and return what has come of it."""
        for attempt, job in list(self._open.items()):
            if job.step not in self.closed and not self._reports:
                del self._open[attempt]
                self._reports.append(AttemptEnded(carry_out(job)))
        if not self._reports:
            time.sleep(min(timeout, 0.01))
        reports, self._reports = self._reports, []
        return reports

    def cancel(self, attempt: str) -> None:
        """End an attempt as one that was cancelled."""
        job = self._open.pop(attempt, None)
        if job is not None:
            self._reports.append(AttemptEnded(unreported_outcomes.cancelled_outcome(job)))

    def close(self) -> None:
        """Do nothing: nothing is started."""


@dataclass
class Going:
    """A run that goes on in a thread, held open for more."""

    workspace: Workspace
    folder: Path
    executor: Gated = field(default_factory=Gated)
    reports: list[RunReport] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    _active: list[ActiveRun] = field(default_factory=list)
    _began: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def request(self, *sources: str, steps: tuple[str, ...] = ()) -> PipelineRequest:
        """Return the request for some steps, all if none is named."""
        reading = parse_cells(cells(*sources))
        return PipelineRequest(str(self.folder / "n.ipynb"), reading, self.folder, steps=steps)

    def start(self, *sources: str, steps: tuple[str, ...] = (), held: bool = True) -> None:
        """Begin the run; its first request is called ``first``."""
        asked = self.request(*sources, steps=steps)
        self._thread = threading.Thread(target=self._run, args=(asked, held))
        self._thread.start()
        assert self._began.wait(PATIENCE)

    def _run(self, asked: PipelineRequest, held: bool) -> None:  # noqa: FBT001  # a thread's arguments have no names
        def began(active: ActiveRun) -> None:
            if held:
                active.hold()
            self._active.append(active)
            self._began.set()

        try:
            wishes = RunOptions(run="first")
            self.reports.append(
                execute_run(self.workspace, asked, wishes, executors=lambda: self.executor, began=began)
            )
        except BaseException as error:  # noqa: BLE001  # it is asserted on by the test
            self.errors.append(error)

    @property
    def active(self) -> ActiveRun:
        return self._active[0]

    def extend(self, name: str, *sources: str, steps: tuple[str, ...] = (), gesture: int = 1) -> bool:
        """Ask for more."""
        return self.active.extend(self.request(*sources, steps=steps), name, gesture)

    def picture(self) -> RunSnapshot:
        """Return the run as its log tells it."""
        picture = RunSnapshot()
        picture.take(self.workspace.context.history.log.read("first"))
        return picture

    def until(self, true: Callable[[RunSnapshot], bool]) -> RunSnapshot:
        """Wait until something is true of the run."""
        ends = time.monotonic() + PATIENCE
        while not true(picture := self.picture()):
            assert time.monotonic() < ends, picture
            assert not self.errors, self.errors
            time.sleep(0.02)
        return picture

    def until_status(self, step: str, status: Status) -> ExecutionRecord:
        """Wait until the current execution of a step has a status."""
        picture = self.until(lambda now: (found := now.execution(step)) is not None and found.status is status)
        found = picture.execution(step)
        assert found is not None
        return found

    def until_grown(self, name: str) -> dict[str, str]:
        """Wait until a request has been taken in, and return the executions that stand for its steps."""
        return dict(self.until(lambda now: name in now.requests).requests[name])

    def finish(self) -> dict[str, str]:
        """Let the run end, and return how its steps ended; its log then tells what its tables tell."""
        self.executor.closed.clear()
        self.active.release()
        assert self._thread is not None
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert not self.errors
        history = self.workspace.context.history
        assert InspectionRepository(history.database).damage() == []
        picture = self.picture()
        assert [each.id for each in picture.current()] == [each.id for each in history.executions.of_run("first")]
        assert all(each.status.terminal for each in [*picture.executions.values(), *picture.attempts.values()])
        return {each.step: each.status.value for each in self.reports[0].steps}

    def executed(self) -> list[str]:
        """Return the steps of which attempts were submitted, in order."""
        return [job.step for job in self.executor.jobs]


@pytest.fixture
def going(tmp_path: Path) -> Iterator[Going]:
    with Workspace.open(tmp_path) as workspace:
        made = Going(workspace, tmp_path)
        yield made
        if made._active and not made.reports and not made.errors:
            made.finish()


def test_a_request_joins_an_execution_that_is_under_way(going):
    going.executor.closed = {"a"}
    going.start(A)
    first = going.until_status("a", Status.RUNNING)

    assert going.extend("more", A, B, steps=("b",))
    stands = going.until_grown("more")

    assert stands["a"] == first.id
    assert set(stands) == {"a", "b"}
    assert going.finish() == {"a": "succeeded", "b": "succeeded"}
    assert going.executed() == ["a", "b"]
    assert going.picture().executions[stands["b"]].needs == (first.id,)


def test_a_request_joins_an_execution_that_has_succeeded(going):
    going.start(A)
    first = going.until_status("a", Status.SUCCEEDED)

    going.extend("more", A, B, steps=("b",))

    assert going.until_grown("more")["a"] == first.id
    assert going.finish() == {"a": "succeeded", "b": "succeeded"}
    assert going.executed() == ["a", "b"]


@pytest.mark.parametrize("gesture", [0, 1, 2])
def test_a_step_that_is_asked_for_again_while_it_runs_is_not_started_twice(going, gesture):
    going.executor.closed = {"a"}
    going.start(A, steps=("a",))
    first = going.until_status("a", Status.RUNNING)

    going.extend("again", A, steps=("a",), gesture=gesture)
    going.extend("whole", A, B, gesture=gesture)

    assert going.until_grown("again") == {"a": first.id}
    assert going.until_grown("whole")["a"] == first.id
    assert going.finish() == {"a": "succeeded", "b": "succeeded"}
    assert going.executed() == ["a", "b"]
    assert len(going.picture().executions) == 2


def test_a_step_whose_text_has_changed_is_executed_anew_and_the_old_execution_stopped(going):
    going.executor.closed = {"a"}
    going.start(A, steps=("a",))
    old = going.until_status("a", Status.RUNNING)

    going.extend("edited", A2, steps=("a",))
    new = going.until_grown("edited")["a"]
    picture = going.until(lambda now: now.executions[old.id].status.terminal)

    assert new != old.id
    assert (picture.executions[old.id].status, picture.executions[old.id].current) == (Status.CANCELLED, False)
    assert {attempt.status for attempt in picture.attempts.values() if attempt.execution == old.id} == {
        Status.CANCELLED
    }
    assert going.finish() == {"a": "succeeded"}
    assert going.executed() == ["a", "a"]
    # What was replaced does not count: the run has succeeded.
    assert going.reports[0].run.status is Status.SUCCEEDED


def test_what_was_replaced_after_its_end_keeps_all_that_was_known_of_it(going):
    going.start(A, B)
    old = going.until_status("b", Status.SUCCEEDED)
    executions = going.workspace.context.history.executions
    (before,) = executions.get([old.id])
    assert before.components

    going.extend("edited", A, B2, steps=("b",))
    going.until_grown("edited")
    going.until_status("b", Status.SUCCEEDED)

    (after,) = executions.get([old.id])
    assert not after.current
    assert (after.status, after.components, after.artifacts) == (before.status, before.components, before.artifacts)
    assert going.finish() == {"a": "succeeded", "b": "succeeded"}
    assert going.executed() == ["a", "b", "b"]


def test_what_needs_a_replaced_execution_is_replaced_with_it(going):
    going.start(A, B)
    going.until_status("b", Status.SUCCEEDED)

    going.extend("edited", A2, B)
    stands = going.until_grown("edited")

    assert going.finish() == {"a": "succeeded", "b": "succeeded"}
    assert going.executed() == ["a", "b", "a", "b"]
    assert going.picture().executions[stands["b"]].needs == (stands["a"],)
    assert [each.current for each in going.picture().executions.values()].count(True) == 2


def test_a_failed_step_that_is_asked_for_by_name_runs_again(going):
    going.start(FAILING, steps=("a",))
    first = going.until_status("a", Status.FAILED)

    going.extend("again", FAILING, steps=("a",), gesture=0)

    assert going.until_grown("again")["a"] != first.id
    assert going.finish() == {"a": "failed"}
    assert going.executed() == ["a", "a"]


def test_a_failed_step_is_not_repeated_for_each_that_needs_it_in_one_gesture(going):
    going.start(FAILING, steps=("a",))
    first = going.until_status("a", Status.FAILED)

    going.extend("same", FAILING, B, steps=("b",), gesture=0)
    assert going.until_grown("same")["a"] == first.id
    skipped = going.until_status("b", Status.SKIPPED)
    assert [reason.component for reason in skipped.reasons] == ["upstream:a"]
    assert going.executed() == ["a"]

    going.extend("next", FAILING, B, steps=("b",), gesture=1)
    assert going.until_grown("next")["a"] != first.id
    assert going.finish() == {"a": "failed", "b": "skipped"}
    assert going.executed() == ["a", "a"]


def test_a_run_that_is_held_stays_open_and_takes_more(going):
    going.start(A)
    going.until_status("a", Status.SUCCEEDED)
    time.sleep(0.3)
    assert going.picture().status is Status.RUNNING

    assert going.extend("b", A, B, steps=("b",))
    going.until_status("b", Status.SUCCEEDED)
    assert going.extend("c", A, B, C, steps=("c",))
    going.until_status("c", Status.SUCCEEDED)

    assert going.finish() == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    assert going.executed() == ["a", "b", "c"]
    assert len(going.workspace.runs.find(RunFilter())) == 1


def test_a_run_that_has_ended_takes_no_more(going):
    going.start(A)
    going.until_status("a", Status.SUCCEEDED)
    going.finish()
    before = going.picture()

    assert not going.extend("late", A, B)

    assert going.picture() == before
    assert "late" not in before.requests


def test_a_run_that_broke_off_takes_no_more(going):
    def broken(_job: Job) -> None:
        raise RuntimeError("the executor broke")

    going.executor.submit = broken
    going.start(A)
    assert going._thread is not None
    going._thread.join(PATIENCE)

    assert [str(error) for error in going.errors] == ["the executor broke"]
    assert not going.extend("late", A, B)
    picture = going.picture()
    assert picture.status is Status.LOST
    assert {each.status for each in picture.executions.values()} == {Status.LOST}
    assert InspectionRepository(going.workspace.context.history.database).damage() == []


def test_a_request_that_is_wrong_is_refused_and_the_run_goes_on(going):
    going.executor.closed = {"a"}
    going.start(A)
    going.until_status("a", Status.RUNNING)

    with pytest.raises(BadUsage, match="no step `nonesuch`"):
        going.extend("wrong", A, steps=("nonesuch",))

    assert going.finish() == {"a": "succeeded"}
    assert set(going.picture().requests) == {"first"}


def test_the_log_tells_what_stands_for_each_request(going):
    going.executor.closed = {"a"}
    going.start(A, B, steps=("a",))
    going.extend("second", A, B, steps=("b",))
    going.extend("third", A, B2, steps=("b",))
    going.until_grown("third")
    going.finish()

    events = going.workspace.context.history.log.read("first")
    grown = {event.fact.request: event.fact.executions for event in events if isinstance(event.fact, RunGrown)}
    assert {name: set(stands) for name, stands in grown.items()} == {
        "first": {"a"}, "second": {"a", "b"}, "third": {"a", "b"},
    }  # fmt: skip
    assert grown["first"]["a"] == grown["second"]["a"] == grown["third"]["a"]
    assert grown["second"]["b"] != grown["third"]["b"]
    # Whoever hears of a request has heard of its executions.
    picture = RunSnapshot()
    for event in events:
        picture.take([event])
        if isinstance(event.fact, RunGrown):
            assert set(event.fact.executions.values()) <= set(picture.executions)


def test_only_results_older_than_the_run_are_reused_ones(going):
    report = execute_run(going.workspace, going.request(A), RunOptions(run="earlier"), executors=lambda: going.executor)
    assert [each.status for each in report.steps] == [Status.SUCCEEDED]

    going.start(A, B)
    going.until_status("b", Status.SUCCEEDED)
    going.extend("edited", A, B2)
    going.until(lambda now: "edited" in now.requests and _ended(now, "edited"))
    going.extend("back", A, B)
    going.until(lambda now: "back" in now.requests and _ended(now, "back"))

    assert going.finish() == {"a": "reused", "b": "succeeded"}
    assert going.executed() == ["a", "b", "b"]
    steps = {each.step: each for each in going.reports[0].steps}
    assert steps["a"].origin is not None
    assert steps["a"].origin.run == "earlier"
    assert steps["b"].origin is not None
    assert (steps["b"].origin.run, steps["b"].saved_seconds) == ("first", 0.0)


def _ended(picture: RunSnapshot, request: str) -> bool:
    return all(picture.executions[each].status.terminal for each in picture.requests[request].values())
