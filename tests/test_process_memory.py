"""A step that takes more memory than it may is ended, with all that it started; nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from notebook_author import write_notebook
from sample_jobs import job

from nbpipe.execution.attempt.attempt_runner import run_attempt
from nbpipe.execution.kernels import standby_kernel
from nbpipe.execution.kernels.process_memory import MemoryWatch, children
from nbpipe.history.runs import RunFilter
from nbpipe.model import JobOutput, Status
from nbpipe.workspace import Workspace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")

GIB = 1 << 30
HOLD = "import time; held = b'x' * {}; print(1, flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def nothing_left():
    before = set(psutil.Process().children(recursive=True))
    yield
    standby_kernel.retire_kernels()
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.fixture(params=["forked", "fresh"])
def either_way(request, monkeypatch):
    """Have kernels forked, and started by their command."""
    monkeypatch.setenv("NBPIPE_KERNELS", "fresh" if request.param == "fresh" else "")


def test_children_are_found_in_every_thread():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in children(os.getpid())
    child.communicate(b"\n")
    assert child.pid not in children(os.getpid())
    assert children(child.pid) == []


def test_a_gauge_counts_all_below_and_keeps_what_it_saw():
    # A process of its own above the large one: how large the tests' own process is depends on what ran before.
    above = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(200 << 20)!r}])"
    parent = subprocess.Popen([sys.executable, "-c", above], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    gauge = MemoryWatch(parent.pid, 150 << 20)
    assert not MemoryWatch(parent.pid, 400 << 20).exceeded()
    assert gauge.exceeded()
    for child in children(parent.pid):
        psutil.Process(child).kill()
    parent.communicate()
    assert gauge.exceeded()
    assert 200 << 20 < gauge.took < 300 << 20


@pytest.fixture
def small_world():
    """Get a control group whose processes may take 800 MiB together; what is more, the system ends."""
    made, limit = _memory_group()
    if made is None:
        pytest.skip("no memory control group can be made here")
    (made / limit).write_text(str(800 << 20))
    yield made
    made.rmdir()


def _memory_group() -> tuple[Path | None, str]:
    name = f"nbpipe-test-{os.getpid()}"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, parts, place = line.split(":", 2)
        root, limit = ("", "memory.max") if number == "0" else ("memory", "memory.limit_in_bytes")
        made = Path("/sys/fs/cgroup", root, place.lstrip("/"), name)
        if number == "0" or "memory" in parts.split(","):
            try:
                made.mkdir()
            except OSError:
                continue
            if (made / limit).exists():
                return made, limit
            made.rmdir()
    return None, ""


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_when_memory_runs_out_the_system_ends_the_kernel_and_no_other(tmp_path, small_world):
    """F3: a real kill, in a group that holds the command, its worker and all kernels; the other step is not touched."""
    cells = [
        "%%step modest -o a\nimport os, time\nwhile not os.path.exists('over'):\n    time.sleep(0.1)\na = 1",
        "%%step greedy -o b\nb = []\nwhile True:\n    b.append(b'x' * 4_000_000)",
        "%%step later -i a -o c\nc = a + 1",
    ]
    write_notebook(tmp_path / "n.ipynb", cells)
    enter = f'echo $$ > {small_world / "cgroup.procs"}; exec "$@"'
    command = [sys.executable, "-m", "nbpipe", "run", "n.ipynb", "--keep-going", "--json"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        ["/bin/sh", "-c", enter, "sh", *command], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environ
    )
    ends = time.monotonic() + 120
    while time.monotonic() < ends and process.poll() is None and not _is_failed(tmp_path, "greedy"):
        time.sleep(0.1)
    (tmp_path / "over").touch()
    steps = {step["name"]: step for step in json.loads(process.communicate(timeout=120)[0])["steps"]}

    assert {name: (step["status"], step["attempts"]) for name, step in steps.items()} == {
        "modest": ("succeeded", 1), "greedy": ("failed", 1), "later": ("succeeded", 1),
    }  # fmt: skip
    assert steps["greedy"]["error"]["message"] == (
        "memory limit: the system had no memory left, and ended the step's kernel (SIGKILL)"
    )


def _is_failed(folder: Path, step: str) -> bool:
    if not (folder / ".nbpipe" / "history.db").exists():
        return False
    with Workspace.open(folder) as workspace:
        newest = workspace.runs.find(RunFilter(), 1)
        records = workspace.runs.show(newest[0].id)[1] if newest else []
    return any(record.step == step and record.status is Status.FAILED for record in records)


@pytest.mark.kernel
class TestSteps:
    """The key ``memory``."""

    def test_what_is_within_the_limit_succeeds(self, tmp_path, either_way):
        outcome = run_attempt(job(tmp_path, "x = len(bytes(200_000_000))", memory=GIB // 2, outputs=[JobOutput("x")]))
        assert outcome.failure is None

    @pytest.mark.parametrize(
        "code",
        [
            "held = []\nwhile True: held.append(b'x' * 4_000_000)",
            """
import os, sys, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        held = b'x' * 150_000_000
        time.sleep(60)
time.sleep(60)
""",
        ],
        ids=["itself", "what it started, in sessions of their own"],
    )
    def test_what_passes_it_is_ended(self, tmp_path, code, either_way):
        """F3."""
        started = time.monotonic()
        outcome = run_attempt(job(tmp_path, code, memory=400_000_000))
        assert time.monotonic() - started < 20
        assert outcome.failure is not None
        assert (outcome.status, outcome.failure.kind, outcome.failure.cell) == (Status.FAILED, "memory", 3)
        assert outcome.failure.message.startswith("memory limit: the step took ")
        assert "381 MiB" in outcome.failure.message
        assert "\n" not in outcome.failure.message

    def test_pages_that_processes_share_count_once(self, tmp_path):
        code = "import os, time\nheld = b'x' * 150_000_000\nfor _ in range(4):\n    if os.fork() == 0:\n"
        code += "        time.sleep(60)\ntime.sleep(1)"
        assert run_attempt(job(tmp_path, code, memory=400_000_000)).failure is None

    def test_a_request_far_beyond_it_is_refused_where_it_stands(self, tmp_path, either_way):
        failure = run_attempt(job(tmp_path, "x = 1", "y = 2\nz = b'x' * 20_000_000_000", memory=400_000_000)).failure
        assert failure is not None
        assert (failure.kind, failure.cell, failure.line) == ("memory", 4, 2)
        assert failure.message.startswith("memory limit: MemoryError")

    def test_a_memory_error_without_a_limit_is_the_authors(self, tmp_path):
        failure = run_attempt(job(tmp_path, "raise MemoryError('mine')")).failure
        assert failure is not None
        assert (failure.kind, failure.message) == ("user", "MemoryError: mine")

    def test_kernels_are_ended_before_their_worker_when_memory_runs_out(self, tmp_path, either_way):
        score = int(Path("/proc/self/oom_score_adj").read_text())
        code = f"assert int(open('/proc/self/oom_score_adj').read()) == {min(1000, score + 500)}"
        assert run_attempt(job(tmp_path, code)).failure is None

    def test_the_worker_goes_on(self, tmp_path):
        run_attempt(job(tmp_path, "x = b'x' * 600_000_000", memory=400_000_000))
        assert run_attempt(job(tmp_path, "1", name="a2", memory=400_000_000)).failure is None
