"""Carrying out runs, on real history and a real store: what runs, what is taken, and what survives which fault."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from notebook_author import write_notebook
from scripted_executor import Bench, Fail, Kernelless, Lose, by_code

from nbpipe.errors import BadUsage, ClusterOutOfReach, HistoryOutOfReach
from nbpipe.history.store import History
from nbpipe.model import AttemptRecord, Job, Status
from nbpipe.run.process_identity import is_alive
from nbpipe.run.submission import RunOptions
from nbpipe.views import log_text
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import ActiveRun, execute_run

MAKE = "%%step make -o a\na = 3"
DOUBLE = "%%step double -i a -o b\nb = a * 2"
ADD = "%%step add -i b -o c\nc = b + 1"
ASIDE = "%%step aside -o z\nz = 1"


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, [MAKE, DOUBLE, ADD, ASIDE])
    yield made
    made.executor.close()


def failing(*steps: str, times: int = 1000, error: type[Exception] = Fail):
    """Get work that fails so many times in these steps."""
    counts: Counter[str] = Counter()

    def work(job: Job, output: str) -> str:
        counts[job.step] += 1
        if job.step in steps and counts[job.step] <= times:
            raise error("no")
        return by_code(job, output)

    return work


def attempts_of(history: History, run: str, step: str) -> list[AttemptRecord]:
    """Return the attempts of a step's current execution, first to last."""
    execution = history.executions.of_step(run, step)
    return [] if execution is None else history.attempts.of_execution(execution.id)


def test_everything_runs_once_in_an_order_that_works(bench):
    assert sorted(bench.run()) == ["add", "aside", "double", "make"]
    assert bench.ended() == "succeeded"
    assert set(bench.statuses().values()) == {"succeeded"}
    assert [job.step for job in bench.executor.jobs if job.step != "aside"] == ["make", "double", "add"]


def test_nothing_changed_nothing_runs_and_no_executor_is_made(bench):
    bench.run()
    with Workspace.open(bench.folder) as workspace:
        report = execute_run(
            workspace, bench.request(), RunOptions(), executors=lambda: pytest.fail("an executor was made")
        )

    assert {step.status for step in report.steps} == {Status.REUSED}
    assert {step.origin.run for step in report.steps if step.origin} == {bench.report.run.id}
    assert report.saved_seconds == sum(step.seconds for step in bench.report.steps)


def test_an_edit_runs_its_step_and_what_its_bytes_reach(bench):
    bench.run()
    bench.sources[1] = DOUBLE.replace("2", "5")

    assert bench.run() == ["double", "add"]
    assert [reason.component for reason in bench.step("double").reasons] == ["code"]
    assert [reason.component for reason in bench.step("add").reasons] == ["input:b"]


def test_equal_bytes_stop_the_wave(bench):
    bench.run(work=lambda job, output: output)
    bench.sources[0] = MAKE.replace("3", "1 + 2")

    assert bench.run() == ["make"]
    assert bench.statuses() == {"make": "succeeded", "double": "reused", "add": "reused", "aside": "reused"}


def test_what_was_finished_before_a_failure_is_reused_next_time(bench):
    assert bench.run(work=failing("double")) == ["make", "aside", "double"]
    assert bench.ended() == "failed"
    assert bench.statuses() == {"make": "succeeded", "double": "failed", "add": "skipped", "aside": "succeeded"}
    assert (bench.step("double").failure.cell, bench.step("double").failure.line) == (1, 2)
    assert bench.step("add").reasons[0].component == "upstream:double"

    assert bench.run(work=by_code) == ["double", "add"]
    assert bench.ended() == "succeeded"


def test_keep_going_ends_partial_with_everything_else_done(bench):
    bench.sources.append("%%step last -i z -o y\ny = z")
    bench.run(RunOptions(keep_going=True), failing("make"))

    assert bench.ended() == "partial"
    assert bench.statuses() == {
        "make": "failed", "double": "skipped", "add": "skipped", "aside": "succeeded", "last": "succeeded",
    }  # fmt: skip


def test_c18_other_bytes_from_the_same_key_are_noted(bench):
    bench.run()
    assert bench.run(force=("make",), work=lambda job, output: f'"{job.attempt}"') == ["make", "double", "add"]
    assert "not deterministic: `a`" in " ".join(bench.step("make").notes)
    assert not bench.step("double").notes, "its input was another one"


