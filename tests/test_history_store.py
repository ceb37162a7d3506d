"""Runs and steps are kept as they were told, and found again by the newest run."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_history import artifact, begin, record, reused

from nbpipe.errors import HistoryOutOfReach
from nbpipe.history.digest_cache import CachedDigest
from nbpipe.history.store import History
from nbpipe.model import Artifact, ExecutionRecord, Failure, GitState, KeyComponent, Reason, ResultOrigin, Status

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
    origin=st.none() | st.builds(ResultOrigin, PLAIN, PLAIN),
    notebook=st.none() | PLAIN,
    artifacts=st.lists(
        st.builds(Artifact, PLAIN, PLAIN, st.builds(Reference, PLAIN, PLAIN, PLAIN, COUNT)),
        max_size=3,
        unique_by=lambda made: made.name,
    ).map(tuple),
    failure=st.none() | st.builds(Failure, ANY, ANY, ANY, ANY, st.none() | COUNT, st.none() | COUNT, ANY | LONG),
    started=st.none() | SECONDS,
    ended=st.none() | SECONDS,
    notes=st.lists(ANY, max_size=3).map(tuple),
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


@contextmanager
def unprivileged() -> Iterator[None]:
    """Lose root's right to write everywhere, as long as the body lasts."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


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

    assert begun == history.run("x") == history.last_run()
    assert (begun.status, begun.started, begun.ended) == (Status.RUNNING, 100.0, None)
    assert (begun.parameters, begun.tags, begun.git, begun.owner) == tuple(given.values())


def test_the_first_ending_of_a_run_is_final(history):
    begin(history, "x")
    history.end_run("x", Status.CANCELLED, 110.0)
    history.end_run("x", Status.SUCCEEDED, 120.0)

    run = history.run("x")
    assert (run.status, run.ended) == (Status.CANCELLED, 110.0)


def test_a_run_does_not_end_as_running(history):
    with pytest.raises(ValueError, match="running"):
        history.end_run("x", Status.RUNNING, 110.0)


def test_a_run_is_found_by_id_then_number_then_unique_beginning(history):
    for run in ("ab1", "ab2", "c%d", "2"):
        begin(history, run)

    found = {text: history.run(text) for text in ("ab1", "1", "2", "3", "c", "ab", "%", "AB1", "", "99", "9" * 40, "²")}

    assert {text: run.id for text, run in found.items() if run} == {
        "ab1": "ab1",
        "1": "ab1",
        "2": "2",
        "3": "c%d",
        "c": "c%d",
    }


def test_runs_come_newest_first_and_can_be_narrowed(history):
    begin(history, "x", notebook="a.ipynb", experiment="e")
    begin(history, "y", notebook="b.ipynb", experiment="e")
    begin(history, "z", notebook="a.ipynb", experiment="f")

    assert [run.id for run in history.runs()] == ["z", "y", "x"]
    assert [run.id for run in history.runs(limit=1)] == ["z"]
    assert [run.id for run in history.runs(notebook="a.ipynb")] == ["z", "x"]
    assert [run.id for run in history.runs(experiment="e")] == ["y", "x"]
    assert history.last_run("b.ipynb").id == "y"
    assert history.last_run("c.ipynb") is None


def test_runs_are_found_by_status_tags_and_the_steps_that_ran(history):
    begin(history, "x", tags={"who": "ada", "why": 'a "test"'})
    begin(history, "y", tags={"who": "Ada"})
    begin(history, "z", tags={"who": "ada"})
    history.put_steps([record("x", "train"), record("x", "clean", position=1), record("y", "train")])
    history.put_steps([reused("z", "train", "x", attempts=0), record("z", "clean", position=1)])
    history.end_run("x", Status.FAILED, 110.0)

    def found(**wanted: Any) -> list[str]:
        return [run.id for run in history.runs(**wanted)]

    assert found(status=Status.FAILED) == ["x"]
    assert found(status=Status.RUNNING) == ["z", "y"]
    assert found(tags={"who": "ada"}) == ["z", "x"]
    assert found(tags={"who": "ada"}, limit=1) == ["z"]
    assert found(tags={"who": "ada", "why": 'a "test"'}) == ["x"]
    assert found(tags={"wh%": "ada"}) == found(tags={"who": "ad"}) == found(tags={"ada": "who"}) == []
    assert found(step="train") == ["y", "x"]
    assert found(step="clean", tags={"who": "ada"}, status=Status.RUNNING) == ["z"]
    assert history.executed_steps(["z", "y", "x"]) == {"z": ["clean"], "y": ["train"], "x": ["train", "clean"]}


