"""The runner as a program: whatever it is sent is answered, and who goes when decides what becomes of a run."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from notebook_author import write_notebook

from nbpipe.errors import BadPipeline, OutOfReach, Refusals
from nbpipe.history.runs import RunFilter
from nbpipe.language.notebook_file import read_notebook
from nbpipe.model import Status
from nbpipe.model.datasets import DatasetReference
from nbpipe.run.messages import Reply, ReplyKind, decode_reply, encode_release, encode_submission
from nbpipe.run.submission import Lifetime, RunOptions, Submission
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_launch import launch_run

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

QUICK = "%%step quick -o q\nq = 1"
SLOW = (
    "%%step slow -o a\nimport pathlib, time\npathlib.Path('started').touch()\n"
    "while not pathlib.Path('go').exists():\n    time.sleep(0.05)\na = 1"
)


class Runner:
    """A runner that is spoken to line by line."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "nbpipe.runner"], cwd=folder, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def send(self, line: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def reply(self) -> Reply:
        """Return the next reply."""
        assert self.process.stdout is not None
        return decode_reply(self.process.stdout.readline())

    def disconnect(self) -> None:
        """Close the connection, as the end of a client does."""
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def runner(tmp_path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    if runner.process.poll() is None:
        runner.process.kill()
    runner.process.wait()
    for stream in (runner.process.stdin, runner.process.stdout):
        assert stream is not None
        stream.close()


def submission(folder: Path, *sources: str, run: str = "r1", **more: object) -> Submission:
    """Return a submission of a notebook with these cells."""
    path = write_notebook(folder / "n.ipynb", list(sources))
    made = Submission(
        tuple(read_notebook(path).cells), request_for(path), RunOptions(run=run), folder / ".nbpipe", dict(os.environ)
    )
    return dataclasses.replace(made, **more)


def until(condition: Callable[[], object]) -> None:
    """Wait for something that other processes do."""
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def statuses(folder: Path) -> list[Status]:
    """Return the statuses of all runs, oldest first."""
    with Workspace.open(folder) as workspace:
        return [run.status for run in reversed(workspace.runs.find(RunFilter()))]


def test_what_is_no_message_is_answered_and_the_runner_goes_on(runner, tmp_path):
    whole = encode_submission(submission(tmp_path, QUICK))
    for line in ("nonsense", "", "[]", whole[:-9], whole.replace('"version":1', '"version":99')):
        runner.send(line)
        reply = runner.reply()
        assert (reply.kind, reply.error is not None) == (ReplyKind.REFUSED, True)
    assert reply.run == "r1"
    assert "version 99" in reply.error.message
    runner.send(whole)
    assert runner.reply() == Reply(ReplyKind.BEGAN, "r1")
    runner.disconnect()
    assert runner.process.wait(60) == 0
    assert statuses(tmp_path) == [Status.SUCCEEDED]


def test_what_keeps_a_run_from_beginning_is_the_reply(runner, tmp_path):
    runner.send(encode_submission(submission(tmp_path, "%%step s -o a\na = 1", "%%step s -o b\nb = nothing")))
    reply = runner.reply()
    assert (reply.kind, reply.run) == (ReplyKind.REFUSED, "r1")
    assert isinstance(reply.error.to_error(), BadPipeline | Refusals)
    assert reply.error.to_error().exit_code == 2
    assert statuses(tmp_path) == []


def test_runs_of_different_lifetimes_share_a_runner(runner, tmp_path):
    connection = tmp_path / "kernel.json"
    connection.touch()
    lives = {"r1": Lifetime.DETACHED, "r2": Lifetime.SUBMITTER, "r3": Lifetime.KERNEL}
    for run, lifetime in lives.items():
        source = SLOW.replace("slow", run).replace(" a", f" a{run}").replace("\na", f"\na{run}")
        made = submission(tmp_path, source, run=run, lifetime=lifetime, connection_file=str(connection))
        runner.send(encode_submission(made))
        assert runner.reply().run == run
    runner.disconnect()
    until(lambda: statuses(tmp_path)[1] is Status.CANCELLED)
    assert [status.terminal for status in statuses(tmp_path)] == [False, True, False]
    connection.unlink()
    until(lambda: statuses(tmp_path)[2] is Status.CANCELLED)
    (tmp_path / "go").touch()
    assert runner.process.wait(60) == 0
    assert statuses(tmp_path) == [Status.SUCCEEDED, Status.CANCELLED, Status.CANCELLED]


def test_a_detached_run_survives_the_hangup_of_the_terminal(runner, tmp_path):
    runner.send(encode_submission(submission(tmp_path, SLOW)))
    runner.disconnect()
    until((tmp_path / "started").exists)
    runner.process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert runner.process.wait(60) == 0
    assert statuses(tmp_path) == [Status.SUCCEEDED]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_runs(runner, tmp_path, number):
    runner.send(encode_submission(submission(tmp_path, SLOW)))
    until((tmp_path / "started").exists)
    runner.process.send_signal(number)
    until(lambda: statuses(tmp_path) == [Status.CANCELLED])
    runner.disconnect()
    assert runner.process.wait(60) == 0


def test_a_detached_run_survives_the_death_of_its_submitter(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", [SLOW])
    command = [sys.executable, "-m", "nbpipe", "run", str(path), "--detach"]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL) as submitter:
        until((tmp_path / "started").exists)
        if submitter.poll() is None:
            os.killpg(submitter.pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    until(lambda: statuses(tmp_path) == [Status.SUCCEEDED])


def test_the_runner_of_a_run_of_a_living_submitter_ends_with_the_run(tmp_path):
    made = submission(tmp_path, QUICK, run="", lifetime=Lifetime.SUBMITTER)
    with Workspace.open(tmp_path) as workspace:
        run, _ = launch_run(workspace, made)
        pid = int(run.owner.split("|")[2])
        until(lambda: not psutil.pid_exists(pid))
        assert workspace.runs.find(RunFilter())[0].status is Status.SUCCEEDED


def test_a_runner_that_cannot_be_started_is_one_error(tmp_path):
    made = submission(tmp_path, QUICK, run="")
    with Workspace.open(tmp_path) as workspace:
        (tmp_path / ".nbpipe" / "runner.log").mkdir()
        with pytest.raises(OutOfReach, match="no process could be started to carry out the run"):
            launch_run(workspace, made)


def named(step: str) -> str:
    """Return a step cell that waits like the slow one."""
    return SLOW.replace("slow", step).replace("-o a", f"-o {step}").replace("a = 1", f"{step} = 1")


def test_steps_join_the_run_that_their_predecessor_has_joined(runner, tmp_path):
    cells = [named(step) for step in ("one", "two", "three")]
    made = submission(tmp_path, *cells, holds=True)
    for run, step, joins in (("r1", "one", ""), ("r2", "two", "r1"), ("r3", "three", "r2")):
        asked = dataclasses.replace(made.request, steps=(step,))
        options = RunOptions(run=run)
        runner.send(encode_submission(dataclasses.replace(made, request=asked, run_options=options, joins=joins)))
    replies = [runner.reply() for _ in range(3)]
    assert replies == [
        Reply(ReplyKind.BEGAN, "r1"),
        *(Reply(ReplyKind.JOINED, run, joined="r1") for run in ("r2", "r3")),
    ]
    (tmp_path / "go").touch()
    with Workspace.open(tmp_path) as workspace:
        until(lambda: [step.status for step in workspace.runs.show("r1")[1]] == [Status.SUCCEEDED] * 3)
        assert workspace.runs.show("r1")[0].status is Status.RUNNING
    runner.send(encode_release())
    until(lambda: statuses(tmp_path) == [Status.SUCCEEDED])


def test_what_comes_after_the_end_of_a_run_is_a_run_of_its_own(runner, tmp_path):
    for run, joins in (("r1", ""), ("r2", "r1"), ("r3", "gone")):
        runner.send(encode_submission(submission(tmp_path, QUICK, run=run, joins=joins)))
        assert runner.reply() == Reply(ReplyKind.BEGAN, run)
        until(lambda: statuses(tmp_path)[-1].terminal)
    assert statuses(tmp_path) == [Status.SUCCEEDED] * 3


def test_what_is_wrong_with_steps_that_join_leaves_the_run_as_it_is(runner, tmp_path):
    runner.send(encode_submission(submission(tmp_path, SLOW)))
    assert runner.reply().kind is ReplyKind.BEGAN
    wrong = submission(tmp_path, SLOW, "%%step bad -o b\nb = nothing", run="r2", joins="r1")
    runner.send(encode_submission(wrong))
    reply = runner.reply()
    assert (reply.kind, reply.run) == (ReplyKind.REFUSED, "r2")
    (tmp_path / "go").touch()
    until(lambda: statuses(tmp_path) == [Status.SUCCEEDED])


def test_the_profile_of_a_registered_table_is_made_when_the_run_is_over(runner, tmp_path):
    frame = "%%step frame -o f --register f=frames\nimport pandas as pd\nf = pd.DataFrame({'a': [1, 2, 2]})"
    runner.send(encode_submission(submission(tmp_path, frame)))
    assert runner.reply() == Reply(ReplyKind.BEGAN, "r1")
    runner.disconnect()
    assert runner.process.wait(60) == 0

    assert statuses(tmp_path) == [Status.SUCCEEDED]
    with Workspace.open(tmp_path) as workspace:
        history = workspace.context.history
        version = history.datasets.find(DatasetReference("frames"))
        profile = history.datasets.profile(version)
    assert (version.content.rows, profile.columns[0].highest) == (3, 2)
