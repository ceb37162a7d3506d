"""A8: an old result that its author lets stand for new code is reused, on record; what cannot stand is refused."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_executor import Bench

from nbpipe.errors import BadUsage
from nbpipe.history.store import History
from nbpipe.run.acceptance import AcceptedResult
from nbpipe.workspace import Workspace
from nbpipe.workspace.acceptance import accept_step

MAKE = "%%step make -o a:json\nprint('one')\na = 3"
USE = "%%step use -i a -o b:json\nb = a * 2"


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, [MAKE, USE])
    yield made
    made.executor.close()


def accept(bench: Bench, step: str, **asked: Any) -> AcceptedResult:
    """Accept a step's last result for the cells as they are."""
    with Workspace.open(bench.folder) as workspace:
        return accept_step(workspace, bench.request(**asked), step)


def test_a8_an_accepted_result_stands_for_the_new_code_and_says_so(bench):
    bench.run()
    first = bench.report.run.id
    bench.sources[0] = MAKE.replace("one", "two")
    accepted = accept(bench, "make")

    assert accepted.hit.origin.run == first
    assert [reason.component for reason in accepted.reasons] == ["code"]
    assert bench.run() == []
    (reason,) = bench.step("make").reasons
    assert reason.component == "accepted"
    assert "although changed: code" in (reason.now or "")
    assert bench.step("make").origin.run == first


def test_acceptance_is_an_entry_of_the_history(bench):
    bench.run()
    bench.sources[0] = MAKE.replace("one", "two")
    accepted = accept(bench, "make")
    with History.open(bench.folder / ".nbpipe" / "history.db") as history:
        keys = [record.key for record in history.executions.latest(bench.report.run.pipeline).values()]
        hits = [hit for key in keys for hit in history.results.candidates(key)]
        planned = bench.plan().decisions["make"]
        found = history.results.lookup([planned.key])[planned.key]

    assert [hit.accepted for hit in hits] == ["", ""]
    assert found.accepted == accepted.record


def test_the_old_code_and_a_third_one_are_what_they_were(bench):
    bench.run()
    bench.sources[0] = MAKE.replace("one", "two")
    accept(bench, "make")
    bench.sources[0] = MAKE
    assert bench.run() == []
    assert bench.step("make").reasons[0].component == "unchanged"
    bench.sources[0] = MAKE.replace("one", "three")
    assert bench.run(work=lambda job, output: "[3]") == ["make", "use"]


def test_what_is_up_to_date_has_nothing_to_accept(bench):
    bench.run()
    with pytest.raises(BadUsage, match="up to date"):
        accept(bench, "make")


def test_without_an_earlier_result_nothing_can_stand(bench):
    with pytest.raises(BadUsage, match="no result of `make`"):
        accept(bench, "make")


def test_while_inputs_are_not_known_nothing_can_be_accepted(bench):
    bench.run()
    bench.sources[0] = MAKE.replace("one", "two")
    with pytest.raises(BadUsage, match="not known yet"):
        accept(bench, "use")


@pytest.mark.parametrize(
    "declared, said",
    [
        ("-o a:json,more:json", "no output `more`"),
        ("-o a:cloudpickle", "as json, not as cloudpickle"),
        ("-o a:file", "not as file"),
    ],
)
def test_a_result_that_lacks_what_is_declared_now_cannot_stand(bench, declared, said):
    bench.run()
    bench.sources[0] = MAKE.replace("-o a:json", declared) + "\nmore = 1"
    with pytest.raises(BadUsage, match=said):
        accept(bench, "make")


def test_what_always_runs_cannot_be_accepted(bench):
    bench.run()
    bench.sources[0] = MAKE.replace("-o a:json", "-o a:json --reuse never")
    with pytest.raises(BadUsage, match="always runs"):
        accept(bench, "make")
