"""Whoever is killed, and when: at most one commit, nothing half visible, nothing left, and the next run just goes on.

The processes of a run are these. The *driver* (the command, or a notebook's kernel) holds Dask's scheduler and its
nanny, which die with it; the *worker* is its child; a *supervisor* stands between the worker and each step's *kernel*.
docs/faults.md shows this table to people.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from notebook_author import write_notebook
from socket_kernel import PlainKernel

from nbpipe.data.attempt_manifest import NAME
from nbpipe.errors import BadUsage
from nbpipe.model import ExecutionRecord, RunRecord, Status
from nbpipe.workspace import Workspace

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

# Whoever comes first stops here, its process number in the file; all others pass.
HOLD = (
    "import os, time\n"
    "def hold():\n"
    "    try:\n"
    "        mark = os.open('on', os.O_CREAT | os.O_EXCL | os.O_WRONLY)\n"
    "    except FileExistsError:\n"
    "        return\n"
    "    os.write(mark, str(os.getpid()).encode())\n"
    "    time.sleep(600)\n"
)
SLOWLY_SAVED = "class Slow:\n    def __getstate__(self):\n        hold()\n        return {'there': 1}\n"
# The kernel's program, in place of the interpreter: its second start stops before it has become a kernel.
STARTER = (
    '#!/bin/sh\nset -C\ncase "$*" in *ipykernel_launcher*)\n'
    'if [ -e log ] && { echo $$ > on; } 2>/dev/null; then exec sleep 600; fi;; esac\nexec "$@"\n'
)
# A notebook's kernel starts steps by the interpreter it is: there, loading a module of the author's stops.
EARLY = "import os\nfrom later import hold\nif os.path.exists('log'):\n    hold()\n"
FIRST = "%%step first -i raw=./data.txt -o a\nopen('log', 'a').write('first\\n')\na = 1"

# How the command ends, how the step's first run ends, and how often the step is begun until all is done.
SURVIVED, FAILED, KILLED = (0, "succeeded"), (1, "failed"), (-9, "lost")
ENDS = {
    ("kernel", "before start"): (FAILED, 1),
    ("kernel", "running"): (FAILED, 2),
    ("kernel", "saving"): (FAILED, 2),
    ("supervisor", "before start"): (FAILED, 1),
    ("supervisor", "running"): (FAILED, 2),
    ("supervisor", "saving"): (FAILED, 2),
    ("worker", "before start"): (SURVIVED, 1),
    ("worker", "running"): (SURVIVED, 2),
    ("worker", "saving"): (SURVIVED, 2),
    ("worker", "committing"): (SURVIVED, 1),
    ("driver", "before start"): (KILLED, 1),
    ("driver", "running"): (KILLED, 2),
    ("driver", "saving"): (KILLED, 2),
    ("driver", "committing"): (KILLED, 1),
    ("notebook kernel", "before start"): (KILLED, 1),
    ("notebook kernel", "running"): (KILLED, 2),
    ("notebook kernel", "saving"): (KILLED, 2),
    ("notebook kernel", "committing"): (KILLED, 1),
}


def write(folder: Path, name: str, moment: str) -> None:
    """Write a notebook with a quick step and one that stops at that moment."""
    early = (name, moment) == ("notebook kernel", "before start")
    made = {"running": "hold()\nb = a + 1", "saving": "b = Slow()"}.get(moment, "b = a + 1")
    use = "early.os\n" if early else ""
    slow = f"%%step slow -i a -o b\n{use}open('log', 'a').write('slow\\n')\n{made}"
    shared = ["import early"] if early else [HOLD, SLOWLY_SAVED]
    held = moment == "before start" and not early
    write_notebook(folder / "n.ipynb", [*shared, FIRST, slow], kernel="held" if held else "python3")
    (folder / "data.txt").write_text("1")
    (folder / "later.py").write_text(HOLD)
    (folder / "early.py").write_text(EARLY)


@dataclass(frozen=True)
class Work:
    """A program that runs the notebook of a folder; ``end`` waits for it and gives its exit code."""

    folder: Path
    process: psutil.Process
    end: Callable[[], int]

    def below(self) -> list[psutil.Process]:
        """List what the program has started, but for Python's own book-keeper of semaphores."""
        return [each for each in self.process.children(recursive=True) if "resource_tracker" not in words(each)]

    def victim(self, name: str) -> psutil.Process:
        """Get the process of that name."""
        if name in ("driver", "notebook kernel"):
            return self.process
        if name == "worker":
            return next(each for each in self.below() if "spawn_main" in words(each))
        held = psutil.Process(int((self.folder / "on").read_text()))
        return held if name == "kernel" else held.parent()