def test_a_failing_step_is_tried_again_in_folders_of_its_own(bench):
    bench.sources = [MAKE.replace("-o a", "-o a --retries 2")]
    bench.run(work=failing("make", times=2))

    assert bench.statuses() == {"make": "succeeded"}
    assert bench.step("make").attempts == 3
    assert len({job.directory for job in bench.executor.jobs}) == len({job.attempt for job in bench.executor.jobs}) == 3
    with History.open(bench.folder / ".nbpipe" / "history.db") as history:
        found = attempts_of(history, bench.report.run.id, "make")
    assert [(each.number, each.status) for each in found] == [
        (1, Status.FAILED), (2, Status.FAILED), (3, Status.SUCCEEDED),
    ]  # fmt: skip


def test_a_worker_that_is_lost_twice_costs_no_retry(bench):
    bench.sources = [MAKE]
    bench.run(work=failing("make", times=2, error=Lose))

    assert bench.statuses() == {"make": "succeeded"}
    assert bench.step("make").attempts == 3


def test_a_worker_that_is_lost_three_times_fails_the_step(bench):
    bench.sources = [MAKE]
    bench.run(work=failing("make", error=Lose))

    assert bench.statuses() == {"make": "failed"}
    assert bench.step("make").failure.kind == "lost"
    assert bench.step("make").attempts == 3


def test_two_equal_steps_of_one_run_are_computed_once(bench):
    """Both are due at once: the second waits for the first's result, which is no older than the run."""
    bench.sources = [
        "%%step one -o a\na = 3",
        "%%step two -o a\na = 3",
        "%%step both -i x=one.a,y=two.a -o z\nz = x + y",
    ]

    assert len(bench.run(work=lambda job, output: time.sleep(0.3) or output)) == 2
    assert set(bench.statuses().values()) == {"succeeded"}
    assert sorted(step.attempts for step in bench.report.steps) == [0, 1, 1]


def test_of_two_equal_steps_the_second_is_tried_when_the_first_fails(bench):
    bench.sources = ["%%step one -o a\na = 3", "%%step two -o a\na = 3"]
    bench.run(RunOptions(keep_going=True), failing("one"))

    assert bench.statuses() == {"one": "failed", "two": "succeeded"}


def test_a_file_that_changes_while_its_step_runs_makes_a_result_for_this_run_only(bench):
    (bench.folder / "raw.csv").write_text("1")
    bench.sources = ["%%step load -i raw=./raw.csv -o a\na = raw", "%%step use -i a -o b\nb = a"]

    def touching(job: Job, output: str) -> str:
        if job.step == "load":
            (bench.folder / "raw.csv").write_text("22")
        return output

    bench.run(work=touching)
    assert bench.ended() == "succeeded"
    assert "changed while the step ran" in bench.step("load").notes[-1]

    (bench.folder / "raw.csv").write_text("1")
    assert bench.run(work=lambda job, output: output) == ["load"]
    assert [reason.component for reason in bench.step("load").reasons] == ["result"]


def test_a_hashed_file_that_changes_meanwhile_counts_as_well(bench):
    (bench.folder / "extra.txt").write_text("1")
    bench.sources = ["%%step load --hash ./extra.txt -o a\na = 1"]
    bench.run(work=lambda job, output: (bench.folder / "extra.txt").write_text("22") and output)

    assert "changed while the step ran" in bench.step("load").notes[-1]


def test_a_destination_is_filled_when_the_step_runs_and_when_it_is_reused(bench):
    bench.sources = ["%%step make -o a:json=./out/{step}-{depth}.json\na = depth"]
    bench.parameters = "depth = 3"
    bench.run()
    filled = bench.folder / "out" / "make-3.json"
    written = filled.read_text()
    filled.unlink()

    assert bench.run() == []
    assert filled.read_text() == written


def test_a_destination_of_its_own_for_each_run(bench):
    bench.sources = ["%%step make -o a:json=./out/{run-id}/{output-name}.json\na = 3"]
    runs = []
    for _ in range(2):
        bench.run()
        runs.append(bench.report.run.id)

    assert [(bench.folder / "out" / run / "a.json").is_file() for run in runs] == [True, True]


@pytest.mark.parametrize("reused", [False, True])
def test_a_destination_that_cannot_be_written_fails_the_step_and_says_why(bench, reused):
    bench.sources = ["%%step make -o a:json=./out/a.json\na = 3", ASIDE]
    if reused:
        bench.run()
        (bench.folder / "out" / "a.json").unlink()
    (bench.folder / "out" / "a.json").mkdir(parents=True)
    bench.run(RunOptions(keep_going=True))

    assert bench.statuses() == {"make": "failed", "aside": "reused" if reused else "succeeded"}
    assert bench.step("make").failure.ename == "NotDelivered"
    assert "is a folder" in bench.step("make").failure.message


