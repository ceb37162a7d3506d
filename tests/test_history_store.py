"""Runs and executions are kept as they were told, and found again by the newest run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_history import artifact, begin, nobody, pipeline, put, record, reused, succeed

from nbpipe.errors import HistoryDamaged, HistoryOutOfReach
from nbpipe.history.attempts import RunChanges
from nbpipe.history.column_types import leads_inside
from nbpipe.history.digest_cache import CachedDigest
from nbpipe.history.runs import CancelRequests, RunFilter
from nbpipe.history.store import History
from nbpipe.model import (
    Artifact,
    ExecutionRecord,
    Failure,
    FailureKind,
    GitState,
    KeyComponent,
    ObjectReference,
    Observation,
    ObservationKind,
    PipelineRecord,
    Reason,
    ResultOrigin,
    Status,
)

NUMBERS = count()
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Two lone surrogates in a row may be read back as the one character that they spell.
ANY = st.text(st.characters(exclude_categories=[], max_codepoint=0xDBFF) | st.characters(), max_size=20).filter(
    lambda text: not any("\udc00" <= character <= "\udfff" for character in text)
)
LONG = ANY.map(lambda text: text * 300)
COUNT = st.integers(0, 2**62)
SECONDS = st.floats(0, 1e12)
RECORDS = st.builds(
    ExecutionRecord,
    id=st.just("e"),
    run=st.just("r"),
    step=PLAIN,
    position=COUNT,
    status=st.sampled_from(Status),
    attempts=COUNT,
    seconds=SECONDS,
    saved_seconds=SECONDS,
    reasons=st.lists(st.builds(Reason, ANY, st.none() | ANY, st.none() | ANY), max_size=3).map(tuple),
    components=st.lists(st.builds(KeyComponent, ANY, ANY, ANY, ANY | LONG), max_size=3).map(tuple),
    key=st.none() | PLAIN,
    origin=st.none() | st.builds(ResultOrigin, PLAIN, PLAIN, PLAIN),
    notebook=st.none() | PLAIN.filter(leads_inside),
    artifacts=st.lists(
        st.builds(Artifact, PLAIN, PLAIN, st.builds(ObjectReference, PLAIN, PLAIN, PLAIN, COUNT)),
        max_size=3,
        unique_by=lambda made: made.name,
    ).map(tuple),
    failure=st.none()
    | st.builds(Failure, st.sampled_from(FailureKind), ANY, ANY, ANY, st.none() | COUNT, st.none() | COUNT, ANY | LONG),
    started=st.none() | SECONDS,
    ended=st.none() | SECONDS,
    notes=st.lists(ANY, max_size=3).map(tuple),
    observed=st.lists(st.builds(Observation, st.sampled_from(ObservationKind), ANY, ANY, ANY), max_size=3).map(tuple),
    written=st.lists(ANY, max_size=3).map(tuple),
    needs=st.lists(ANY, max_size=3).map(tuple),
    current=st.booleans(),
)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / "history.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """One history for all examples of a property."""
    with History.open(tmp_path_factory.mktemp("shared") / "history.db") as opened:
        yield opened


def names_of(records: list[ExecutionRecord]) -> list[str]:
    return [record.step for record in records]


# Runs


def test_runs_are_numbered_from_one_and_the_count_survives_closing(tmp_path):
    with History.open(tmp_path / "history.db") as history:
        assert [begin(history, run).number for run in ("x", "y")] == [1, 2]
    with History.open(tmp_path / "history.db") as history:
        assert begin(history, "z").number == 3


def test_a_run_is_read_back_as_it_was_begun(history):
    git = GitState("https://host/repo", "main", "abc", dirty=True, patch="+ änderung\n" * 500)
    given = {
        "parameters": {"lr": 0.1, "deep": {"a": [1, None, True]}},
        "tags": {"k": "v"},
        "git": git,
        "owner": "host/1",
    }

    begun = begin(history, "x", experiment="e", **given)

    assert begun == history.runs.get("x") == history.runs.last()
    assert (begun.status, begun.started, begun.ended) == (Status.RUNNING, 100.0, None)
    assert (begun.parameters, begun.tags, begun.git, begun.owner) == tuple(given.values())


def test_the_first_ending_of_a_run_is_final(history):
    begin(history, "x")
    history.runs.end("x", Status.CANCELLED, 110.0)
    history.runs.end("x", Status.SUCCEEDED, 120.0)

    run = history.runs.get("x")
    assert (run.status, run.ended) == (Status.CANCELLED, 110.0)


def test_a_run_does_not_end_as_running(history):
    with pytest.raises(ValueError, match="running"):
        history.runs.end("x", Status.RUNNING, 110.0)


def test_a_run_is_found_by_id_then_number_then_unique_beginning(history):
    for run in ("ab1", "ab2", "c%d", "2"):
        begin(history, run)

    found = {
        text: history.runs.get(text) for text in ("ab1", "1", "2", "3", "c", "ab", "%", "AB1", "", "99", "9" * 40, "²")
    }

    assert {text: run.id for text, run in found.items() if run} == {
        "ab1": "ab1",
        "1": "ab1",
        "2": "2",
        "3": "c%d",
        "c": "c%d",
    }


def test_a_name_that_is_no_text_is_refused_and_no_damage(history):
    for asked in (history.runs.get, lambda name: history.executions.of_step("x", name)):
        with pytest.raises(HistoryOutOfReach, match="could not be read or written") as caught:
            asked("\udc80")
        assert not isinstance(caught.value, HistoryDamaged)


def test_what_nbpipe_never_wrote_is_damage_also_where_something_is_written(history):
    begin(history, "x")
    put(history, record("x", "a", Status.RUNNING))
    with history.database.writing() as connection:
        connection.exec_driver_sql("UPDATE executions SET reasons = 'no json'")

    with pytest.raises(HistoryDamaged, match="did not write"):
        history.executions.of_run("x")
    with pytest.raises(HistoryDamaged, match="did not write"):
        history.lost_runs.mark_lost(alive=nobody, now=1.0)


def test_an_origin_that_is_recorded_in_part_is_damage(history):
    begin(history, "x")
    put(history, record("x", "a", Status.RUNNING))
    with history.database.writing() as connection:
        connection.exec_driver_sql("UPDATE executions SET origin_run = '1e+300'")

    with pytest.raises(HistoryDamaged, match="did not write"):
        history.executions.of_run("x")


def test_two_first_runs_of_a_notebook_at_once_are_runs_of_one_pipeline(history):
    """Each has looked for the notebook's pipeline before the other one began."""
    first = begin(history, "x", pipeline=PipelineRecord("one", "a.ipynb", frozenset({"c"})))
    second = begin(history, "y", pipeline=PipelineRecord("two", "a.ipynb", frozenset({"c", "d"})))

    assert (first.pipeline, second.pipeline) == ("one", "one")
    assert history.pipelines.all() == [PipelineRecord("one", "a.ipynb", frozenset({"c", "d"}))]


