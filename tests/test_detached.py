"""Runs that go on by themselves, and the wish to stop one, from wherever it comes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from notebook_author import write_notebook

from nbpipe.errors import BadUsage
from nbpipe.history.runs import RunFilter
from nbpipe.language.notebook_file import read_notebook
from nbpipe.model import RunRecord, Status
from nbpipe.run.submission import Lifetime, RunOptions, Submission
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_launch import launch_run

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

SLOW = (
    "%%step slow -o a\nimport pathlib, time, os\npathlib.Path('pid').write_text(str(os.getpid()))\n"
    "time.sleep({})\na = 1"
)


def nbpipe(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one whole command."""
    command = [sys.executable, "-m", "nbpipe", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    """Wait for something that other processes do."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def newest(folder: Path) -> RunRecord:
    """Get the newest run of the folder."""
    with Workspace.open(folder) as workspace:
        return workspace.runs.find(RunFilter())[0]


def kernel(folder: Path) -> int:
    """Get the process of the step's kernel once it runs."""
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
    return int((folder / "pid").read_text())


def test_a_detached_run_goes_on_when_its_command_is_gone(tmp_path):
    write_notebook(tmp_path / "n.ipynb", [SLOW.format(1), "%%step next -i a -o b\nb = a + 1"])
    done = nbpipe(tmp_path, "run", "n.ipynb", "--detach", "--json")
    begun = json.loads(done.stdout)

    assert (done.returncode, begun["status"]) == (0, "running")
    followed = nbpipe(tmp_path, "status", "n.ipynb", "--follow", "--json")
    assert followed.returncode == 0
    ended = json.loads(followed.stdout)
    assert (ended["run"], ended["status"]) == (begun["run"], "succeeded")
    assert {step["name"]: step["status"] for step in ended["steps"]} == {"slow": "succeeded", "next": "succeeded"}


def test_a_detached_run_takes_the_notebook_as_it_was(tmp_path):
    write_notebook(tmp_path / "n.ipynb", [SLOW.format(1)])
    nbpipe(tmp_path, "run", "n.ipynb", "--detach")
    write_notebook(tmp_path / "n.ipynb", ["%%step other -o z\nz = 1"])
    until(lambda: newest(tmp_path).status.terminal)
    with Workspace.open(tmp_path) as workspace:
        assert [step.step for step in workspace.runs.show("1")[1]] == ["slow"]


def test_what_is_wrong_with_a_notebook_is_told_before_anything_is_detached(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%%step s -o a\na = nothing"])
    done = nbpipe(tmp_path, "run", "n.ipynb", "--detach")
    assert (done.returncode, "nothing" in done.stderr) == (2, True)
    with Workspace.open(tmp_path) as workspace:
        assert workspace.runs.find(RunFilter()) == []


def test_cancel_stops_a_detached_run_and_returns_when_its_kernel_is_gone(tmp_path):
    write_notebook(tmp_path / "n.ipynb", [SLOW.format(600), "%%step next -i a -o b\nb = a"])
    nbpipe(tmp_path, "run", "n.ipynb", "--detach")
    process = kernel(tmp_path)
    done = nbpipe(tmp_path, "cancel", "n.ipynb", "--json")

    assert done.returncode == 0
    assert not psutil.pid_exists(process)
    ended = json.loads(done.stdout)
    assert ended["status"] == "cancelled"
    assert {step["name"]: step["status"] for step in ended["steps"]} == {"slow": "cancelled", "next": "cancelled"}


def test_cancel_stops_a_run_in_another_terminal_which_ends_with_130(tmp_path):
    write_notebook(tmp_path / "n.ipynb", [SLOW.format(600)])
    command = [sys.executable, "-m", "nbpipe", "run", "n.ipynb"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        kernel(tmp_path)
        assert nbpipe(tmp_path, "cancel", "n.ipynb").returncode == 0
        assert other.wait(20) == 130


def test_where_nothing_goes_on_there_is_nothing_to_cancel(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%%step s -o a\na = 1"])
    done = nbpipe(tmp_path, "cancel", "n.ipynb")
    assert (done.returncode, "no run of n.ipynb is active" in done.stderr) == (2, True)


def test_a_run_whose_runner_was_killed_is_lost_and_no_cancel_waits_for_it(tmp_path):
    write_notebook(tmp_path / "n.ipynb", [SLOW.format(600)])
    nbpipe(tmp_path, "run", "n.ipynb", "--detach")
    process = kernel(tmp_path)
    os.kill(int(newest(tmp_path).owner.split("|")[2]), signal.SIGKILL)
    until(lambda: not psutil.pid_exists(process))
    with Workspace.open(tmp_path) as workspace, pytest.raises(BadUsage, match="no run of"):
        workspace.runs.cancel(str(tmp_path / "n.ipynb"))
    assert newest(tmp_path).status is Status.LOST


def test_a_leashed_run_is_cancelled_when_its_submitter_is_gone(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", [SLOW.format(600)])
    program = (
        "import sys, time\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from test_detached import submit\nsubmit(Path(sys.argv[1]))\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, cwd=tmp_path) as submitter:
        process = kernel(tmp_path)
        submitter.kill()
    until(lambda: not psutil.pid_exists(process))
    until(lambda: newest(tmp_path).status is Status.CANCELLED)


def submit(path: Path) -> None:
    """Submit a leashed run of a notebook."""
    with Workspace.open(path.parent) as workspace:
        cells = read_notebook(path).cells
        root, lifetime = workspace.layout.root, Lifetime.SUBMITTER
        launch_run(workspace, Submission(tuple(cells), request_for(path), RunOptions(), root, lifetime=lifetime))