# Steps


@given(records=st.lists(RECORDS, max_size=4, unique_by=lambda record: record.step))
def test_step_records_are_read_back_exactly(shared, records):
    """Whatever an author's error, code or file name holds."""
    run = f"r{next(NUMBERS)}"
    begin(shared, run)
    told = [replaced(record, run) for record in records]

    shared.put_steps(told)
    shared.put_steps(told)

    assert shared.steps(run) == sorted(told, key=lambda record: (record.position, record.step.encode()))


def replaced(step: ExecutionRecord, run: str) -> ExecutionRecord:
    return ExecutionRecord(run, **{name: getattr(step, name) for name in ExecutionRecord.__slots__ if name != "run"})


def test_steps_come_in_notebook_order(history):
    begin(history, "x")
    history.put_steps([record("x", "b", position=2), record("x", "c", position=0), record("x", "a", position=1)])

    assert names_of(history.steps("x")) == ["c", "a", "b"]
    assert history.steps("unknown") == []


def test_a_step_goes_on_until_it_has_ended_and_then_keeps_its_status(history):
    begin(history, "x")
    for status in (Status.QUEUED, Status.RUNNING, Status.FAILED, Status.SUCCEEDED, Status.QUEUED):
        history.put_steps([record("x", "a", status)])

    (step,) = history.steps("x")
    assert step == record("x", "a", Status.FAILED)
    assert history.find_output(None, None, "df") is None


def test_a_step_that_has_ended_may_be_told_again_with_more(history):
    begin(history, "x")
    history.put_steps([record("x", "a"), record("x", "b")])
    more = record("x", "a", notes=("kept",), artifacts=(artifact("other", "2"), artifact("df", "3")))
    history.put_steps([more])

    assert history.steps("x") == [more, record("x", "b")]


def test_of_two_records_of_one_step_the_later_one_counts(history):
    begin(history, "x")
    history.put_steps([record("x", "a", Status.QUEUED), record("x", "a", Status.RUNNING)])

    assert [step.status for step in history.steps("x")] == [Status.RUNNING]


def test_records_are_written_together_or_not_at_all(history):
    begin(history, "x")
    with pytest.raises(HistoryOutOfReach, match="no run unknown"):
        history.put_steps([record("x", "a"), record("unknown", "b")])
    with pytest.raises(HistoryOutOfReach):
        history.put_steps([record("x", "a"), record("x", "b", notebook="\udc80")])

    assert history.steps("x") == []


def test_equal_texts_are_stored_once(history):
    """A reused step of an unchanged notebook does not write its code again."""
    parts = (KeyComponent("code", "blake3:1", "s", "line\n" * 1000),)
    for run in ("x", "y"):
        begin(history, run, git=GitState("r", "b", "c", dirty=True, patch="patch"))
        history.put_steps([record(run, step, components=parts) for step in "abc"])

    with history._database.reading() as connection:
        (count,) = connection.exec_driver_sql("SELECT count(*) FROM texts").one()
    assert count == 3
    assert {step.components for step in history.steps("y")} == {parts}


def test_latest_steps_are_those_of_the_newest_run_in_which_each_was_done(history):
    for run, notebook in (("x", "a.ipynb"), ("y", "a.ipynb"), ("z", "b.ipynb"), ("w", "a.ipynb")):
        begin(history, run, notebook=notebook)
    history.put_steps([record("x", "a"), record("x", "b"), record("x", "gone"), record("x", "never", Status.FAILED)])
    history.put_steps([reused("y", "a", "x"), record("y", "b", Status.FAILED)])
    history.put_steps([record("z", "a"), record("z", "foreign")])
    history.put_steps([record("w", "a", Status.RUNNING), record("w", "b", Status.SKIPPED)])

    latest = history.latest_steps("a.ipynb")

    assert latest == {"a": reused("y", "a", "x"), "b": record("x", "b"), "gone": record("x", "gone")}
    assert history.latest_steps("c.ipynb") == {}


def test_an_output_comes_from_the_newest_run_that_has_it(history):
    for run, notebook in (("x", "a.ipynb"), ("y", "a.ipynb"), ("z", "b.ipynb"), ("w", "a.ipynb")):
        begin(history, run, notebook=notebook)
    history.put_steps([record("x", "a", artifacts=(artifact(content="x"), artifact("only", "x")))])
    history.put_steps([reused("y", "a", "x", artifacts=(artifact(content="y"),)), record("y", "b")])
    history.put_steps([record("z", "a", artifacts=(artifact(content="z"),))])
    history.put_steps([record("w", "a", Status.FAILED)])

    assert history.find_output("a.ipynb", "a", "df") == artifact(content="y")
    assert history.find_output("a.ipynb", None, "only") == artifact("only", "x")
    assert history.find_output(None, "a", "df") == artifact(content="z")
    assert history.find_output(None, None, "df") == artifact(content="z")
    assert history.find_output("a.ipynb", "a", "unknown") is None
    assert history.find_output("b.ipynb", "b", "df") is None


