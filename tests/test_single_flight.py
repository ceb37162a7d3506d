"""One run computes a key, others wait and take its result; whatever becomes of it, one of them takes over."""

from __future__ import annotations

import threading

import pytest
from kernelless import Bench, Fail, Kernelless, Lose, by_code

from nbpipe.errors import ClusterOutOfReach
from nbpipe.model import Job, Outcome

MAKE = "%%step make -o a:json\na = 3"


class Gone(Kernelless):
    """An executor whose cluster is lost while an attempt runs."""

    def wait(self, timeout: float) -> list[Outcome]:
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
    while not any("another run makes this" in note for record in waiter.seen for note in record.notes):
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
