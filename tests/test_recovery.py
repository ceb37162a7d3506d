"""What an attempt had published when its run broke off is taken over, once, and only if nobody can doubt it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from notebook_author import Author, write_notebook
from scripted_executor import Bench, Kernelless

from nbpipe.compute import unreported_outcomes
from nbpipe.data.attempt_manifest import NAME, manifest_text, read_manifest
from nbpipe.model import AttemptEnded, AttemptReport, Job, Outcome, Status
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import ActiveRun, execute_run

MAKE = "%%step make -i raw=./data.txt -o a:json\na = raw"
AGAIN = MAKE.replace("a = raw", "a = raw * 2")


class Signing(Kernelless):
    """Signs for what it publishes as a worker does, and then says that its worker was lost."""

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Get what attempts report, successes as losses."""
        return [
            AttemptEnded(self._lost(report.outcome)) if isinstance(report, AttemptEnded) else report
            for report in super().wait(timeout)
        ]

    def _lost(self, outcome: Outcome) -> Outcome:
        (job,) = [job for job in self.jobs if job.attempt == outcome.attempt]
        self.signs(job, outcome)
        return unreported_outcomes.lost_outcome(job, ConnectionError("gone"))

    def signs(self, job: Job, outcome: Outcome) -> None:
        """Leave the manifest."""
        Path(job.directory, NAME).write_text(manifest_text(outcome, job.run, job.step))


class Dying(Signing):
    """Signs, and takes the whole process with it before anybody hears of it."""

    def signs(self, job: Job, outcome: Outcome) -> None:
        """Leave the manifest and die."""
        super().signs(job, outcome)
        os._exit(9)


class Replacing(Dying):
    """Lets the first attempt succeed, has its step replaced by another one, and dies with the attempt at that."""

    def __init__(self) -> None:
        super().__init__()
        self.run: ActiveRun | None = None
        self.is_replaced = False

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Get what attempts report."""
        if self.is_replaced:
            return super().wait(timeout)
        reports = Kernelless.wait(self, timeout)
        if self.run is not None and any(isinstance(report, AttemptEnded) for report in reports):
            self.is_replaced = self.run.extend(Bench(Path.cwd(), [AGAIN]).request(steps=("make",)), "again", 1)
        return reports


def replace_and_die() -> None:
    """Run in the current folder, with a step that is replaced in its run, until this process is gone."""
    executor = Replacing()
    with Workspace.open(Path.cwd()) as workspace:
        execute_run(workspace, Bench(Path.cwd(), [MAKE]).request(), RunOptions(), executors=lambda: executor,
            began=lambda run: setattr(executor, "run", run),
        )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.txt").write_text("one")
    return tmp_path


def die_after_signing(folder: Path) -> None:
    """Run in a process of its own that is gone between manifest and commit."""
    program = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\nfrom test_recovery import Dying, MAKE\n"
        "from scripted_executor import Bench\nBench(Path(sys.argv[1]), [MAKE], executor=Dying()).run()\n"
    )
    command = [sys.executable, "-c", program, str(folder), str(Path(__file__).parent)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9


def test_a_lost_attempt_that_had_signed_succeeds_without_another_try(folder):
    bench = Bench(folder, [MAKE], executor=Signing())
    assert bench.run() == ["make"]
    assert (bench.ended(), bench.step("make").attempts) == ("succeeded", 1)
    bench.executor.close()


def test_a_lost_attempt_with_somebody_elses_manifest_is_tried_again(folder):
    class Forging(Signing):
        def signs(self, job: Job, outcome: Outcome) -> None:
            text = manifest_text(outcome, job.run, job.step).replace(outcome.attempt, "another")
            Path(job.directory, NAME).write_text(text)

    bench = Bench(folder, [MAKE], executor=Forging())
    assert bench.run() == ["make"] * 3
    assert bench.ended() == "failed"
    bench.executor.close()


def test_what_was_signed_before_the_driver_died_is_not_made_again(folder):
    die_after_signing(folder)
    bench = Bench(folder, [MAKE])

    assert bench.run() == []
    with Workspace.open(folder) as workspace:
        first, steps = workspace.runs.show("1")
    assert (first.status, [step.status for step in steps]) == (Status.LOST, [Status.SUCCEEDED])
    assert bench.step("make").origin.run == first.id


def test_a_run_that_died_with_a_replaced_execution_keeps_both(folder):
    program = "import sys; sys.path.insert(0, sys.argv[1]); from test_recovery import replace_and_die as die; die()"
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False, timeout=60, cwd=folder).returncode == 9

    with Workspace.open(folder) as workspace:
        run, steps = workspace.runs.show("1")
        executions = workspace.context.history.executions.all_of_run(run.id)
    assert (run.status, [(step.step, step.status, step.attempts) for step in steps]) == (
        Status.LOST, [("make", Status.SUCCEEDED, 1)],
    )  # fmt: skip
    assert sorted((each.status, each.current, bool(each.components)) for each in executions) == [
        (Status.SUCCEEDED, False, True), (Status.SUCCEEDED, True, True),
    ]  # fmt: skip
    for source in (AGAIN, MAKE):
        assert Bench(folder, [source]).run() == []


def test_a_torn_manifest_is_none_and_the_step_runs(folder):
    die_after_signing(folder)
    for manifest in (folder / ".nbpipe" / "runs").glob(f"*/*/*/{NAME}"):
        manifest.write_text(manifest.read_text()[:-20])
    assert Bench(folder, [MAKE]).run() == ["make"]


def test_a_declared_file_that_has_changed_since_makes_the_result_serve_nobody(folder):
    die_after_signing(folder)
    (folder / "data.txt").write_text("two")
    with Workspace.open(folder):
        pass
    (folder / "data.txt").write_text("one")

    assert Bench(folder, [MAKE]).run() == ["make"]


def test_a_manifest_reads_back_only_for_its_attempt_and_token(tmp_path):
    outcome = Outcome("a", 3, Status.SUCCEEDED, 1.5, "n.ipynb", notes=("x",))
    (tmp_path / NAME).write_text(manifest_text(outcome, "r", "s"))

    assert read_manifest(tmp_path, "a", 3) == outcome
    assert read_manifest(tmp_path, "a", 4) is None
    assert read_manifest(tmp_path, "b", 3) is None
    assert read_manifest(tmp_path / "nowhere", "a", 3) is None


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_a_command_killed_between_manifest_and_commit_loses_nothing(folder):
    """The whole command with a real kernel: its commit is held up by a lock until it is killed."""
    write_notebook(folder / "work.ipynb", ["%%step make -i raw=./data.txt -o a\na = raw.read_text()"])
    command = [sys.executable, "-m", "nbpipe", "run", "work.ipynb"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _hold_until_signed(folder, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    author = Author(folder, "%%step make -i raw=./data.txt -o a\na = raw.read_text()")
    assert author.run() == set()
    assert author.value("a") == "one"
    living = [each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]
    assert [each for each in living if "ipykernel" in " ".join(each.cmdline())] == []


def _hold_until_signed(folder: Path, process: subprocess.Popen[bytes]) -> None:
    runs, ends = folder / ".nbpipe" / "runs", time.monotonic() + 60
    while not list(runs.glob("*/*/*/job.json")):
        assert time.monotonic() < ends
        time.sleep(0.01)
    connection = sqlite3.connect(folder / ".nbpipe" / "history.db", timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    while not list(runs.glob(f"*/*/*/{NAME}")):
        assert time.monotonic() < ends
        time.sleep(0.01)
    # Killed while it waits for this lock.
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    connection.execute("ROLLBACK")
    connection.close()