def test_a_run_keeps_where_its_pipeline_lay_and_the_pipeline_where_it_was_seen_last(history):
    was = PipelineRecord("p", "old.ipynb", frozenset({"c1"}), frozenset({"a"}))
    now = PipelineRecord("p", "sub/new.ipynb", frozenset({"c1", "c2"}), frozenset({"a", "b"}))
    begin(history, "x", pipeline=was)
    assert (history.pipelines.at("old.ipynb"), history.pipelines.all()) == (was, [was])

    begin(history, "y", pipeline=now)

    assert (history.pipelines.at("old.ipynb"), history.pipelines.at("sub/new.ipynb")) == (None, now)
    assert history.pipelines.all() == [now]
    assert [run.notebook for run in history.runs.newest()] == ["sub/new.ipynb", "old.ipynb"]
    assert [run.id for run in history.runs.newest(wanted=RunFilter("p"))] == ["y", "x"]


def test_runs_are_narrowed_by_status_step_and_tags(history):
    """A tag's text may hold what looks like the end of another tag's."""
    begin(history, "x", tags={"k": "v", "n": "1"})
    begin(history, "y", tags={"k": "w"})
    begin(history, "z", tags={'x"k': "v", "z": '"k":"v"', "t": "{", "u": ',"k":"v"'})
    put(history, record("x", "a"), record("y", "b"))
    history.runs.end("y", Status.FAILED, 110.0)

    def found(**wanted: Any) -> list[str]:
        return [run.id for run in history.runs.newest(wanted=RunFilter(**wanted))]

    assert found(status=Status.FAILED) == ["y"]
    assert found(step="a") == ["x"]
    assert found(tags={"k": "v"}) == ["x"]
    assert found(tags={"n": "1", "k": "v"}) == ["x"]
    assert found(tags={'x"k': "v"}) == ["z"]
    assert found(tags={"k": "v", "n": "2"}) == []
    assert [run.id for run in history.runs.live(pipeline().id)] == ["x", "z"]
    assert [history.runs.status(run) for run in ("x", "y", "no")] == [Status.RUNNING, Status.FAILED, None]
    assert history.runs.numbers(["z", "x", "no"]) == {"z": 3, "x": 1}


