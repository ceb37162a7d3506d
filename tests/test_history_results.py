"""Results are offered, found by the newest, and never offered again once they are in quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sample_history import (
    artifact,
    attempt,
    attempt_record,
    begin,
    commit,
    end,
    everyone,
    failure,
    nobody,
    pipeline,
    put,
    record,
    reused,
    succeed,
)
from sqlalchemy import event

from nbpipe.errors import HistoryOutOfReach
from nbpipe.history.attempts import RunChanges
from nbpipe.history.claims import Claim
from nbpipe.history.results import ReuseEntry
from nbpipe.history.runs import RunFilter
from nbpipe.history.store import History
from nbpipe.model import CachedResult, ResultOrigin, Status


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / "history.db") as opened:
        begin(opened, "x")
        yield opened


def hit(key: str, attempt: str, run: str, step: str, content: str = "1") -> CachedResult:
    return CachedResult(
        key, attempt, ResultOrigin(run, step, attempt), 1.5, f"runs/{attempt}/n.ipynb", (artifact(content=content),)
    )


# One transaction


def test_a_commit_makes_attempt_step_and_result_visible_and_frees_the_claim(history):
    claim = history.claims.claim("key-a", owner="me", now=100.0, lease=30.0, alive=everyone)
    attempt(history, "t", "x", "a")
    assert history.results.lookup(["key-a"]) == {}

    assert commit(history, "t", "x", "a", claim=claim)

    assert history.executions.of_run("x") == [record("x", "a")]
    assert history.attempts.of_execution("x/a") == [attempt_record("t", "x", "a", Status.SUCCEEDED)]
    assert history.results.lookup(["key-a", "raw-a", "other"]) == {
        "key-a": hit("key-a", "t", "x", "a"),
        "raw-a": hit("raw-a", "t", "x", "a"),
    }
    assert isinstance(history.claims.claim("key-a", owner="you", now=100.0, lease=30.0, alive=everyone), Claim)


def unchanged_by_commit(history: History, name: str, claim: Claim | None = None) -> bool:
    """Try to commit; say whether it was refused and left everything as it was."""
    before = (
        history.executions.of_run("x"),
        history.attempts.of_execution("x/a"),
        history.results.lookup(["key-a"]),
        history.executions.find_output(None, "a", "df"),
    )
    accepted = commit(history, name, "x", "a", claim=claim, content="late")
    after = (
        history.executions.of_run("x"),
        history.attempts.of_execution("x/a"),
        history.results.lookup(["key-a"]),
        history.executions.find_output(None, "a", "df"),
    )
    return not accepted and before == after


def test_a_commit_changes_nothing_when_its_claim_was_taken_over(history):
    claim = history.claims.claim("key-a", owner="me", now=100.0, lease=30.0, alive=everyone)
    attempt(history, "t", "x", "a")
    successor = history.claims.claim("key-a", owner="you", now=200.0, lease=30.0, alive=everyone)

    assert unchanged_by_commit(history, "t", claim)

    history.claims.release(successor)
    assert unchanged_by_commit(history, "t", claim)


def test_a_commit_counts_when_the_lease_is_over_but_nobody_took_the_claim(history):
    claim = history.claims.claim("key-a", owner="me", now=100.0, lease=0.0, alive=everyone)
    attempt(history, "t", "x", "a")

    assert commit(history, "t", "x", "a", claim=claim)


@pytest.mark.parametrize("status", [Status.FAILED, Status.LOST, Status.CANCELLED])
def test_a_commit_changes_nothing_when_its_attempt_has_ended(history, status):
    attempt(history, "t", "x", "a")
    end(history, "t", "x", "a", status)

    assert unchanged_by_commit(history, "t")


def test_a_commit_changes_nothing_when_its_attempt_is_unknown(history):
    assert unchanged_by_commit(history, "unknown")


def test_a_commit_changes_nothing_when_its_step_was_cancelled(history):
    attempt(history, "t", "x", "a")
    put(history, record("x", "a", Status.CANCELLED))

    assert unchanged_by_commit(history, "t")


def test_one_attempt_of_a_step_succeeds(history):
    succeed(history, "x", "a")
    attempt(history, "second", "x", "a", 2)

    assert unchanged_by_commit(history, "second")
    assert unchanged_by_commit(history, "x-a")


def test_a_commit_that_cannot_be_written_leaves_nothing_behind(history):
    attempt(history, "t", "x", "a")
    with pytest.raises(HistoryOutOfReach):
        history.attempts.commit(
            attempt_record("t", "x", "a", Status.SUCCEEDED), record("unknown", "a"), offers=[ReuseEntry("k", None)],
            claim=None, now=102.0,
        )  # fmt: skip

    assert history.results.lookup(["k"]) == {}
    assert commit(history, "t", "x", "a")


def test_only_a_success_is_committed_and_never_ended_otherwise(history):
    attempt(history, "t", "x", "a")
    with pytest.raises(ValueError, match="failed"):
        history.attempts.commit(
            attempt_record("t", "x", "a", Status.FAILED), record("x", "a"), offers=[], claim=None, now=102.0
        )
    with pytest.raises(ValueError, match="succeeded"):
        end(history, "t", "x", "a", Status.SUCCEEDED)


# Attempts


def test_attempts_are_listed_first_to_last_with_how_they_ended(history):
    attempt(history, "t2", "x", "a", 2)
    attempt(history, "t1", "x", "a", 1)
    end(history, "t1", "x", "a", Status.FAILED, ended=103.0)
    end(history, "t1", "x", "a", Status.LOST, ended=104.0)

    first, second = history.attempts.of_execution("x/a")

    assert (first.id, first.status, first.ended) == ("t1", Status.FAILED, 103.0)
    assert first.failure == failure()
    assert (second.id, second.status, second.ended) == ("t2", Status.RUNNING, None)
    assert history.attempts.of_execution("x/b") == []


def test_an_attempt_belongs_to_a_run(history):
    with pytest.raises(HistoryOutOfReach, match="no run unknown"):
        attempt(history, "t", "unknown", "a")
    with pytest.raises(HistoryOutOfReach, match="could not be read or written"):
        history.attempts.record("x", RunChanges(attempts=[attempt_record("t", "x", "unknown")]), 101.0)


# Finding results


def test_the_newest_commit_of_a_key_is_found(history):
    begin(history, "y")
    succeed(history, "y", "a", content="first")
    succeed(history, "x", "a", content="second")

    assert history.results.lookup(["key-a"]) == {"key-a": hit("key-a", "x-a", "x", "a", "second")}


def test_without_keys_a_result_is_kept_but_not_offered(history):
    succeed(history, "x", "a", keys=())

    assert history.results.lookup(["key-a", "raw-a"]) == {}
    assert history.results.static_known(["static-a"]) == set()
    assert history.results.newest_result(pipeline().id, "a") == hit("key-a", "x-a", "x", "a")


def test_static_keys_are_known_while_a_result_is_offered(history):
    name = succeed(history, "x", "a")
    assert history.results.static_known(["static-a", "static-b"]) == {"static-a"}

    history.results.quarantine(name, "bit rot", 110.0)
    assert history.results.static_known(["static-a"]) == set()


def test_a_result_in_quarantine_is_never_offered_but_stays_on_record(history):
    begin(history, "y")
    succeed(history, "x", "a", content="old")
    name = succeed(history, "y", "a", content="rotten")
    history.results.quarantine(name, "bit rot", 110.0)
    history.results.quarantine(name, "again", 120.0)

    assert history.results.lookup(["key-a"]) == {"key-a": hit("key-a", "x-a", "x", "a", "old")}
    assert history.results.hits_of_run("y") == {key: hit(key, "x-a", "x", "a", "old") for key in ("key-a", "raw-a")}
    assert history.results.newest_result(pipeline().id, "a") == hit("key-a", "x-a", "x", "a", "old")
    assert [row.status for row in history.attempts.of_execution("y/a")] == [Status.SUCCEEDED]
    with history.database.reading() as connection:
        told = connection.exec_driver_sql("SELECT quarantined, why FROM attempts WHERE id = 'y-a'").one()
    assert tuple(told) == (110.0, "bit rot")


def test_hits_of_a_run_are_what_lookup_says_of_its_results(history):
    """Under each of their keys, whether the run made them or reused them."""
    succeed(history, "x", "a", content="a")
    succeed(history, "x", "b", content="b")
    begin(history, "y")
    succeed(history, "y", "c", content="c")
    put(history, reused("y", "a", "x"), record("y", "b", Status.FAILED), record("y", "d", key=None))

    hits = history.results.hits_of_run("y")

    assert set(hits) == {"key-a", "raw-a", "key-c", "raw-c"}
    assert hits == history.results.lookup(list(hits))
    assert history.results.hits_of_run("unknown") == {}


def test_the_newest_result_of_a_step_is_that_of_the_newest_run_in_which_it_was_done(history):
    begin(history, "other", notebook="b.ipynb")
    begin(history, "y")
    begin(history, "z")
    begin(history, "w")
    succeed(history, "other", "a", content="other")
    succeed(history, "x", "a", content="x")
    succeed(history, "y", "a", content="y")
    assert history.results.newest_result(pipeline().id, "a") == hit("key-a", "y-a", "y", "a", "y")

    put(history, reused("z", "a", "x"), record("w", "a", Status.FAILED))

    assert history.results.newest_result(pipeline().id, "a") == hit("key-a", "x-a", "x", "a", "x")
    assert history.results.newest_result(pipeline("b.ipynb").id, "a") == hit("key-a", "other-a", "other", "a", "other")
    assert history.results.newest_result(pipeline().id, "b") is None


# The dead


def test_what_a_dead_process_left_is_lost_and_its_claims_are_free(history):
    begin(history, "y", owner="you")
    begin(history, "done", owner="me")
    history.runs.end("done", Status.SUCCEEDED, 105.0)
    history.claims.claim("key-a", owner="me", now=100.0, lease=1e9, alive=everyone)
    attempt(history, "t", "x", "a")
    attempt(history, "u", "y", "a")
    put(history, record("x", "a", Status.RUNNING), record("x", "b"), record("y", "a", Status.RUNNING))

    assert history.lost_runs.mark_lost(alive=lambda owner: owner == "you", now=200.0) == ["x"]

    assert {run.id: run.status for run in history.runs.newest()} == {
        "x": Status.LOST,
        "y": Status.RUNNING,
        "done": Status.SUCCEEDED,
    }
    assert history.runs.get("x").ended == 200.0
    assert {step.step: step.status for step in history.executions.of_run("x")} == {
        "a": Status.LOST,
        "b": Status.SUCCEEDED,
    }
    assert history.executions.of_step("x", "a").failure == history.attempts.of_execution("x/a")[0].failure
    (lost,) = history.attempts.of_execution("x/a")
    assert (lost.status, lost.failure.kind) == (Status.LOST, "lost")
    assert [row.status for row in history.attempts.of_execution("y/a")] == [Status.RUNNING]
    assert isinstance(history.claims.claim("key-a", owner="new", now=200.0, lease=1.0, alive=everyone), Claim)
    assert not commit(history, "t", "x", "a")
    assert history.lost_runs.mark_lost(alive=lambda owner: owner == "you", now=300.0) == []


def test_nobody_is_marked_lost_while_all_live(history):
    assert history.lost_runs.mark_lost(alive=everyone, now=200.0) == []
    assert history.lost_runs.mark_lost(alive=nobody, now=200.0) == ["x"]


# Size


def test_many_keys_and_steps_are_handled_at_once(history):
    """More of them than one SQL statement takes."""
    steps = [f"s{number}" for number in range(2000)]
    put(history, *(record("x", step, Status.QUEUED) for step in steps))
    put(history, *(record("x", step) for step in steps))
    for step in steps[:5]:
        succeed(history, "x", step)

    assert len(history.executions.of_run("x")) == len(history.executions.latest(pipeline().id)) == 2000
    assert set(history.results.lookup([f"key-{step}" for step in steps])) == {f"key-{step}" for step in steps[:5]}
    assert history.results.static_known([f"static-{step}" for step in steps]) == {
        f"static-{step}" for step in steps[:5]
    }


def work_of_a_plan(history: History, last: str) -> int:
    """Ask what a plan of 50 steps and faces ask; return how many instructions SQLite's machine needed, in hundreds."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    def count_on(connection, *_: object) -> None:
        connection.set_progress_handler(counted, 100)

    engine = history.database._readers
    event.listen(engine, "checkout", count_on)
    keys = [f"key-s{number:02}" for number in range(50)]
    assert history.runs.last(pipeline().id).id == last
    assert len(history.executions.latest(pipeline().id)) == 50
    assert len(history.results.lookup(keys)) == 50
    assert len(history.results.hits_of_run(last)) == 100
    assert len(history.results.static_known([f"static-s{number:02}" for number in range(50)])) == 50
    assert history.results.newest_result(pipeline().id, "s07").origin == ResultOrigin("x", "s07", "x-s07")
    assert history.executions.find_output(pipeline().id, "s07", "df") == artifact()
    assert history.executions.find_output(pipeline().id, None, "df") == artifact()
    assert history.executions.find_output(None, None, "df") == artifact()
    assert history.executions.of_step(last, "s07").id == f"{last}/s07"
    assert len(history.executions.recent(pipeline().id, "s07", 3)) == 3
    assert [run.id for run in history.runs.newest(limit=1, wanted=RunFilter(pipeline().id, step="s07"))] == [last]
    assert [run.id for run in history.runs.newest(limit=1, wanted=RunFilter(status=Status.RUNNING))] == [last]
    assert history.runs.live(pipeline("b.ipynb").id) == []
    assert [run.id for run in history.runs.live(pipeline().id)] == [last]
    assert len(history.log.read(last)) == 51
    assert history.lost_runs.abandoned(alive=nobody) == []
    assert history.lost_runs.mark_lost(alive=everyone, now=1.0) == []
    event.remove(engine, "checkout", count_on)
    return count


