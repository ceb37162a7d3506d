"""A cluster that this machine keeps from starting: limits are named, and a worker that was killed is tried again."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from notebook_author import write_notebook

from nbpipe.compute import local_cluster
from nbpipe.compute.machine_limits import limit_behind
from nbpipe.errors import ClusterOutOfReach

RUN = (sys.executable, "-m", "nbpipe", "run", "n.ipynb")


@pytest.fixture
def folder(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%%step a -o x\nimport resource\nx = resource.getrlimit(7)[0]"])
    return tmp_path


def run(folder: Path, *before: str, limits: tuple[int, int] | None = None, **environment: str):
    """Run the notebook with these limits of open files, by a command that prepares its surroundings."""

    def limit() -> None:
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    return subprocess.run(
        [*before, *RUN], cwd=folder, env={**os.environ, **environment}, preexec_fn=limit, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_too_few_open_files_are_named_with_the_command_that_raises_them(folder):
    done = run(folder, limits=(40, 40))

    assert done.returncode == 3
    assert "a process may open only 40 files here" in done.stderr
    assert "ulimit -n 1024" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_too_little_address_space_is_named_and_nothing_waits_for_ever(folder):
    shell = 'ulimit -v 600000; exec "$@"'
    done = run(folder, "bash", "-c", shell, "bash")

    assert done.returncode == 3
    assert "a process may have only 585 MiB of address space here" in done.stderr
    assert "ulimit -v unlimited" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_a_limit_that_may_be_raised_is_raised(folder):
    done = run(folder, limits=(40, 4096))

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("option, reason", [("size=4k", "no space left"), ("ro", "read-only")])
def test_a_full_or_closed_place_for_semaphores_is_named(folder, option, reason):
    """In a namespace of its own, so that nothing else sees it."""
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o {option} tmpfs /dev/shm"
    if (
        unshare is None
        or subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not mount anything")
    script = f'{mount}; head -c 4096 /dev/zero > /dev/shm/full; "$@"'
    done = run(folder, unshare, "-m", "sh", "-c", script, "sh")

    assert done.returncode == 3
    assert f"{reason}" in done.stderr
    assert "/dev/shm" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_a_folder_for_temporary_files_that_is_gone_is_replaced(folder):
    assert run(folder, TMPDIR=str(folder / "gone")).returncode == 0


class WorkerKiller(threading.Thread):
    """Kills so many worker processes as soon as they appear."""

    def __init__(self, count: int) -> None:
        super().__init__(daemon=True)
        self.killed: set[int] = set()
        self.count = count
        self.ended = threading.Event()

    def run(self) -> None:
        while len(self.killed) < self.count and not self.ended.wait(0.005):
            for child in psutil.Process().children():
                if child.pid not in self.killed and len(self.killed) < self.count and is_worker(child):
                    child.kill()
                    self.killed.add(child.pid)


def is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_cluster_whose_worker_is_killed_as_it_starts_is_started_again(count):
    killer = WorkerKiller(count)
    killer.start()
    started = local_cluster.start(1)
    try:
        assert len(killer.killed) == count
        assert started.client.submit(sum, [1, 2]).result(timeout=30) == 3
    finally:
        started.end()


@pytest.mark.cluster
@pytest.mark.slow
def test_a_cluster_whose_workers_are_always_killed_is_given_up():
    killer, begin = WorkerKiller(100), time.monotonic()
    killer.start()
    with pytest.raises(ClusterOutOfReach, match="the local Dask cluster could not be started"):
        local_cluster.start(1)
    killer.ended.set()
    killer.join()

    assert len(killer.killed) == 3
    assert time.monotonic() - begin < 60


def caused_by(cause: BaseException) -> RuntimeError:
    error = RuntimeError("it failed to start")
    error.__cause__ = AssertionError()
    error.__cause__.__context__ = cause
    return error


@pytest.mark.parametrize(
    "cause, words",
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "no memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "/dev/shm"),
        (OSError(errno.ENOSPC, "No space left on device", "/scratch/x"), "no space left on device: /scratch/x"),
    ],
)
def test_the_limit_behind_an_error_is_found_wherever_it_is(cause, words):
    limit = limit_behind(caused_by(cause))

    assert limit is not None
    assert words in str(limit)


@pytest.mark.parametrize("cause", [ValueError("no"), ConnectionResetError(errno.ECONNRESET, "reset")])
def test_other_causes_are_no_limits(cause):
    assert limit_behind(caused_by(cause)) is None
