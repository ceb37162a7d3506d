"""Which attempts start on the cores of a machine."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest
from sample_jobs import job
from scripted_executor import Bench

from nbpipe.compute.admission import Admission
from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.compute.targets import default_target
from nbpipe.errors import BadPipeline
from nbpipe.model import AttemptEnded, Job, Status
from nbpipe.model.compute import Needs, Placement


def needing(folder: Path, name: str, cpu: int, code: str = "") -> Job:
    """Return a job that needs some cores."""
    return dataclasses.replace(job(folder, code, name=name), placement=Placement(default_target(), Needs(cpu)))


def names(jobs: list[Job]) -> list[str]:
    return [each.attempt for each in jobs]


def test_attempts_that_need_one_core_are_left_to_the_cluster(tmp_path):
    admission = Admission(default_target(2))
    for name in "abcd":
        admission.add(needing(tmp_path, name, 1))
    assert names(admission.admit()) == ["a", "b", "c", "d"]


def test_an_attempt_with_several_cores_waits_and_is_not_passed(tmp_path):
    admission = Admission(default_target(2))
    for name, cpu in (("a", 1), ("wide", 2), ("b", 1)):
        admission.add(needing(tmp_path, name, cpu))
    assert names(admission.admit()) == ["a"]
    admission.remove("a")
    assert names(admission.admit()) == ["wide"]
    admission.remove("wide")
    assert names(admission.admit()) == ["b"]


def test_one_that_leaves_while_it_waits_lets_the_next_one_start(tmp_path):
    admission = Admission(default_target(2))
    for name, cpu in (("a", 1), ("wide", 2), ("b", 1)):
        admission.add(needing(tmp_path, name, cpu))
    admission.admit()
    waiting = admission.remove("wide")
    assert waiting is not None
    assert waiting.attempt == "wide"
    assert names(admission.admit()) == ["b"]
    assert admission.remove("unknown") is None


def test_one_that_needs_more_than_there_is_runs_alone(tmp_path):
    admission = Admission(default_target(2))
    admission.add(needing(tmp_path, "wide", 8))
    admission.add(needing(tmp_path, "b", 1))
    assert names(admission.admit()) == ["wide"]
    assert names(admission.clear()) == ["b"]
    assert admission.attempts == []


@pytest.mark.cluster
@pytest.mark.kernel
def test_nothing_runs_beside_a_step_that_occupies_all_cores(tmp_path):
    """Also after one of them was killed by a cancellation: its cores are free again."""
    executor = DaskExecutor(default_target(2))
    log = tmp_path / "log"
    code = (
        f"import time\nwith open({str(log)!r}, 'a') as log: log.write('+%s\\n')\ntime.sleep(0.4)\n"
        f"with open({str(log)!r}, 'a') as log: log.write('-%s\\n')"
    )
    jobs = [("a", 1), ("wide1", 2), ("b", 1), ("wide2", 2), ("c", 1)]
    executor.submit(needing(tmp_path, "endless", 2, "import time\ntime.sleep(600)"))
    for name, cpu in jobs:
        executor.submit(needing(tmp_path, name, cpu, code % (name, name)))
    executor.cancel("wide2")
    executor.cancel("endless")
    ended, deadline = {}, time.monotonic() + 60
    while len(ended) < len(jobs) + 1 and time.monotonic() < deadline:
        reports = [report for report in executor.wait(1) if isinstance(report, AttemptEnded)]
        ended |= {report.attempt: report.outcome.status for report in reports}
    executor.close()
    assert {name for name, status in ended.items() if status is Status.CANCELLED} == {"endless", "wide2"}
    lines = log.read_text().split()
    assert lines[:2] == ["+a", "-a"]
    assert lines[lines.index("+wide1") + 1] == "-wide1"
    assert sorted(lines) == sorted(sign + name for name in ("a", "wide1", "b", "c") for sign in "+-")


def test_more_cores_than_there_are_are_an_error_of_the_plan(tmp_path):
    cores = len(os.sched_getaffinity(0))
    bench = Bench(tmp_path, [f"%%step a -o x --cpu {cores + 1}\nx = 1"])
    with pytest.raises(BadPipeline, match=f"needs {cores + 1} cores, and the compute target `local` has {cores}") as no:
        bench.run()
    assert (no.value.place.cell, no.value.place.step) == (1, "a")
    assert bench.executor.jobs == []


def test_cores_are_in_no_key(tmp_path):
    assert Bench(tmp_path, ["%%step a -o x\nx = 1"]).run() == ["a"]
    if len(os.sched_getaffinity(0)) > 1:
        assert Bench(tmp_path, ["%%step a -o x --cpu 2\nx = 1"]).run() == []
