"""A step that takes more memory than it may is ended, with all that it started; nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest
from one_step import job

from nbpipe.execution import spare
from nbpipe.execution.footprint import Gauge, children
from nbpipe.execution.job import run_attempt
from nbpipe.model import JobOutput, Status

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")

GIB = 1 << 30
HOLD = "import time; held = b'x' * {}; print(1, flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def nothing_left():
    before = set(psutil.Process().children(recursive=True))
    yield
    spare.retire()
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
    child = subprocess.Popen([sys.executable, "-c", HOLD.format(200 << 20)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    gauge = Gauge(os.getpid(), 150 << 20)
    assert not Gauge(os.getpid(), 400 << 20).exceeded()
    assert gauge.exceeded()
    child.kill()
    child.communicate()
    assert gauge.exceeded()
    assert 200 << 20 < gauge.took < 300 << 20


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

    def test_the_worker_goes_on(self, tmp_path):
        run_attempt(job(tmp_path, "x = b'x' * 600_000_000", memory=400_000_000))
        assert run_attempt(job(tmp_path, "1", name="a2", memory=400_000_000)).failure is None
