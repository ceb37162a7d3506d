"""Results are kept beside their bytes: a history that was lost is made again from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sample_history import (
    artifact,
    attempt,
    attempt_record,
    begin,
    everyone,
    nobody,
    pipeline,
    put,
    record,
    reused,
    succeed,
)

from nbpipe.history.claims import Claim
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.rebuild_archive import (
    ArchivedResult,
    ArchivedRun,
    ArchiveRepository,
    archive_text,
    read_archived_result,
    read_archived_run,
)
from nbpipe.history.results import ReuseEntry
from nbpipe.history.store import History
from nbpipe.model import GitState, Observation, ObservationKind, PipelineRecord, RunSnapshot, Status

OBSERVED = (Observation(ObservationKind.READ, "f.csv", "blake3:1"),)


@pytest.fixture
def lost(tmp_path: Path) -> Iterator[History]:
    """Return a history with two runs of a pipeline, the second with a result that it has reused."""
    with History.open(tmp_path / "lost.db") as opened:
        git = GitState("https://host/repo", "main", "abc", dirty=True, patch="+ ä\n")
        begin(opened, "x", git=git, parameters={"lr": 0.1}, tags={"k": "v"})
        succeed(opened, "x", "a", content="x", observed=OBSERVED)
        succeed(opened, "x", "b")
        opened.runs.end("x", Status.SUCCEEDED, 110.0)
        begin(opened, "y", notebook="a.ipynb", now=120.0)
        succeed(opened, "y", "a", content="y")
        put(opened, reused("y", "b", "x"))
        opened.runs.end("y", Status.FAILED, 130.0)
        yield opened


@pytest.fixture
def anew(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / "anew.db") as opened:
        yield opened


def archived_results(history: History) -> list[ArchivedResult]:
    """Return what the folders of the attempts hold, read back from text."""
    found = []
    for run in history.runs.newest():
        for execution in history.executions.all_of_run(run.id):
            for made in history.attempts.of_execution(execution.id):
                observed = OBSERVED if made.id == "x-a" else ()
                offers = tuple(
                    ReuseEntry(f"{kind}-{execution.step}", f"static-{execution.step}", observed)
                    for kind in ("key", "raw")
                )
                result = ArchivedResult(execution, made, offers, 102.5 if run.id == "x" else 122.5)
                found.append(read_archived_result(archive_text(result)))
    return found


def archived_runs(history: History) -> dict[str, ArchivedRun]:
    """Return what the folders of the runs hold, read back from text."""
    archived = (ArchivedRun(run, pipeline()) for run in history.runs.newest())
    return {each.run.id: read_archived_run(archive_text(each)) for each in archived}


def test_a_lost_history_is_made_again(lost, anew):
    """In whatever order the files are found."""
    results = archived_results(lost)[::-1]

    assert ArchiveRepository(anew.database).restore(results, archived_runs(lost)) == 3

    assert anew.runs.newest() == lost.runs.newest()
    assert anew.pipelines.all() == [pipeline()]
    assert anew.executions.of_run("x") == lost.executions.of_run("x")
    # What a run has reused is told by the run that made it.
    assert [each.step for each in anew.executions.of_run("y")] == ["a"]
    keys = ["key-a", "raw-a", "key-b", "raw-b"]
    assert anew.results.lookup(keys) == lost.results.lookup(keys)
    assert anew.results.candidates("key-a") == lost.results.candidates("key-a")
    assert anew.results.static_known(["static-a", "static-c"]) == {"static-a"}
    latest, before = anew.executions.latest(pipeline().id), lost.executions.latest(pipeline().id)
    assert (latest["a"], latest["b"].run) == (before["a"], "x")
    assert anew.attempts.of_execution("x/a") == lost.attempts.of_execution("x/a")
    assert (
        ArchiveRepository(anew.database).known_attempts()
        == ArchiveRepository(lost.database).known_attempts()
        == {"x-a", "x-b", "y-a"}
    )
    assert InspectionRepository(anew.database).damage() == []


def test_what_was_restored_is_told_by_the_log(lost, anew):
    ArchiveRepository(anew.database).restore(archived_results(lost), archived_runs(lost))

    picture = RunSnapshot()
    picture.take(anew.log.read("x"))

    assert (picture.status, picture.ended) == (Status.SUCCEEDED, 110.0)
    assert [each.step for each in picture.current()] == ["a", "b"]
    assert set(picture.attempts) == {"x-a", "x-b"}


def test_what_is_there_already_is_not_restored_twice(lost, anew):
    results, runs = archived_results(lost), archived_runs(lost)
    assert ArchiveRepository(anew.database).restore(results[:1], runs) == 1
    assert ArchiveRepository(anew.database).restore(results, runs) == 2
    assert ArchiveRepository(anew.database).restore([*results, *results], runs) == 0
    assert ArchiveRepository(lost.database).restore(results, runs) == 0
    assert len(anew.results.candidates("key-a")) == 2


def test_numbers_and_tokens_go_on_after_those_that_were_restored(lost, anew):
    results = [replace(each, attempt=replace(each.attempt, token=40)) for each in archived_results(lost)]
    ArchiveRepository(anew.database).restore(results, archived_runs(lost))

    assert begin(anew, "z").number == 3
    claim = anew.claims.claim("k", owner="me", now=1.0, lease=1.0, alive=everyone)
    assert isinstance(claim, Claim)
    assert claim.token > 40


def test_a_number_that_somebody_has_taken_meanwhile_stays_theirs(lost, anew):
    begin(anew, "new")
    ArchiveRepository(anew.database).restore(archived_results(lost), archived_runs(lost))

    assert {run.id: run.number for run in anew.runs.newest()} == {"new": 1, "x": 2, "y": 3}
    assert begin(anew, "z").number == 4


def test_results_whose_run_is_gone_are_kept_under_a_run_that_is_lost(lost, anew):
    assert ArchiveRepository(anew.database).restore(archived_results(lost), {}) == 3

    for run in anew.runs.newest():
        assert (run.status, run.notebook) == (Status.LOST, "")
        assert run.number in (1, 2)
    assert {each.attempt for each in anew.results.lookup(["key-a", "key-b"]).values()} == {"y-a", "x-b"}
    assert anew.executions.latest(pipeline().id) == {}
    assert anew.pipelines.at("a.ipynb") is None
    assert InspectionRepository(anew.database).damage() == []


def test_a_run_that_went_on_when_it_was_archived_is_lost(lost, anew):
    runs = {
        name: replace(each, run=replace(each.run, status=Status.RUNNING, ended=None))
        for name, each in archived_runs(lost).items()
    }
    ArchiveRepository(anew.database).restore(archived_results(lost), runs)

    assert {(run.status, run.ended) for run in anew.runs.newest()} == {(Status.LOST, 102.5), (Status.LOST, 122.5)}
    assert anew.lost_runs.mark_lost(alive=nobody, now=1.0) == []


def test_of_two_executions_of_a_step_in_a_run_the_newest_is_current(anew):
    """The archived record of the first is from before it was replaced."""
    run = ArchivedRun(begin(anew, "x"), pipeline())
    results = [
        ArchivedResult(
            record("r", "a", id=f"r/a{number}", ended=100.0 + number, artifacts=(artifact(content=str(number)),)),
            attempt_record(f"t{number}", "r", "a", Status.SUCCEEDED, execution=f"r/a{number}"), (), 100.0 + number,
        )
        for number in (1, 2, 3)
    ]  # fmt: skip
    runs = {"r": replace(run, run=replace(run.run, id="r", number=7, status=Status.SUCCEEDED))}

    assert ArchiveRepository(anew.database).restore([results[0], results[2]], runs) == 2
    # Found later, though it was made in between.
    assert ArchiveRepository(anew.database).restore([results[1]], runs) == 1

    assert [each.id for each in anew.executions.of_run("r")] == ["r/a3"]
    assert anew.executions.find_output(pipeline().id, "a", "df") == artifact(content="3")
    assert sorted(each.id for each in anew.executions.all_of_run("r")) == ["r/a1", "r/a2", "r/a3"]
    picture = RunSnapshot()
    picture.take(anew.log.read("r"))
    assert [each.id for each in picture.current()] == ["r/a3"]


def test_restoring_an_old_run_does_not_move_its_pipeline_back(lost, anew):
    now = PipelineRecord(pipeline().id, "sub/renamed.ipynb")
    begin(anew, "z", pipeline=now, now=500.0)

    ArchiveRepository(anew.database).restore(archived_results(lost), archived_runs(lost))

    assert anew.pipelines.all() == [now]


def test_where_all_was_lost_a_pipeline_is_where_its_newest_run_saw_it(lost, anew):
    runs = archived_runs(lost)
    moved = PipelineRecord(pipeline().id, "sub/renamed.ipynb")
    runs["y"] = replace(runs["y"], pipeline=moved, run=replace(runs["y"].run, notebook=moved.notebook))

    ArchiveRepository(anew.database).restore(archived_results(lost), runs)

    assert anew.pipelines.all() == [moved]


def test_a_result_of_an_execution_that_has_ended_otherwise_stays_away(lost):
    attempt(lost, "late", "y", "c")
    put(lost, record("y", "c", Status.CANCELLED))
    late = ArchivedResult(record("y", "c"), attempt_record("other", "y", "c", Status.SUCCEEDED), (), 140.0)

    assert ArchiveRepository(lost.database).restore([late], archived_runs(lost)) == 0


@pytest.mark.parametrize("text", ["", "{}", "null", '{"version": 2}', "no json"])
def test_what_is_no_archived_text_of_ours_is_a_value_error(text):
    for read in (read_archived_run, read_archived_result):
        with pytest.raises(ValueError, match=r"."):
            read(text)


def test_an_archived_text_of_another_version_is_a_value_error(lost):
    (first, *_), run = archived_results(lost), archived_runs(lost)["x"]
    for text, read in ((archive_text(first), read_archived_result), (archive_text(run), read_archived_run)):
        read(text)
        with pytest.raises(ValueError, match="version"):
            read(text.replace('"version":1', '"version":2'))