def test_what_shall_stop_is_the_run_or_some_of_its_executions(history):
    begin(history, "x")
    put(history, record("x", "a", Status.RUNNING), record("x", "b", Status.RUNNING))
    assert history.runs.cancel_requests("x") == CancelRequests()

    history.executions.ask_cancel("x/b", 101.0)
    assert history.runs.cancel_requests("x") == CancelRequests(executions=frozenset({"x/b"}))

    history.runs.ask_cancel("x", 102.0)
    assert history.runs.cancel_requests("x") == CancelRequests(whole=True, executions=frozenset({"x/b"}))


def test_runs_come_newest_first_and_can_be_narrowed(history):
    begin(history, "x", notebook="a.ipynb", experiment="e")
    begin(history, "y", notebook="b.ipynb", experiment="e")
    begin(history, "z", notebook="a.ipynb", experiment="f")

    assert [run.id for run in history.runs.newest()] == ["z", "y", "x"]
    assert [run.id for run in history.runs.newest(limit=1)] == ["z"]
    assert [run.id for run in history.runs.newest(wanted=RunFilter(pipeline().id))] == ["z", "x"]
    assert [run.id for run in history.runs.newest(wanted=RunFilter(experiment="e"))] == ["y", "x"]
    assert history.runs.last(pipeline("b.ipynb").id).id == "y"
    assert history.runs.last(pipeline("c.ipynb").id) is None


# Steps


@given(records=st.lists(RECORDS, max_size=4, unique_by=lambda record: record.step))
def test_step_records_are_read_back_exactly(shared, records):
    """Whatever an author's error, code or file name holds."""
    run = f"r{next(NUMBERS)}"
    begin(shared, run)
    told = [replace(record, id=f"{run}/{number}", run=run) for number, record in enumerate(records)]

    shared.attempts.record(run, RunChanges(executions=told), 1.0)
    shared.attempts.record(run, RunChanges(executions=told), 2.0)

    assert shared.executions.all_of_run(run) == sorted(told, key=lambda record: (record.position, record.step.encode()))


def test_steps_come_in_notebook_order(history):
    begin(history, "x")
    put(history, record("x", "b", position=2), record("x", "c", position=0), record("x", "a", position=1))

    assert names_of(history.executions.of_run("x")) == ["c", "a", "b"]
    assert history.executions.of_run("unknown") == []


def test_a_step_goes_on_until_it_has_ended_and_then_keeps_its_status(history):
    begin(history, "x")
    for status in (Status.QUEUED, Status.RUNNING, Status.FAILED, Status.SUCCEEDED, Status.QUEUED):
        put(history, record("x", "a", status))

    (step,) = history.executions.of_run("x")
    assert step == record("x", "a", Status.FAILED)
    assert history.executions.find_output(None, None, "df") is None


def test_a_step_that_has_ended_may_be_told_again_with_more(history):
    begin(history, "x")
    put(history, record("x", "a"), record("x", "b"))
    more = record("x", "a", notes=("kept",), artifacts=(artifact("other", "2"), artifact("df", "3")))
    put(history, more)

    assert history.executions.of_run("x") == [more, record("x", "b")]


