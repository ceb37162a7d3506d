"""Many steps in a row: the processes that carry them are at the end what they were at the beginning."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from notebook_author import write_notebook

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

STEPS, EARLY, LATE = 64, 12, 60
# Database connections of threads that had nothing to say before may be opened late, and stay.
ALLOWED = 4


def chain() -> list[str]:
    """Get a chain of steps, two of which wait to be looked at."""
    cells = ["import os, time", "%%step s0 -o v0\nv0 = 0"]
    for n in range(1, STEPS):
        wait = f"open('at{n}', 'w').close()\nwhile not os.path.exists('go{n}'):\n    time.sleep(0.02)\n"
        cells.append(f"%%step s{n} -i v{n - 1} -o v{n}\n{wait if n in (EARLY, LATE) else ''}v{n} = v{n - 1} + 1")
    return cells


def look(command: psutil.Process) -> dict[str, int]:
    """Count what the command and its worker have while a step runs and a kernel waits ahead."""
    worker = next(each for each in command.children() if "spawn_main" in " ".join(each.cmdline()))
    return {
        "command's descriptors": command.num_fds(), "worker's descriptors": worker.num_fds(),
        "command's threads": command.num_threads(), "worker's threads": worker.num_threads(),
        "processes": len(command.children(recursive=True)),
    }  # fmt: skip


def settled(command: psutil.Process) -> dict[str, int]:
    """Look until twice the same is seen: a kernel ahead may just be starting."""
    before, ends = look(command), time.monotonic() + 60
    while True:
        time.sleep(1)
        now = look(command)
        if now == before or time.monotonic() > ends:
            return now
        before = now


def test_nothing_grows_with_the_number_of_steps(tmp_path):
    write_notebook(tmp_path / "n.ipynb", chain())
    command = [sys.executable, "-m", "nbpipe", "run", "n.ipynb"]
    seen = []
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for n in (EARLY, LATE):
            wait_for(tmp_path / f"at{n}", process)
            seen.append(settled(psutil.Process(process.pid)))
            (tmp_path / f"go{n}").touch()
        assert process.wait(120) == 0
    early, late = seen
    assert {name: late[name] - early[name] for name in late if late[name] > early[name] + ALLOWED} == {}
    assert late["processes"] == early["processes"]


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a step has come to its mark."""
    ends = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.02)