def words(process: psutil.Process) -> str:
    """Get a process's command line, nothing when it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what other processes do."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


@contextmanager
def command(folder: Path) -> Iterator[Work]:
    """Run the notebook by the command line, each kernel by its own start."""
    spec = folder / "jupyter" / "kernels" / "held"
    spec.mkdir(parents=True)
    starter = folder / "starter"
    starter.write_text(STARTER)
    starter.chmod(0o755)
    argv = [str(starter), sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "held", "language": "python"}))
    process = subprocess.Popen(
        [sys.executable, "-m", "nbpipe", "run", "n.ipynb"], cwd=folder, env=environment(folder),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Work(folder, psutil.Process(process.pid), lambda: process.wait(120))
    finally:
        process.kill()
        process.wait()


@contextmanager
def live_notebook(folder: Path) -> Iterator[Work]:
    """Run the notebook's cells in a kernel, as a person would."""
    kernel = PlainKernel(folder, {**environment(folder), "JPY_SESSION_NAME": str(folder / "n.ipynb")})
    process = psutil.Process(kernel.manager.provisioner.pid)
    for source in ("%load_ext nbpipe", *told(folder)):
        kernel.client.execute(source)
    try:
        yield Work(folder, process, lambda: kernel.manager.provisioner.process.wait(120))
    finally:
        kernel.stop(now=True)


def told(folder: Path) -> list[str]:
    """Get the notebook's cells."""
    return [cell["source"] for cell in json.loads((folder / "n.ipynb").read_text())["cells"]]


def environment(folder: Path) -> dict[str, str]:
    """Get an environment in which kernels are started one by one."""
    return {**os.environ, "JUPYTER_PATH": str(folder / "jupyter"), "NBPIPE_KERNELS": "fresh"}


@contextmanager
def held_commit(folder: Path) -> Iterator[None]:
    """Hold up the commit of the second step from its manifest on."""
    runs = folder / ".nbpipe" / "runs"
    until(lambda: list(runs.glob("*/slow/*/job.json")))
    connection = sqlite3.connect(folder / ".nbpipe" / "history.db", timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    until(lambda: list(runs.glob(f"*/slow/*/{NAME}")))
    yield
    connection.execute("ROLLBACK")
    connection.close()


def recorded(folder: Path) -> list[tuple[RunRecord, dict[str, ExecutionRecord]]]:
    """Get all runs, oldest first, with their steps."""
    with Workspace.open(folder) as workspace:
        return [
            (run, {step.step: step for step in workspace.runs.show(run.id)[1]}) for run in reversed(workspace.runs())
        ]


def is_visible(folder: Path) -> bool:
    """Say whether the second step's output can be had."""
    with Workspace.open(folder) as workspace:
        try:
            workspace.results.output(str(folder / "n.ipynb"), "b")
        except BadUsage:
            return False
    return True


@pytest.mark.parametrize("name, moment", ENDS, ids=lambda word: word.replace(" ", "-"))
def test_whoever_is_killed_nothing_is_lost_or_left(tmp_path, name, moment):
    write(tmp_path, name, moment)
    (ended, status), begun = ENDS[name, moment]
    program = live_notebook if name == "notebook kernel" else command
    with program(tmp_path) as work:
        if moment == "committing":
            with held_commit(tmp_path):
                below = work.below()
                work.victim(name).kill()
                if ended < 0:
                    work.end()
        else:
            until(lambda: (tmp_path / "on").exists() and (tmp_path / "on").read_text())
            assert not is_visible(tmp_path)
            below = work.below()
            work.victim(name).kill()
        assert work.end() == ended
        _, alive = psutil.wait_procs([each for each in below if each.pid != work.process.pid], timeout=5)
        assert alive == []
    first = recorded(tmp_path)[-1]
    assert first[0].status.value == status
    assert is_visible(tmp_path) == (status == "succeeded" or moment == "committing")

    again = subprocess.run(
        [sys.executable, "-m", "nbpipe", "run", "n.ipynb", "--json"], cwd=tmp_path, env=environment(tmp_path),
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    made = {step["name"]: step["status"] for step in json.loads(again.stdout)["steps"]}
    assert made == {"first": "reused", "slow": "reused" if first[1]["slow"].status is Status.SUCCEEDED else "succeeded"}
    assert (tmp_path / "log").read_text().split() == ["first", *["slow"] * begun]
    runs = [steps["slow"].status for _, steps in recorded(tmp_path) if "slow" in steps]
    assert runs.count(Status.SUCCEEDED) == 1