def replace_in_run(history: History, old: ExecutionRecord, new: ExecutionRecord) -> None:
    """Let a newer execution stand for a step of its run."""
    history.attempts.record(new.run, RunChanges(executions=[new], superseded=[old.id]), 103.0)


def test_a_step_has_one_current_execution_and_any_number_that_it_has_replaced(history):
    begin(history, "x")
    first = record("x", "a", observed=(Observation(ObservationKind.READ, "f", "1"),))
    second, third = (record("x", "a", Status.QUEUED, id=name, artifacts=()) for name in ("x/a2", "x/a3"))
    put(history, first, record("x", "b", position=1))
    replace_in_run(history, first, second)
    replace_in_run(history, second, third)

    assert [each.id for each in history.executions.of_run("x")] == ["x/a3", "x/b"]
    assert history.executions.of_step("x", "a") == third
    assert history.executions.tried_in(["x"]) == {"x": ["a", "b"]}
    assert sorted(each.id for each in history.executions.all_of_run("x")) == ["x/a", "x/a2", "x/a3", "x/b"]
    # All that was known of it stays known.
    assert history.executions.get(["x/a", "x/a2", "no"]) == [
        replace(first, current=False),
        replace(second, current=False),
    ]


def test_what_was_replaced_stays_replaced_whatever_is_told_of_it_later(history):
    begin(history, "x")
    old, new = record("x", "a", Status.RUNNING), record("x", "a", Status.QUEUED, id="x/a2")
    put(history, old)
    replace_in_run(history, old, new)
    put(history, record("x", "a"))

    assert history.executions.of_step("x", "a") == new
    assert history.executions.get(["x/a"]) == [record("x", "a", current=False)]
    assert history.executions.latest(pipeline().id) == {}
    assert history.executions.find_output(None, None, "df") is None
    before = len(history.log.read("x"))
    history.attempts.record("x", RunChanges(superseded=["x/a"]), 104.0)
    assert len(history.log.read("x")) == before


def test_what_was_replaced_is_no_result_of_its_run_any_more(history):
    """The newest run in which the step has its outputs is an earlier one then."""
    begin(history, "x")
    begin(history, "y")
    succeed(history, "x", "a", content="x")
    succeed(history, "y", "a", content="y")
    replace_in_run(history, record("y", "a"), record("y", "a", Status.FAILED, id="y/a2"))

    assert history.executions.latest(pipeline().id)["a"].run == "x"
    assert [each.run for each in history.executions.recent(pipeline().id, "a", 5)] == ["x"]
    assert history.executions.find_output(pipeline().id, "a", "df") == artifact(content="x")
    assert history.executions.find_output(None, None, "df") == artifact(content="x")
    assert history.results.newest_result(pipeline().id, "a").attempt == "x-a"
    # By content it may be reused all the same.
    assert history.results.lookup(["key-a"])["key-a"].attempt == "y-a"


def test_of_two_records_of_one_step_the_later_one_counts(history):
    begin(history, "x")
    put(history, record("x", "a", Status.QUEUED), record("x", "a", Status.RUNNING))

    assert [step.status for step in history.executions.of_run("x")] == [Status.RUNNING]


def test_records_are_written_together_or_not_at_all(history):
    begin(history, "x")
    with pytest.raises(HistoryOutOfReach, match="no run unknown"):
        put(history, record("x", "a"), record("unknown", "b"))
    with pytest.raises(HistoryOutOfReach):
        put(history, record("x", "a"), record("x", "b", notebook="\udc80"))

    assert history.executions.of_run("x") == []


def test_equal_texts_are_stored_once(history):
    """A reused step of an unchanged notebook does not write its code again."""
    parts = (KeyComponent("code", "blake3:1", "s", "line\n" * 1000),)
    for run in ("x", "y"):
        begin(history, run, git=GitState("r", "b", "c", dirty=True, patch="patch"))
        put(history, *(record(run, step, components=parts) for step in "abc"))

    with history.database.reading() as connection:
        (count,) = connection.exec_driver_sql("SELECT count(*) FROM texts").one()
    assert count == 3
    assert {step.components for step in history.executions.of_run("y")} == {parts}