# Remembered digests


def test_what_is_remembered_last_is_recalled(history):
    old = CachedDigest("/d/a b", 2**64 - 1, 2**64 - 1, 2**62, 1, 2, "blake3:1")
    new = CachedDigest("/d/a b", 5, 6, 7, 8, 9, "blake3:2")
    history.remember([old])
    assert history.recall(["/d/a b", "/d/other"]) == {"/d/a b": old}

    history.remember([old, new])
    assert history.recall(["/d/a b"]) == {"/d/a b": new}


def test_many_files_are_recalled_at_once(history):
    entries = [CachedDigest(f"/d/{number}", 1, number, 1, 1, 1, "blake3:1") for number in range(5000)]
    history.remember(entries)
    history.remember([])

    assert history.recall([entry.path for entry in entries]) == {entry.path: entry for entry in entries}
    assert history.recall([]) == {}


def test_a_file_name_that_is_no_text_is_not_remembered(history):
    """Such a file is read again each time, which is slow and never wrong."""
    history.remember([CachedDigest("/d/\udcff", 1, 1, 1, 1, 1, "blake3:1")])

    assert history.recall(["/d/\udcff"]) == {}


# Opening


def test_the_file_is_made_with_its_folders_whatever_they_are_called(tmp_path):
    path = tmp_path / "a ?#%20 ü" / "deep" / "history.db"
    with History.open(path) as history:
        begin(history, "x")

    assert path.is_file()
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["history.db"]


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / "history.db"
    path.write_bytes(b"no database " * 1000)

    with pytest.raises(HistoryOutOfReach, match="damaged") as caught:
        History.open(path)
    assert str(path) in caught.value.message
    assert "verify --repair" in caught.value.hint


def test_damage_found_later_is_told_in_the_same_way(tmp_path):
    path = tmp_path / "history.db"
    with History.open(path) as history:
        for number in range(200):
            begin(history, f"run{number}", parameters={"text": "x" * 200})
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(HistoryOutOfReach, match="damaged"), History.open(path) as history:
        history.runs()


def test_a_history_of_a_newer_nbpipe_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "history.db"
    History.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
        connection.commit()
    before = path.read_bytes()

    with pytest.raises(HistoryOutOfReach, match="newer nbpipe") as caught:
        History.open(path)
    assert "Upgrade" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("statement", ["CREATE TABLE songs (name TEXT)", "CREATE TABLE meta (name TEXT, value TEXT)"])
def test_another_programs_database_is_refused(tmp_path, statement):
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()

    with pytest.raises(HistoryOutOfReach, match="not a history"):
        History.open(path)


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
def test_a_read_only_history_is_refused(tmp_path, folder_mode):
    """Before anything is planned with it, also where only the file itself may not be written."""
    folder = tmp_path / "w"
    path = folder / "history.db"
    History.open(path).close()
    path.chmod(0o444)
    folder.chmod(folder_mode)
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(0o755)

    with unprivileged(), pytest.raises(HistoryOutOfReach, match=r"read-only|cannot be opened"):
        History.open(path)
    folder.chmod(0o755)


def test_opening_waits_for_whoever_makes_the_file(tmp_path):
    """SQLite itself does not wait when the mode of a new file is changed."""
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor() as pool:
        other.execute("BEGIN IMMEDIATE")
        opened = pool.submit(History.open, path)
        with pytest.raises(TimeoutError):
            opened.result(0.3)
        other.execute("COMMIT")
        opened.result(10).close()


def test_a_place_that_cannot_hold_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "file" / "history.db", tmp_path / "folder"):
        with pytest.raises(HistoryOutOfReach, match="cannot be opened"):
            History.open(path)


@pytest.mark.parametrize("shared, journal", [(True, "wal"), (False, "delete")])
def test_a_file_in_shared_memory_is_logged_ahead(tmp_path, shared, journal):
    """Readers then never wait for writers."""
    opened = History.open(tmp_path / "history.db", shares_memory=shared)
    with opened as history, history._database.reading() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()

    assert mode == journal