def test_forced_steps_run_and_only_they(bench):
    bench.run(work=lambda job, output: output)

    assert bench.run(force=("double",)) == ["double"]
    assert sorted(bench.run(force=())) == ["add", "aside", "double", "make"]
    assert bench.run(start="double") == ["double", "add"]
    assert bench.run(steps=("double",), force=()) == ["double"]


def test_steps_outside_of_a_request_are_no_part_of_the_run(bench):
    bench.run(steps=("double",))

    assert bench.statuses() == {"make": "succeeded", "double": "succeeded"}


def test_a_step_that_runs_has_no_log_yet(bench):
    said: dict[str, str] = {}

    def work(job: Job, output: str) -> str:
        with Workspace.open(bench.folder) as workspace, pytest.raises(BadUsage) as caught:
            workspace.results.executed_notebook(bench.request().notebook, job.step)
        said[job.step] = caught.value.message
        return by_code(job, output)

    bench.run(work=work)
    assert said["make"] == "step `make` has not ended in run 1: it is running"


def test_the_log_of_a_step_is_that_of_its_newest_execution_whatever_run_it_is_from(bench):
    notebook = bench.request().notebook
    bench.run(work=printing)
    bench.run(steps=("aside",), force=())
    with Workspace.open(bench.folder) as workspace:
        assert log_text.text_of_log(workspace.results.log(notebook, "add")) == "add in run 1"
        assert log_text.text_of_log(workspace.results.log(notebook, "aside")) == "aside in run 2"
        last = workspace.plans.why(bench.request(), "add").last
        assert last is not None
        assert last.run == workspace.runs.show("1")[0].id
        with pytest.raises(BadUsage, match=r"no run of work\.ipynb has a step `ad`"):
            workspace.results.log(notebook, "ad")


def printing(job: Job, output: str) -> str:
    """Leave an executed notebook in which the step has printed its name."""
    number = len(list(Path(job.directory).parents[2].iterdir()))
    cell = {"outputs": [{"output_type": "stream", "text": f"{job.step} in run {number}"}]}
    Path(job.directory, "notebook.ipynb").write_text(json.dumps({"cells": [cell]}))
    return by_code(job, output)


@pytest.mark.parametrize("saved", [False, True])
def test_a_kernel_in_which_one_cell_was_run_knows_the_latest_state_of_every_step(bench, saved):
    if saved:
        write_notebook(bench.folder / bench.notebook, bench.sources)
    bench.run()
    bench.sources = [ASIDE]
    bench.run(steps=("aside",), force=())
    with Workspace.open(bench.folder) as workspace:
        run, steps = workspace.runs.latest(bench.request().notebook)
    assert run.number == 2
    assert sorted(step.step for step in steps) == ["add", "aside", "double", "make"]


def test_the_watcher_sees_every_step_start_and_end(bench):
    bench.sources = [MAKE, DOUBLE]
    bench.run()
    seen = [(record.step, record.status.value) for record in bench.seen]

    assert seen == [
        ("make", "preparing"), ("double", "queued"), ("make", "running"), ("make", "succeeded"),
        ("double", "queued"), ("double", "running"), ("double", "succeeded"),
    ]  # fmt: skip


def test_a_wide_run_prepares_only_what_can_start_soon(bench):
    bench.sources = [f"%%step s{number} -o a{number}\na{number} = {number}" for number in range(24)]
    begun: list[int] = []
    ended: list[str] = []

    def work(job: Job, output: str) -> str:
        begun.append(len(bench.executor.jobs) - len(ended))
        time.sleep(0.01)
        ended.append(job.step)
        return output

    assert len(bench.run(work=work)) == 24
    assert max(begun) <= 2 * bench.executor.slots
    assert bench.ended() == "succeeded"


def test_a_later_gesture_does_not_join_a_run_that_was_cancelled(bench):
    bench.sources = [MAKE]
    cancelled = threading.Event()
    active: list[ActiveRun] = []
    joined: list[bool] = []

    def work(job: Job, output: str) -> str:
        cancelled.set()
        while job.attempt not in bench.executor.stopped:
            time.sleep(0.01)
        joined.extend(active[0].extend(bench.request(), f"r{gesture}", gesture) for gesture in (0, 1))
        return output

    bench.executor.work = work
    with Workspace.open(bench.folder) as workspace:
        report = execute_run(
            workspace, bench.request(), RunOptions(), executors=lambda: bench.executor, began=active.append,
            cancelled=cancelled.is_set,
        )  # fmt: skip

    assert joined == [True, False]
    assert report.run.status is Status.CANCELLED