def plans(history: History, ask: Callable[[], object]) -> list[str]:
    """Return how SQLite finds what a question asks for."""
    found: list[str] = []

    def explain(connection, _cursor, statement, parameters, *_: object) -> None:
        if not statement.startswith("PRAGMA"):
            rows = connection.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.extend(row[3] for row in rows)

    engine = history.database._readers
    event.listen(engine, "before_cursor_execute", explain)
    ask()
    event.remove(engine, "before_cursor_execute", explain)
    return found


HERE = pipeline().id
QUESTIONS = {
    "latest": lambda history: history.executions.latest(HERE),
    "recent": lambda history: history.executions.recent(HERE, "a", 5),
    "of_step": lambda history: history.executions.of_step("x", "a"),
    "newest_result": lambda history: history.results.newest_result(HERE, "a"),
    "output of a step": lambda history: history.executions.find_output(HERE, "a", "df"),
    "output of a pipeline": lambda history: history.executions.find_output(HERE, None, "df"),
    "output of any step": lambda history: history.executions.find_output(None, "a", "df"),
    "output": lambda history: history.executions.find_output(None, None, "df"),
    "log": lambda history: history.log.read("x", 2),
    "metrics": lambda history: history.log.metrics("x"),
    "runs": lambda history: history.runs.newest(),
    "runs of a pipeline": lambda history: history.runs.newest(wanted=RunFilter(HERE)),
    "runs of an experiment": lambda history: history.runs.newest(wanted=RunFilter(experiment="e")),
    "failed runs": lambda history: history.runs.newest(wanted=RunFilter(status=Status.FAILED)),
    "runs with a step": lambda history: history.runs.newest(wanted=RunFilter(step="a")),
    "runs by all": lambda history: history.runs.newest(wanted=RunFilter(HERE, "e", Status.FAILED, "a", {"k": "v"})),
    "live": lambda history: history.runs.live(HERE),
    "abandoned": lambda history: history.lost_runs.abandoned(alive=everyone),
    "lost": lambda history: history.lost_runs.mark_lost(alive=everyone, now=1.0),
    "pipeline": lambda history: history.pipelines.at("a.ipynb"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_reads_or_sorts_a_whole_table(history, question):
    succeed(history, "x", "a")

    found = plans(history, lambda: QUESTIONS[question](history))

    assert found
    # The newest runs are read off the index of their numbers, as far as they are wanted.
    by_number = "SCAN runs USING INDEX sqlite_autoindex_runs_2"
    assert [line for line in found if line.startswith("SCAN") and line not in ("SCAN names", by_number)] == []
    sorted_whole = [line for line in found if line == "USE TEMP B-TREE FOR ORDER BY"]
    # Of each step there is one latest execution, and few runs go on at a time.
    assert sorted_whole == [] or question in ("latest", "live", "lost")


@pytest.mark.slow
def test_e11_a_hundred_thousand_steps_do_not_slow_the_questions_of_a_plan(history):
    """E11: what a plan asks costs the database the same work after 2,000 runs as after a few."""
    steps = [f"s{number:02}" for number in range(50)]
    for step in steps:
        succeed(history, "x", step)

    def grow(numbers: range) -> int:
        for number in numbers:
            begin(history, f"r{number}")
            history.runs.end("x" if number == 0 else f"r{number - 1}", Status.SUCCEEDED, 200.0)
            put(history, *(reused(f"r{number}", step, "x") for step in steps))
        return work_of_a_plan(history, f"r{numbers[-1]}")

    few = grow(range(20))

    assert few > 0
    assert grow(range(20, 2000)) <= 2 * few


def test_an_outcome_without_artifacts_is_a_result_too(history):
    attempt(history, "t", "x", "a")
    bare = attempt_record("t", "x", "a", Status.SUCCEEDED, artifacts=())

    assert history.attempts.commit(
        bare, record("x", "a", artifacts=()), offers=[ReuseEntry("k", None)], claim=None, now=103.0
    )
    assert history.results.lookup(["k"])["k"].artifacts == ()
