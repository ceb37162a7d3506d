"""Both executors keep one contract: every attempt has one outcome, whatever happens to it, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import psutil
import pytest
from sample_jobs import job

from nbpipe.compute import local_cluster
from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.compute.local_cluster import LocalCluster
from nbpipe.compute.shared_executor import SharedExecutor
from nbpipe.compute.target_executors import TargetExecutors
from nbpipe.compute.targets import default_target
from nbpipe.compute.thread_executor import ThreadExecutor
from nbpipe.data.event_file import PieceReader
from nbpipe.model import AttemptEnded, AttemptOutputWritten, AttemptReport, AttemptStarted, JobOutput, Outcome, Status

pytestmark = [pytest.mark.cluster, pytest.mark.kernel]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", params=[DaskExecutor, ThreadExecutor], ids=["dask", "inline"])
def executor(request):
    before = set(_descendants())
    made = request.param(default_target(3))
    yield made
    made.close()
    assert set(_descendants()) <= before


def _descendants() -> list[psutil.Process]:
    """List this process's descendants that are still at work; Python's own book-keeper of semaphores may stay."""
    return [each for each in psutil.Process().children(recursive=True) if "resource_tracker" not in _command(each)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _reports(executor, count: int, seconds: float = 60) -> dict[str, list[AttemptReport]]:
    """Get all reports by attempt until so many have ended, each attempt's in order and nothing said twice."""
    found: dict[str, list[AttemptReport]] = {}
    ends = time.monotonic() + seconds
    while sum(isinstance(reports[-1], AttemptEnded) for reports in found.values()) < count:
        assert time.monotonic() < ends, found
        for report in executor.wait(1):
            found.setdefault(report.attempt, []).append(report)
    for reports in found.values():
        order = [(AttemptStarted, AttemptOutputWritten, AttemptEnded).index(type(report)) for report in reports]
        assert order == sorted(order)
        assert order.count(0) <= 1 >= order.count(2)
        assert _pieces(reports) == sorted(set(_pieces(reports)))
    return found


def _pieces(reports: list[AttemptReport]) -> list[int]:
    return [report.pieces for report in reports if isinstance(report, AttemptOutputWritten)]


def _kinds(reports: list[AttemptReport]) -> list[type[AttemptReport]]:
    return list(dict.fromkeys(map(type, reports)))


def _outcomes(executor, count: int, seconds: float = 60) -> dict[str, Outcome]:
    return {attempt: reports[-1].outcome for attempt, reports in _reports(executor, count, seconds).items()}


def _wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def _sleeper(folder: Path, name: str, timeout: float | None = None):
    """Get a job that leaves its kernel's process id when it runs and then sleeps for ten minutes."""
    mark, draft = str(folder / name), str(folder / f".{name}")
    code = (
        f"import os, pathlib, time\npathlib.Path({draft!r}).write_text(str(os.getpid()))\n"
        f"os.rename({draft!r}, {mark!r})\ntime.sleep(600)"
    )
    return job(folder, code, name=name, timeout=timeout)


