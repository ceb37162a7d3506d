"""Results are offered, found by the newest, and never offered again once they are in quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_history import artifact, attempt, begin, commit, everyone, nobody, outcome, record, reused, succeed
from sqlalchemy import event

from nbpipe.errors import HistoryOutOfReach
from nbpipe.history.claims import Claim
from nbpipe.history.results import ReuseEntry
from nbpipe.history.row_mapping import AttemptRow
from nbpipe.history.store import History
from nbpipe.model import CachedResult, Outcome, ResultOrigin, Status


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / "history.db") as opened:
        begin(opened, "x")
        yield opened


def hit(key: str, attempt: str, run: str, step: str, content: str = "1") -> CachedResult:
    return CachedResult(
        key, attempt, ResultOrigin(run, step), 1.5, "file:///runs/n.ipynb", (artifact(content=content),)
    )


# One transaction


def test_a_commit_makes_attempt_step_and_result_visible_and_frees_the_claim(history):
    claim = history.claim("key-a", owner="me", now=100.0, lease=30.0, alive=everyone)
    attempt(history, "t", "x", "a")
    assert history.lookup(["key-a"]) == {}

    assert commit(history, "t", "x", "a", claim=claim)

    assert history.steps("x") == [record("x", "a")]
    assert history.attempts("x", "a") == [
        AttemptRow("t", 1, Status.SUCCEEDED, 101.0, 102.5, "/runs/t", "file:///runs/n.ipynb", None)
    ]
    assert history.lookup(["key-a", "raw-a", "other"]) == {
        "key-a": hit("key-a", "t", "x", "a"),
        "raw-a": hit("raw-a", "t", "x", "a"),
    }
    assert isinstance(history.claim("key-a", owner="you", now=100.0, lease=30.0, alive=everyone), Claim)


def unchanged_by_commit(history: History, name: str, claim: Claim | None = None) -> bool:
    """Try to commit; say whether it was refused and left everything as it was."""
    before = (
        history.steps("x"),
        history.attempts("x", "a"),
        history.lookup(["key-a"]),
        history.find_output(None, "a", "df"),
    )
    accepted = commit(history, name, "x", "a", claim=claim, content="late")
    after = (
        history.steps("x"),
        history.attempts("x", "a"),
        history.lookup(["key-a"]),
        history.find_output(None, "a", "df"),
    )
    return not accepted and before == after


def test_a_commit_changes_nothing_when_its_claim_was_taken_over(history):
    claim = history.claim("key-a", owner="me", now=100.0, lease=30.0, alive=everyone)
    attempt(history, "t", "x", "a")
    successor = history.claim("key-a", owner="you", now=200.0, lease=30.0, alive=everyone)

    assert unchanged_by_commit(history, "t", claim)

    history.release(successor)
    assert unchanged_by_commit(history, "t", claim)


def test_a_commit_counts_when_the_lease_is_over_but_nobody_took_the_claim(history):
    claim = history.claim("key-a", owner="me", now=100.0, lease=0.0, alive=everyone)
    attempt(history, "t", "x", "a")

    assert commit(history, "t", "x", "a", claim=claim)


@pytest.mark.parametrize("status", [Status.FAILED, Status.LOST, Status.CANCELLED])
def test_a_commit_changes_nothing_when_its_attempt_has_ended(history, status):
    attempt(history, "t", "x", "a")
    history.end_attempt(outcome("t", status), 102.0)

    assert unchanged_by_commit(history, "t")


def test_a_commit_changes_nothing_when_its_attempt_is_unknown(history):
    assert unchanged_by_commit(history, "unknown")


def test_a_commit_changes_nothing_when_its_step_was_cancelled(history):
    attempt(history, "t", "x", "a")
    history.put_steps([record("x", "a", Status.CANCELLED)])

    assert unchanged_by_commit(history, "t")


def test_one_attempt_of_a_step_succeeds(history):
    succeed(history, "x", "a")
    attempt(history, "second", "x", "a", 2)

    assert unchanged_by_commit(history, "second")
    assert unchanged_by_commit(history, "x-a")


def test_a_commit_that_cannot_be_written_leaves_nothing_behind(history):
    attempt(history, "t", "x", "a")
    with pytest.raises(HistoryOutOfReach):
        history.commit(outcome("t"), record("unknown", "a"), offers=[ReuseEntry("k", None)], claim=None, now=102.0)

    assert history.lookup(["k"]) == {}
    assert commit(history, "t", "x", "a")


def test_only_a_success_is_committed_and_never_ended_otherwise(history):
    attempt(history, "t", "x", "a")
    with pytest.raises(ValueError, match="failed"):
        history.commit(outcome("t", Status.FAILED), record("x", "a"), offers=[], claim=None, now=102.0)
    with pytest.raises(ValueError, match="succeeded"):
        history.end_attempt(outcome("t"), 102.0)


# Attempts


def test_attempts_are_listed_first_to_last_with_how_they_ended(history):
    attempt(history, "t2", "x", "a", 2)
    attempt(history, "t1", "x", "a", 1)
    history.end_attempt(outcome("t1", Status.FAILED), 103.0)
    history.end_attempt(outcome("t1", Status.LOST), 104.0)

    first, second = history.attempts("x", "a")

    assert (first.attempt, first.status, first.ended) == ("t1", Status.FAILED, 103.0)
    assert first.failure == outcome("t1", Status.FAILED).failure
    assert (second.attempt, second.status, second.ended) == ("t2", Status.RUNNING, None)
    assert history.attempts("x", "b") == []


def test_an_attempt_belongs_to_a_run(history):
    with pytest.raises(HistoryOutOfReach, match="refused"):
        attempt(history, "t", "unknown", "a")


# Finding results


def test_the_newest_commit_of_a_key_is_found(history):
    begin(history, "y")
    succeed(history, "y", "a", content="first")
    succeed(history, "x", "a", content="second")

    assert history.lookup(["key-a"]) == {"key-a": hit("key-a", "x-a", "x", "a", "second")}


def test_without_keys_a_result_is_kept_but_not_offered(history):
    succeed(history, "x", "a", keys=())

    assert history.lookup(["key-a", "raw-a"]) == {}
    assert history.static_known(["static-a"]) == set()
    assert history.newest_result("a.ipynb", "a") == hit("key-a", "x-a", "x", "a")


def test_static_keys_are_known_while_a_result_is_offered(history):
    name = succeed(history, "x", "a")
    assert history.static_known(["static-a", "static-b"]) == {"static-a"}

    history.quarantine(name, "bit rot", 110.0)
    assert history.static_known(["static-a"]) == set()


def test_a_result_in_quarantine_is_never_offered_but_stays_on_record(history):
    begin(history, "y")
    succeed(history, "x", "a", content="old")
    name = succeed(history, "y", "a", content="rotten")
    history.quarantine(name, "bit rot", 110.0)
    history.quarantine(name, "again", 120.0)

    assert history.lookup(["key-a"]) == {"key-a": hit("key-a", "x-a", "x", "a", "old")}
    assert history.hits_of_run("y") == {key: hit(key, "x-a", "x", "a", "old") for key in ("key-a", "raw-a")}
    assert history.newest_result("a.ipynb", "a") == hit("key-a", "x-a", "x", "a", "old")
    assert [row.status for row in history.attempts("y", "a")] == [Status.SUCCEEDED]
    with history._database.reading() as connection:
        told = connection.exec_driver_sql("SELECT quarantined, why FROM attempts WHERE id = 'y-a'").one()
    assert tuple(told) == (110.0, "bit rot")


def test_hits_of_a_run_are_what_lookup_says_of_its_results(history):
    """Under each of their keys, whether the run made them or reused them."""
    succeed(history, "x", "a", content="a")
    succeed(history, "x", "b", content="b")
    begin(history, "y")
    succeed(history, "y", "c", content="c")
    history.put_steps([reused("y", "a", "x"), record("y", "b", Status.FAILED), record("y", "d", key=None)])

    hits = history.hits_of_run("y")

    assert set(hits) == {"key-a", "raw-a", "key-c", "raw-c"}
    assert hits == history.lookup(list(hits))
    assert history.hits_of_run("unknown") == {}


def test_the_newest_result_of_a_step_is_that_of_the_newest_run_in_which_it_was_done(history):
    begin(history, "other", notebook="b.ipynb")
    begin(history, "y")
    begin(history, "z")
    begin(history, "w")
    succeed(history, "other", "a", content="other")
    succeed(history, "x", "a", content="x")
    succeed(history, "y", "a", content="y")
    assert history.newest_result("a.ipynb", "a") == hit("key-a", "y-a", "y", "a", "y")

    history.put_steps([reused("z", "a", "x"), record("w", "a", Status.FAILED)])

    assert history.newest_result("a.ipynb", "a") == hit("key-a", "x-a", "x", "a", "x")
    assert history.newest_result("b.ipynb", "a") == hit("key-a", "other-a", "other", "a", "other")
    assert history.newest_result("a.ipynb", "b") is None


# The dead


def test_what_a_dead_process_left_is_lost_and_its_claims_are_free(history):
    begin(history, "y", owner="you")
    begin(history, "done", owner="me")
    history.end_run("done", Status.SUCCEEDED, 105.0)
    history.claim("key-a", owner="me", now=100.0, lease=1e9, alive=everyone)
    attempt(history, "t", "x", "a")
    attempt(history, "u", "y", "a")
    history.put_steps([record("x", "a", Status.RUNNING), record("x", "b"), record("y", "a", Status.RUNNING)])

    assert history.mark_lost(alive=lambda owner: owner == "you", now=200.0) == ["x"]

    assert {run.id: run.status for run in history.runs()} == {
        "x": Status.LOST,
        "y": Status.RUNNING,
        "done": Status.SUCCEEDED,
    }
    assert history.run("x").ended == 200.0
    assert {step.step: step.status for step in history.steps("x")} == {"a": Status.LOST, "b": Status.SUCCEEDED}
    (lost,) = history.attempts("x", "a")
    assert (lost.status, lost.failure.kind) == (Status.LOST, "lost")
    assert [row.status for row in history.attempts("y", "a")] == [Status.RUNNING]
    assert isinstance(history.claim("key-a", owner="new", now=200.0, lease=1.0, alive=everyone), Claim)
    assert not commit(history, "t", "x", "a")
    assert history.mark_lost(alive=lambda owner: owner == "you", now=300.0) == []


def test_nobody_is_marked_lost_while_all_live(history):
    assert history.mark_lost(alive=everyone, now=200.0) == []
    assert history.mark_lost(alive=nobody, now=200.0) == ["x"]


# Size


def test_many_keys_and_steps_are_handled_at_once(history):
    """More of them than one SQL statement takes."""
    steps = [f"s{number}" for number in range(2000)]
    history.put_steps([record("x", step, Status.QUEUED) for step in steps])
    history.put_steps([record("x", step) for step in steps])
    for step in steps[:5]:
        succeed(history, "x", step)

    assert len(history.steps("x")) == len(history.latest_steps("a.ipynb")) == 2000
    assert set(history.lookup([f"key-{step}" for step in steps])) == {f"key-{step}" for step in steps[:5]}
    assert history.static_known([f"static-{step}" for step in steps]) == {f"static-{step}" for step in steps[:5]}


def work_of_a_plan(history: History, last: str) -> int:
    """Ask what a plan of 50 steps asks, and get how many instructions SQLite's machine needed, in thousands."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    def count_on(connection, *_: object) -> None:
        connection.set_progress_handler(counted, 1000)

    engine = history._database._readers
    event.listen(engine, "checkout", count_on)
    keys = [f"key-s{number:02}" for number in range(50)]
    assert history.last_run("a.ipynb").id == last
    assert len(history.latest_steps("a.ipynb")) == 50
    assert len(history.lookup(keys)) == 50
    assert len(history.hits_of_run(last)) == 100
    assert len(history.static_known([f"static-s{number:02}" for number in range(50)])) == 50
    assert history.newest_result("a.ipynb", "s07").origin == ResultOrigin("x", "s07")
    assert history.find_output("a.ipynb", "s07", "df") == artifact()
    event.remove(engine, "checkout", count_on)
    return count


@pytest.mark.slow
def test_e11_a_hundred_thousand_steps_do_not_slow_the_questions_of_a_plan(history):
    """E11: what a plan asks costs the database the same work after 2,000 runs as after a few."""
    steps = [f"s{number:02}" for number in range(50)]
    for step in steps:
        succeed(history, "x", step)

    def grow(numbers: range) -> int:
        for number in numbers:
            begin(history, f"r{number}")
            history.put_steps([reused(f"r{number}", step, "x") for step in steps])
        return work_of_a_plan(history, f"r{numbers[-1]}")

    few = grow(range(20))

    assert few > 0
    assert grow(range(20, 2000)) <= 2 * few


def test_an_outcome_without_artifacts_is_a_result_too(history):
    attempt(history, "t", "x", "a")
    bare = Outcome("t", 0, Status.SUCCEEDED, 2.0, "n")

    assert history.commit(bare, record("x", "a", artifacts=()), offers=[ReuseEntry("k", None)], claim=None, now=103.0)
    assert history.lookup(["k"])["k"].artifacts == ()