def test_latest_steps_are_those_of_the_newest_run_in_which_each_was_done(history):
    for run, notebook in (("x", "a.ipynb"), ("y", "a.ipynb"), ("z", "b.ipynb"), ("w", "a.ipynb")):
        begin(history, run, notebook=notebook)
    put(history, record("x", "a"), record("x", "b"), record("x", "gone"), record("x", "never", Status.FAILED))
    put(history, reused("y", "a", "x"), record("y", "b", Status.FAILED))
    put(history, record("z", "a"), record("z", "foreign"))
    put(history, record("w", "a", Status.RUNNING), record("w", "b", Status.SKIPPED))

    latest = history.executions.latest(pipeline().id)

    assert latest == {"a": reused("y", "a", "x"), "b": record("x", "b"), "gone": record("x", "gone")}
    assert history.executions.latest(pipeline("c.ipynb").id) == {}


def test_the_newest_execution_of_a_step_is_found_however_many_runs_came_after_it(history):
    begin(history, "x", notebook="a.ipynb")
    put(history, record("x", "c", Status.FAILED, notebook="runs/x/c.ipynb"))
    for number in range(60):
        begin(history, f"later{number}", notebook="a.ipynb")
        put(history, record(f"later{number}", "other", notebook="o.ipynb"))
    begin(history, "y", notebook="a.ipynb")
    put(history, record("y", "c", Status.SKIPPED, notebook=None))

    executed = history.executions.newest_executed(pipeline().id, "c")
    newest = history.executions.newest_of_step(pipeline().id, "c")

    assert (executed.run, executed.status) == ("x", Status.FAILED)
    assert (newest.run, newest.status) == ("y", Status.SKIPPED)
    assert history.executions.newest_of_step(pipeline().id, "unknown") is None


def test_an_output_comes_from_the_newest_run_that_has_it(history):
    for run, notebook in (("x", "a.ipynb"), ("y", "a.ipynb"), ("z", "b.ipynb"), ("w", "a.ipynb")):
        begin(history, run, notebook=notebook)
    put(history, record("x", "a", artifacts=(artifact(content="x"), artifact("only", "x"))))
    put(history, reused("y", "a", "x", artifacts=(artifact(content="y"),)), record("y", "b"))
    put(history, record("z", "a", artifacts=(artifact(content="z"),)))
    put(history, record("w", "a", Status.FAILED))

    assert history.executions.find_output(pipeline().id, "a", "df") == artifact(content="y")
    assert history.executions.find_output(pipeline().id, None, "only") == artifact("only", "x")
    assert history.executions.find_output(None, "a", "df") == artifact(content="z")
    assert history.executions.find_output(None, None, "df") == artifact(content="z")
    assert history.executions.find_output(pipeline().id, "a", "unknown") is None
    assert history.executions.find_output(pipeline("b.ipynb").id, "b", "df") is None


# Remembered digests


def test_what_is_remembered_last_is_recalled(history):
    old = CachedDigest("/d/a b", 2**64 - 1, 2**64 - 1, 2**62, 1, 2, "blake3:1")
    new = CachedDigest("/d/a b", 5, 6, 7, 8, 9, "blake3:2")
    history.digests.remember([old])
    assert history.digests.recall(["/d/a b", "/d/other"]) == {"/d/a b": old}

    history.digests.remember([old, new])
    assert history.digests.recall(["/d/a b"]) == {"/d/a b": new}


def test_many_files_are_recalled_at_once(history):
    entries = [CachedDigest(f"/d/{number}", 1, number, 1, 1, 1, "blake3:1") for number in range(5000)]
    history.digests.remember(entries)
    history.digests.remember([])

    assert history.digests.recall([entry.path for entry in entries]) == {entry.path: entry for entry in entries}
    assert history.digests.recall([]) == {}


def test_a_file_name_that_is_no_text_is_not_remembered(history):
    """Such a file is read again each time, which is slow and never wrong."""
    history.digests.remember([CachedDigest("/d/\udcff", 1, 1, 1, 1, 1, "blake3:1")])

    assert history.digests.recall(["/d/\udcff"]) == {}