def cancel_when(condition) -> threading.Thread:
    """Send this process what Ctrl-C sends as soon as the condition holds."""

    def watch() -> None:
        while not condition():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_cancel_stops_attempts_and_ends_the_run_when_they_are_gone(bench):
    """The first signal is a wish: the run waits for its attempts' ends and is cancelled then."""
    running = threading.Event()

    def slow(job: Job, output: str) -> str:
        running.set()
        while job.attempt not in bench.executor.stopped:
            time.sleep(0.01)
        return output

    watcher = cancel_when(running.is_set)
    bench.run(work=slow)
    watcher.join()

    assert bench.ended() == "cancelled"
    assert bench.statuses() == dict.fromkeys(("make", "double", "add", "aside"), "cancelled")
    assert sorted(bench.executor.stopped) == sorted(job.attempt for job in bench.executor.jobs)
    assert bench.run(work=by_code)[0] == "make"


def test_a_run_that_waits_for_another_can_be_cancelled(bench, tmp_path):
    """What the other run computes is not touched."""
    other = Bench(tmp_path, [MAKE], executor=Kernelless())
    begun, go = threading.Event(), threading.Event()

    def slow(job: Job, output: str) -> str:
        begun.set()
        go.wait(20)
        return output

    thread = threading.Thread(target=other.run, kwargs={"work": slow})
    thread.start()
    assert begun.wait(10)
    bench.sources = [MAKE]
    watcher = cancel_when(lambda: any(record.notes for record in bench.seen))
    bench.run()
    watcher.join()
    go.set()
    thread.join()

    assert (bench.ended(), other.ended()) == ("cancelled", "succeeded")
    assert bench.executor.jobs == []


