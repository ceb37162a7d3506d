"""GPUs belong to one attempt at a time: among the attempts of a worker, of several processes, and after a kill."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sample_jobs import job

from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.execution.attempt.device_leases import DeviceLease, lease_for
from nbpipe.model import AttemptEnded, AttemptWaiting, Job, JobOutput, Status
from nbpipe.model.compute import ComputeTarget, Needs, Placement

ROOT = Path(__file__).parent.parent


@pytest.fixture
def target(tmp_path, monkeypatch) -> ComputeTarget:
    """Get a target with two devices of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return ComputeTarget("gpu", 4, 1 << 40, ("0", "1"), "test")


def on(target: ComputeTarget, folder: Path, name: str, code: str = "", gpu: int = 1) -> Job:
    """Get a job that needs GPUs."""
    return dataclasses.replace(job(folder, code, name=name), placement=Placement(target, Needs(1, 0, gpu)))


def test_a_device_belongs_to_one_attempt(target, tmp_path):
    said: list[AttemptWaiting] = []
    first, second = (lease_for(on(target, tmp_path, name), said.append, lambda: False) for name in "ab")
    assert {first.devices, second.devices} == {("0",), ("1",)}
    assert said == []
    threading.Timer(0.5, first.give_back).start()
    third = lease_for(on(target, tmp_path, "c"), said.append, lambda: False)
    assert third.devices == first.devices
    assert said == [AttemptWaiting("c", f"waiting for 1 GPU: 2 of 2 taken, by process {os.getpid()}")]
    assert lease_for(on(target, tmp_path, "d", gpu=2), said.append, lambda: len(said) > 1) == DeviceLease()


def test_a_process_that_ends_before_it_is_noted_holds_nothing(target, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    lease = lease_for(on(target, tmp_path, "a", gpu=2), print, lambda: False)
    lease.used_below(ended.pid)
    for file in lease.files:
        file.write_text(f"[[{ended.pid}, null]]")
    assert lease_for(on(target, tmp_path, "b", gpu=2), print, lambda: False).devices == ("0", "1")


def test_devices_are_visible_to_those_who_have_them(target, tmp_path):
    with lease_for(on(target, tmp_path, "a", gpu=2), print, lambda: False) as lease:
        assert lease.environment({"A": "1"}) == {"A": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    simulated = dataclasses.replace(target, simulated=True)
    with lease_for(on(simulated, tmp_path, "b"), print, lambda: False) as lease:
        assert lease.environment({}) == {"CUDA_VISIBLE_DEVICES": ""}
    with lease_for(on(target, tmp_path, "c", gpu=0), print, lambda: False) as lease:
        assert lease.environment({"CUDA_VISIBLE_DEVICES": "0"}) == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_device_is_taken_until_all_processes_that_use_it_have_ended(target, tmp_path):
    """Also if its worker is killed: the kernel's supervisor may still be at work."""
    supervisor = subprocess.Popen(["sleep", "60"])
    code = (
        "import sys; sys.path.insert(0, 'tests')\nfrom test_device_leases import *\n"
        f"lease = lease_for(on({target!r}, Path('.'), 'a', gpu=2), print, lambda: False)\n"
        f"lease.used_below({supervisor.pid})\nprint('taken', flush=True)\ntime.sleep(60)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "taken\n"
    worker.kill()
    worker.communicate()
    waited = time.monotonic() + 0.5
    assert lease_for(on(target, tmp_path, "b"), print, lambda: time.monotonic() > waited).devices == ()
    supervisor.kill()
    supervisor.wait()
    assert lease_for(on(target, tmp_path, "b"), print, lambda: False).devices == ("0",)


@pytest.mark.cluster
@pytest.mark.kernel
def test_no_device_is_used_by_two_steps_at_a_time(target, tmp_path):
    executor = DaskExecutor(target)
    log = tmp_path / "log"
    code = (
        "import os, time\ndevice = os.environ['CUDA_VISIBLE_DEVICES']\n"
        f"with open({str(log)!r}, 'a') as log: log.write(f'+{{device}}\\n')\ntime.sleep(0.05)\n"
        f"with open({str(log)!r}, 'a') as log: log.write(f'-{{device}}\\n')\n"
    )
    for number in range(10):
        executor.submit(on(target, tmp_path, f"a{number}", code))
    ended, reasons = _ends(executor, 10)
    executor.close()
    assert set(ended.values()) == {Status.SUCCEEDED}
    assert any(re.fullmatch(r"waiting for 1 GPU: 2 of 2 taken by train \(.*\), train \(.*\)", each) for each in reasons)
    used: set[str] = set()
    for line in log.read_text().split():
        assert (line[1:] in used) is (line[0] == "-")
        used ^= {line[1:]}
    assert used == set()
    assert {line[1:] for line in log.read_text().split()} == {"0", "1"}


@pytest.mark.cluster
@pytest.mark.kernel
def test_a_killed_step_gives_its_device_back(target, tmp_path):
    executor = DaskExecutor(target)
    started = tmp_path / "pid"
    endless = f"import os, pathlib, time\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    executor.submit(on(target, tmp_path, "killed", endless, gpu=2))
    while not started.exists() or not started.read_text():
        executor.wait(0.05)
    os.kill(int(started.read_text()), signal.SIGKILL)
    outputs = (JobOutput("n"),)
    executor.submit(dataclasses.replace(on(target, tmp_path, "next", "n = 1", gpu=2), outputs=outputs))
    ended, _ = _ends(executor, 2)
    executor.close()
    assert ended["killed"] is Status.FAILED
    assert ended["next"] is Status.SUCCEEDED
    patience = time.monotonic() + 20
    lease = lease_for(on(target, tmp_path, "last", gpu=2), print, lambda: time.monotonic() > patience)
    assert lease.devices == ("0", "1")


def _ends(executor: DaskExecutor, count: int) -> tuple[dict[str, Status], list[str]]:
    """Get how so many attempts ended, and what was said of those that waited."""
    ended: dict[str, Status] = {}
    reasons: list[str] = []
    deadline = time.monotonic() + 120
    while len(ended) < count and time.monotonic() < deadline:
        for report in executor.wait(1):
            if isinstance(report, AttemptEnded):
                ended[report.attempt] = report.outcome.status
            elif isinstance(report, AttemptWaiting):
                reasons.append(report.reason)
    return ended, reasons
