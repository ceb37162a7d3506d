"""One run computes a key, others wait and take its result; whatever becomes of it, one of them takes over."""

from __future__ import annotations

import threading
import time

import pytest
from scripted_executor import Bench, Fail, Kernelless, Lose, by_code

from nbpipe.errors import ClusterOutOfReach
from nbpipe.model import AttemptReport, Job, Status
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_watch import watch_run

MAKE = "%%step make -o a:json\na = 3"


class Gone(Kernelless):
    """An executor whose cluster is lost while an attempt runs."""

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Say that the cluster is gone, as soon as the attempt has begun and the other run waits for it."""
        found = super().wait(timeout)
        if self.stopped:
            raise ClusterOutOfReach("the cluster is gone")
        return found


def ends_badly(how: str, owner: Bench) -> None:
    """Make the run that computes end in this way, from another thread."""
    if how == "breaks off":
        owner.executor.stopped.append("all")


@pytest.mark.parametrize("how", ["fails", "is lost", "breaks off", "succeeds", "keeps nothing"])
def test_a_waiting_run_takes_the_result_or_takes_over(tmp_path, how):
    (tmp_path / "data.txt").write_text("one")
    source = "%%step make -i raw=./data.txt -o a:json\na = raw"
    owner = Bench(tmp_path, [source], notebook="one.ipynb", executor=Gone())
    waiter = Bench(tmp_path, [source], notebook="two.ipynb")
    begun, waits = threading.Event(), threading.Event()

    def work(job: Job, output: str) -> str:
        begun.set()
        assert waits.wait(30)
        if how == "fails":
            raise Fail("no")
        if how == "is lost":
            raise Lose("no")
        if how == "keeps nothing":
            (tmp_path / "data.txt").write_text("two")
        return by_code(job, output)

    def compute() -> None:
        try:
            owner.run(work=work)
        except ClusterOutOfReach:
            ended.append("broke off")

    ended: list[str] = []
    first = threading.Thread(target=compute)
    first.start()
    assert begun.wait(30)
    second = threading.Thread(target=waiter.run, kwargs={"work": by_code})
    second.start()
    while not any("another run is computing this result" in note for record in waiter.seen for note in record.notes):
        waits.wait(0.02)
    ends_badly(how, owner)
    waits.set()
    first.join()
    second.join()
    owner.executor.close()
    waiter.executor.close()

    computed = [job.step for job in waiter.executor.jobs]
    assert waiter.ended() == "succeeded"
    assert computed == ([] if how == "succeeds" else ["make"])
    assert waiter.statuses()["make"] == ("reused" if how == "succeeds" else "succeeded")


def test_a_run_of_the_same_notebook_ends_a_step_as_the_run_did_that_it_was_attached_to(tmp_path):
    """It asked for that very attempt: what failed there is not tried once more here."""
    owner = Bench(tmp_path, [MAKE, "%%step other -o b:json\nb = 1"])
    waiter = Bench(tmp_path, [MAKE, "%%step take -i a -o c:json\nc = a"])
    begun, waits = threading.Event(), threading.Event()

    def fail(job: Job, output: str) -> str:
        if job.step != "make":
            return by_code(job, output)
        begun.set()
        assert waits.wait(30)
        raise Fail("no")

    first = threading.Thread(target=owner.run, kwargs={"work": fail, "run_options": RunOptions(keep_going=True)})
    first.start()
    assert begun.wait(30)
    second = threading.Thread(target=waiter.run, kwargs={"work": by_code, "run_options": RunOptions(attach=True)})
    second.start()
    while not any("another run is computing this result" in note for record in waiter.seen for note in record.notes):
        waits.wait(0.02)
    waits.set()
    first.join()
    second.join()

    assert waiter.executor.jobs == []
    assert waiter.statuses() == {"make": "failed", "take": "skipped"}
    assert waiter.ended() == "failed"


def test_one_step_of_a_run_is_cancelled_from_elsewhere_and_the_others_go_on(tmp_path):
    bench = Bench(tmp_path, [MAKE, "%%step take -i a -o c:json\nc = a", "%%step other -o b:json\nb = 1"])

    def work(job: Job, output: str) -> str:
        if job.step == "make":
            with Workspace.open(tmp_path) as workspace:
                watch_run(workspace, job.run).cancel(workspace.runs.execution(job.run, "make").id)
            while job.attempt not in bench.executor.stopped:
                time.sleep(0.02)
        return by_code(job, output)

    bench.run(work=work)

    assert bench.statuses() == {"make": "cancelled", "take": "skipped", "other": "succeeded"}
    assert bench.ended() == "cancelled"


def test_only_as_many_steps_run_as_there_is_room_for(tmp_path):
    """The others are queued until they begin, whatever the cluster was handed already."""
    bench = Bench(tmp_path, [f"%%step s{n} -o a{n}:json\na{n} = {n}" for n in range(4)], executor=Kernelless(slots=2))
    at_once: list[int] = []

    def work(job: Job, output: str) -> str:
        with Workspace.open(tmp_path) as workspace:
            steps = workspace.runs.show(job.run)[1]
        at_once.append(sum(step.status is Status.RUNNING for step in steps))
        return by_code(job, output)

    bench.run(work=work)

    assert set(bench.statuses().values()) == {"succeeded"}
    assert max(at_once) <= 2