class TestExecutor:
    """What holds for every executor."""

    def test_an_attempt_that_succeeds(self, executor, tmp_path):
        executor.submit(job(tmp_path, "total = depth", name="good", outputs=[JobOutput("total")]))
        outcome = _outcomes(executor, 1)["good"]
        assert (outcome.status, outcome.token, outcome.failure) == (Status.SUCCEEDED, 7, None)
        assert [made.name for made in outcome.artifacts] == ["total"]

    def test_an_attempt_that_fails(self, executor, tmp_path):
        executor.submit(job(tmp_path, "1 / 0", name="bad"))
        outcome = _outcomes(executor, 1)["bad"]
        assert (outcome.status, outcome.failure.ename) == (Status.FAILED, "ZeroDivisionError")

    def test_an_attempt_whose_kernel_is_killed(self, executor, tmp_path):
        executor.submit(job(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", name="killed"))
        outcome = _outcomes(executor, 1)["killed"]
        assert (outcome.status, outcome.failure.kind) == (Status.FAILED, "kernel")

    def test_an_attempt_that_takes_too_long(self, executor, tmp_path):
        executor.submit(_sleeper(tmp_path, "long", timeout=1.0))
        assert _outcomes(executor, 1)["long"].failure.kind == "timeout"

    def test_attempts_run_at_the_same_time(self, executor, tmp_path):
        """Each waits for the other two, so that they can only succeed together."""
        code = (
            "import pathlib, time\n"
            f"here = pathlib.Path({str(tmp_path)!r})\n"
            "(here / 'at-{name}').touch()\n"
            "ends = time.monotonic() + 30\n"
            "while len(list(here.glob('at-*'))) < 3:\n"
            "    assert time.monotonic() < ends\n"
            "    time.sleep(0.01)"
        )
        for name in ("p1", "p2", "p3"):
            executor.submit(job(tmp_path, code.replace("{name}", name), name=name))
        found = _outcomes(executor, 3)
        assert {outcome.status for outcome in found.values()} == {Status.SUCCEEDED}

    def test_a_running_attempt_is_cancelled_and_its_kernel_gone(self, executor, tmp_path):
        executor.submit(_sleeper(tmp_path, "stopped"))
        _wait_for((tmp_path / "stopped").exists)
        kernel = psutil.Process(int((tmp_path / "stopped").read_text()))
        executor.cancel("stopped")
        outcome = _outcomes(executor, 1, 10)["stopped"]
        assert (outcome.status, outcome.failure.kind) == (Status.CANCELLED, "cancelled")
        # Others may be starting: kernels for later attempts.
        assert not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE

    def test_waiting_and_running_attempts_are_cancelled_while_all_slots_are_busy(self, executor, tmp_path):
        names = [f"full{i}" for i in range(6)]
        for name in names:
            executor.submit(_sleeper(tmp_path, name))
        _wait_for(lambda: len(list(tmp_path.glob("full*"))) == 3)
        for name in reversed(names):
            executor.cancel(name)
        found = _outcomes(executor, 6, 20)
        assert {outcome.status for outcome in found.values()} == {Status.CANCELLED}

    def test_cancelling_what_is_over_or_unknown_does_nothing(self, executor, tmp_path):
        executor.submit(job(tmp_path, "1", name="over"))
        assert _outcomes(executor, 1)["over"].status is Status.SUCCEEDED
        executor.cancel("over")
        executor.cancel("unknown")
        assert executor.wait(0.2) == []

    def test_what_an_attempt_does_is_reported_while_it_does_it(self, executor, tmp_path):
        code = (
            "import pathlib, time\nprint('so far', flush=True)\n"
            f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)\nprint('end')"
        )
        asked = job(tmp_path, code, name="watched")
        before = time.time()
        executor.submit(asked)
        reports: list[AttemptReport] = []
        while not _pieces(reports):
            reports += executor.wait(30)
        assert _kinds(reports) == [AttemptStarted, AttemptOutputWritten]
        assert before <= reports[0].at <= time.time()
        (event,) = PieceReader(Path(asked.directory)).read(0, _pieces(reports)[-1])
        assert (event.number, event.content["text"]) == (1, "so far\n")
        (tmp_path / "go").touch()
        rest = _reports(executor, 1)["watched"]
        assert _kinds(rest) == [AttemptOutputWritten, AttemptEnded]
        assert [each.content["text"] for each in PieceReader(Path(asked.directory)).read(0)] == ["so far\n", "end\n"]
        assert _pieces(rest)[-1] == 2

    def test_a_flood_is_told_in_few_reports_and_to_its_end(self, executor, tmp_path):
        asked = job(tmp_path, "for i in range(900): nbpipe.log_metric('m', i)", name="flood", shared="import nbpipe")
        began = time.monotonic()
        executor.submit(asked)
        pieces = _pieces(_reports(executor, 1)["flood"])
        assert len(pieces) <= 20 * (time.monotonic() - began) + 1
        events = PieceReader(Path(asked.directory)).read(0)
        assert [event.number for event in events] == list(range(1, pieces[-1] + 1))
        assert [point.value for event in events for point in event.content["points"]] == list(range(900))

    def test_an_attempt_that_tells_nothing_has_begun_and_ended(self, executor, tmp_path):
        executor.submit(job(tmp_path, "1 + 1;", name="silent"))
        assert _kinds(_reports(executor, 1)["silent"]) == [AttemptStarted, AttemptEnded]

    def test_an_attempt_that_is_cancelled_before_it_begins_has_not_begun(self, executor, tmp_path):
        names = ["busy0", "busy1", "busy2", "waiting"]
        for name in names:
            executor.submit(_sleeper(tmp_path, name))
        _wait_for(lambda: len(list(tmp_path.glob("busy*"))) == 3)
        executor.cancel("waiting")
        reports = _reports(executor, 1, 20)
        assert _kinds(reports.pop("waiting")) == [AttemptEnded]
        assert [_kinds(each) for each in reports.values()] == [[AttemptStarted]] * 3
        for name in names[:3]:
            executor.cancel(name)
        rest = _reports(executor, 3, 20)
        assert all(_kinds(each)[-1] is AttemptEnded and AttemptStarted not in _kinds(each) for each in rest.values())

    def test_waiting_has_an_end(self, executor):
        started = time.monotonic()
        assert executor.wait(0.2) == []
        assert 0.1 < time.monotonic() - started < 1

    def test_slots_are_told(self, executor):
        assert executor.slots_on(default_target()) == 3


@pytest.mark.parametrize("made", [DaskExecutor, ThreadExecutor])
def test_closing_ends_what_runs_and_leaves_nothing(made, tmp_path):
    others = set(_descendants())
    executor = made(default_target(2))
    executor.submit(_sleeper(tmp_path, "a"))
    _wait_for((tmp_path / "a").exists)
    executor.submit(_sleeper(tmp_path, "b"))
    started = time.monotonic()
    executor.close()
    assert time.monotonic() - started < 4
    assert set(_descendants()) <= others
    executor.close()


@pytest.mark.parametrize("made", [DaskExecutor, ThreadExecutor])
def test_nothing_is_started_before_it_is_needed(made):
    others = set(_descendants())
    executor = made(default_target(2))
    assert executor.wait(0) == []
    executor.close()
    assert set(_descendants()) <= others


def test_a_lost_worker_is_an_outcome_and_the_executor_goes_on(tmp_path):
    """The dead worker's kernels are gone with it; the next attempt finds a new worker."""
    others = set(_descendants())
    executor = DaskExecutor(default_target(2))
    executor.submit(_sleeper(tmp_path, "first"))
    _wait_for((tmp_path / "first").exists)
    worker = next(each for each in _descendants() if "spawn_main" in _command(each))
    below = worker.children(recursive=True)
    assert below
    worker.kill()
    reports = _reports(executor, 1, 20)["first"]
    assert _kinds(reports) == [AttemptStarted, AttemptEnded]
    outcome = reports[-1].outcome
    assert (outcome.status, outcome.failure.kind) == (Status.LOST, "lost")
    _, alive = psutil.wait_procs(below, timeout=5)
    assert alive == []
    executor.submit(job(tmp_path, "1", name="second"))
    assert _outcomes(executor, 1)["second"].status is Status.SUCCEEDED
    executor.close()
    assert set(_descendants()) <= others


def test_a_worker_that_is_killed_as_soon_as_it_has_started_is_replaced(tmp_path, monkeypatch):
    start = local_cluster.start

    def start_and_kill(slots: int) -> LocalCluster:
        cluster = start(slots)
        next(each for each in _descendants() if "spawn_main" in _command(each)).kill()
        return cluster

    monkeypatch.setattr(local_cluster, "start", start_and_kill)
    executor = DaskExecutor(default_target(1))
    executor.submit(job(tmp_path, "1", name="first"))
    assert _outcomes(executor, 1)["first"].status in (Status.SUCCEEDED, Status.LOST)
    executor.submit(job(tmp_path, "1", name="second"))
    assert _outcomes(executor, 1)["second"].status is Status.SUCCEEDED
    executor.close()


@pytest.mark.parametrize("part", ["scheduler", "nanny"])
def test_a_part_of_dask_that_ends_in_a_living_driver_costs_the_attempt_and_no_more(tmp_path, part):
    """Both are no processes of their own; what they had running is gone, and the next attempt finds a new cluster."""
    others = set(_descendants())
    executor = DaskExecutor(default_target(1))
    executor.submit(_sleeper(tmp_path, "first"))
    _wait_for((tmp_path / "first").exists)
    below = _descendants()
    cluster = executor._started.cluster
    cluster.sync({"scheduler": cluster.scheduler, "nanny": cluster.workers[0]}[part].close)
    outcome = _outcomes(executor, 1, 30)["first"]
    assert (outcome.status, outcome.failure.kind) == (Status.LOST, "lost")
    _, alive = psutil.wait_procs([each for each in below if "ipykernel" in _command(each)], timeout=5)
    assert alive == []
    executor.submit(job(tmp_path, "1", name="second"))
    assert _outcomes(executor, 1)["second"].status is Status.SUCCEEDED
    executor.close()
    assert set(_descendants()) <= others


def test_reports_that_never_arrived_come_with_the_end(tmp_path):
    """Messages travel apart from results: without a single one, what must have come before the end is known."""
    executor = DaskExecutor(default_target(1))
    executor.start()
    executor._started.client.unsubscribe_topic(executor._topic)
    executor.submit(job(tmp_path, "print(1)", "print(2)"))
    reports = executor.wait(60)
    assert [type(report) for report in reports] == [AttemptStarted, AttemptOutputWritten, AttemptEnded]
    assert (reports[1].pieces, reports[2].outcome.status) == (2, Status.SUCCEEDED)
    assert executor.wait(0.2) == []
    executor.close()


def test_a_result_that_is_cancelled_while_it_is_fetched_is_a_lost_attempt(tmp_path):
    """A client that is closed cancels its tasks, between the end of one and the question for its result."""

    class Closing:
        status = "finished"

        def result(self, timeout: str) -> None:
            raise CancelledError(timeout)

    completed = DaskExecutor(default_target(1))._completed(job(tmp_path, "1"), Closing())
    assert (completed.outcome.status, completed.outcome.failure.kind) == (Status.LOST, "lost")


def test_little_of_what_was_reported_stays_with_the_scheduler():
    executor = DaskExecutor(default_target(1))
    executor.start()
    for number in range(150):
        executor._started.client.log_event(executor._topic, {"attempt": "a", "pieces": number})
    topics = executor._started.cluster.scheduler._broker._topics
    assert topics[executor._topic].count == 150
    assert len(topics[executor._topic].events) <= 100
    executor.close()


def test_each_run_on_a_shared_executor_hears_of_its_own_attempts(tmp_path):
    shared = SharedExecutor(lambda: DaskExecutor(default_target(2)))
    leases = {name: shared.lease() for name in ("left", "right")}
    for name, lease in leases.items():
        for number in range(2):
            lease.submit(job(tmp_path, f"print('{name}')", name=f"{name}{number}"))
    for name, lease in leases.items():
        reports = _reports(lease, 2)
        assert sorted(reports) == [f"{name}0", f"{name}1"]
        assert [_kinds(each) for each in reports.values()] == [[AttemptStarted, AttemptOutputWritten, AttemptEnded]] * 2
    leases["left"].submit(_sleeper(tmp_path, "left2"))
    _wait_for((tmp_path / "left2").exists)
    shared.close()
    last = _kinds(_reports(leases["left"], 1, 5)["left2"])
    assert (last[0], last[-1]) == (AttemptStarted, AttemptEnded)
    assert leases["right"].wait(0) == []


def test_only_this_machine_can_reach_the_cluster():
    """S28, S29: Dask unpickles what it is sent, so it listens on the loopback alone; there is no dashboard."""
    executor = DaskExecutor(default_target(1))
    executor.start()
    listening = [
        connection.laddr.ip
        for process in (psutil.Process(), *_descendants())
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}
    executor.close()


def test_the_program_that_starts_the_cluster_is_not_run_again_by_its_worker(tmp_path):
    """A script without ``if __name__ == "__main__"`` works, and the command line is not loaded twice."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('once', flush=True)\n"
        "import __main__\n"
        "from nbpipe.compute.dask_executor import DaskExecutor\n"
        "from nbpipe.compute.targets import default_target\n"
        "executor = DaskExecutor(default_target(1))\n"
        "executor.start()\n"
        "executor.close()\n"
        "print(__main__.__file__)\n"
    )
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=ROOT, env=_here(), timeout=60, check=False
    )
    assert ran.stdout.split() == ["once", str(script)]
    assert ran.stderr == ""


def test_all_is_gone_when_the_driver_is_killed(tmp_path):
    """Worker, supervisor and kernel, with a step at work."""
    code = (
        f"import pathlib, sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from sample_jobs import job\nfrom nbpipe.compute.dask_executor import DaskExecutor\n"
        "from nbpipe.compute.targets import default_target\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "executor = DaskExecutor(default_target(1))\n"
        "step = f'import pathlib, time; pathlib.Path({str(folder)!r}, \"on\").touch(); time.sleep(600)'\n"
        "executor.submit(job(folder, step))\n"
        "time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=_here())
    _wait_for((tmp_path / "on").exists)
    below = psutil.Process(driver.pid).children(recursive=True)
    assert len(below) >= 3
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []


def test_dask_says_nothing_while_any_cluster_is_there():
    """Not even after another one has ended, and as before once all have."""
    code = (
        "import logging\nfrom nbpipe.compute.dask_executor import DaskExecutor\n"
        "from nbpipe.compute.targets import default_target\n"
        "one, two = DaskExecutor(default_target(1)), DaskExecutor(default_target(1))\n"
        "one.start()\ntwo.start()\none.close()\ntwo.close()\n"
        "logging.getLogger('distributed').error('at the end')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=_here(), timeout=60, check=False
    )
    assert [line.rpartition(" - ")[2] for line in ran.stderr.splitlines()] == ["at the end"]


def test_the_default_target_is_this_machine():
    target = default_target()
    assert (target.name, target.cpu) == ("local", len(os.sched_getaffinity(0)))
    assert TargetExecutors().slots_on(default_target(5)) == 5


def _here() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