def test_two_runs_at_once_compute_each_step_once(tmp_path):
    """Single flight: who comes second waits for the first and takes its result."""
    sources = [f"%%step s{n} -o d{n}\nd{n} = {n}" for n in range(6)] + ["%%step end -i d0,d1 -o e\ne = d0, d1"]
    benches = [Bench(tmp_path, sources, notebook=f"{n}.ipynb") for n in range(2)]
    start = threading.Barrier(2)

    def slow(job: Job, output: str) -> str:
        time.sleep(0.05)
        return by_code(job, output)

    def go(bench: Bench) -> None:
        start.wait()
        bench.run(work=slow)

    threads = [threading.Thread(target=go, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    computed = Counter(job.step for bench in benches for job in bench.executor.jobs)
    assert computed == Counter([*(f"s{n}" for n in range(6)), "end"])
    assert [bench.ended() for bench in benches] == ["succeeded", "succeeded"]
    assert [len(bench.statuses()) for bench in benches] == [7, 7]


PROGRAM = """\
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from scripted_executor import Bench, by_code
marks = Path({marks!r})
def work(job, output):
    (marks / f"{{job.step}}-{{job.attempt}}").touch()
    while job.step == {hangs!r}:
        time.sleep(0.05)
    time.sleep(0.05)
    return by_code(job, output)
bench = Bench(Path({folder!r}), {sources!r})
bench.run(work=work)
bench.executor.close()
print(bench.ended())
"""


def another_process(folder: Path, marks: Path, sources: list[str], hangs: str = "") -> subprocess.Popen[str]:
    """Run a pipeline in a process of its own; each attempt leaves a mark."""
    marks.mkdir(exist_ok=True)
    values = {"tests": str(Path(__file__).parent), "marks": str(marks), "hangs": hangs, "folder": str(folder)}
    program = PROGRAM.format(**values, sources=sources)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True)


def marked(marks: Path) -> Counter[str]:
    """Get how often each step was begun."""
    return Counter(path.name.partition("-")[0] for path in marks.iterdir())


def test_two_processes_at_once_compute_each_step_once(tmp_path):
    sources = [f"%%step s{n} -o d{n}\nd{n} = {n}" for n in range(4)]
    folder = tmp_path / "work"
    folder.mkdir()
    processes = [another_process(folder, tmp_path / "marks", sources) for _ in range(2)]

    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["succeeded", "succeeded"]
    assert marked(tmp_path / "marks") == Counter([f"s{n}" for n in range(4)])


def test_a_killed_run_is_lost_and_the_next_goes_on_with_what_was_committed(tmp_path):
    """No manual unlock: the dead run's claims are free at once, and only what it had not finished is done."""
    sources = [MAKE, DOUBLE, ADD]
    folder, marks = tmp_path / "work", tmp_path / "marks"
    folder.mkdir()
    process = another_process(folder, marks, sources, hangs="double")
    ends = time.monotonic() + 30
    while not (marks.exists() and marked(marks)["double"]):
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.kill()
    process.communicate()

    bench = Bench(folder, sources)
    begin = time.monotonic()
    assert bench.run() == ["double", "add"]
    bench.executor.close()
    assert time.monotonic() - begin < 10
    with History.open(folder / ".nbpipe" / "history.db") as history:
        newest, dead = history.runs.newest()
        assert (newest.status, dead.status) == (Status.SUCCEEDED, Status.LOST)
        assert {step.step: step.status.value for step in history.executions.of_run(dead.id)} == {
            "make": "succeeded", "double": "lost", "add": "lost",
        }  # fmt: skip
        assert [each.status for each in attempts_of(history, dead.id, "double")] == [Status.LOST]


def test_a_waiting_run_takes_over_when_the_one_that_computes_dies(tmp_path):
    folder, marks = tmp_path / "work", tmp_path / "marks"
    folder.mkdir()
    process = another_process(folder, marks, [MAKE], hangs="make")
    ends = time.monotonic() + 30
    while not (marks.exists() and marked(marks)["make"]):
        assert time.monotonic() < ends
        time.sleep(0.02)
    bench = Bench(folder, [MAKE])
    killer = threading.Thread(target=lambda: kill_when(process, lambda: any(record.notes for record in bench.seen)))
    killer.start()
    assert bench.run() == ["make"]
    killer.join()
    bench.executor.close()

    assert bench.ended() == "succeeded"
    assert any("another run is computing this result" in record.notes for record in bench.seen)


def kill_when(process: subprocess.Popen[str], condition) -> None:
    """Kill a process as soon as the condition holds."""
    while not condition():
        time.sleep(0.02)
    process.kill()
    process.communicate()


class Unreachable(Kernelless):
    """An executor whose cluster is gone when the second attempt is submitted."""

    def submit(self, job: Job) -> None:
        """Start the first attempt only."""
        if self.jobs:
            raise ClusterOutOfReach("the cluster is gone")
        super().submit(job)


def test_a_run_that_breaks_off_leaves_nothing_open(tmp_path):
    """Neither a step that seems to run, nor an attempt, nor a claim that the next run would wait for."""
    bench = Bench(tmp_path, [MAKE, ASIDE], executor=Unreachable(lambda job, output: time.sleep(0.2) or output))
    with pytest.raises(ClusterOutOfReach):
        bench.run()
    bench.executor.close()
    with History.open(tmp_path / ".nbpipe" / "history.db") as history:
        (run,) = history.runs.newest()
        assert run.status is Status.LOST
        assert {step.status for step in history.executions.of_run(run.id)} == {Status.LOST}
        attempts = [each for step in ("make", "aside") for each in attempts_of(history, run.id, step)]
        assert {each.status for each in attempts} == {Status.LOST}
    assert bench.executor.jobs[0].attempt in bench.executor.stopped

    begin = time.monotonic()
    again = Bench(tmp_path, [MAKE, ASIDE])
    assert sorted(again.run()) == ["aside", "make"]
    again.executor.close()
    assert time.monotonic() - begin < 5


def test_a_history_that_is_gone_is_told_as_that(tmp_path):
    """The first error is the one that is raised, though nothing can be tidied up either."""
    bench = Bench(tmp_path, [MAKE, DOUBLE])

    def wrecking(job: Job, output: str) -> str:
        with sqlite3.connect(tmp_path / ".nbpipe" / "history.db") as connection:
            connection.execute("DROP TABLE outputs")
        connection.close()
        return output

    with pytest.raises(HistoryOutOfReach):
        bench.run(work=wrecking)
    bench.executor.close()


def test_a_run_that_was_taken_for_dead_comes_to_an_end(tmp_path):
    """Somebody who cannot see its process closed it: nothing can be committed any more, so it fails and says so."""
    bench = Bench(tmp_path, [MAKE])

    def closing(job: Job, output: str) -> str:
        with History.open(tmp_path / ".nbpipe" / "history.db") as history:
            history.lost_runs.mark_lost(alive=lambda owner: False, now=time.time())
        return output

    bench.run(work=closing)
    bench.executor.close()

    assert bench.ended() == "lost"
    assert len(bench.executor.jobs) <= 3
    assert bench.statuses() == {"make": "lost"}


def test_a_slow_reader_of_claims_is_never_kept_waiting_by_a_run_that_is_over(bench):
    """All claims are given back, whatever became of their steps."""
    bench.run(RunOptions(keep_going=True), failing("make"))
    with History.open(bench.folder / ".nbpipe" / "history.db") as history:
        assert history.claims.renew(bench.report.run.owner, now=time.time(), lease=30) == set()
    assert is_alive(bench.report.run.owner)
