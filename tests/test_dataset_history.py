"""Versions of datasets in the history: numbered once, found by number and label, restored when the database is lost."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from sample_datasets import draft
from sample_history import artifact, attempt, attempt_record, begin, commit, end, record

from nbpipe.errors import HistoryDamaged
from nbpipe.history.attempts import RunChanges
from nbpipe.history.store import History
from nbpipe.model import ObjectReference, Status
from nbpipe.model.datasets import (
    Column,
    ColumnProfile,
    DatasetKind,
    DatasetRecipe,
    DatasetReference,
    RecipeKind,
    TableProfile,
    parse_reference,
)
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.dataset_archive import keep_labels, keep_version
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace


@pytest.fixture
def history(tmp_path):
    with History.open(tmp_path / "history.db") as opened:
        yield opened


def test_new_content_is_a_new_version_and_known_content_its_old_one(history):
    first = history.datasets.register(draft(content="1"))
    second = history.datasets.register(draft(content="2"))
    again = history.datasets.register(draft(content="1", created=9.0))

    assert (str(first), str(second)) == ("labels@1", "labels@2")
    assert again == first


def test_the_same_bytes_read_in_another_way_are_another_version(history):
    table = DatasetRecipe(RecipeKind.DELIMITED, types={"a": "int8"})
    numbers = [history.datasets.register(draft(recipe=recipe)).number for recipe in (table, replace(table, types={}))]

    assert numbers == [1, 2]


def test_registrations_at_once_get_a_number_each(tmp_path):
    path = tmp_path / "history.db"
    History.open(path).close()

    def register(number: int) -> int:
        with History.open(path) as opened:
            return opened.datasets.register(draft(content=str(number % 4))).number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(register, range(16)))

    assert sorted(set(numbers)) == [1, 2, 3, 4]
    assert all(numbers[number] == numbers[number % 4] for number in range(16))


def test_versions_are_found_by_number_label_and_age(history):
    for content in "123":
        history.datasets.register(draft(content=content))
    history.datasets.label("labels", 1, "golden")
    history.datasets.label("labels", 2, "golden")

    found = [history.datasets.find(parse_reference(f"labels{each}")) for each in ("", "@1", "@golden", "@9", "@none")]
    assert [version and version.number for version in found] == [3, 1, 2, None, None]
    assert history.datasets.labels() == {"labels": {"golden": 2}}
    assert [str(version) for version in history.datasets.newest()] == ["labels@3"]


@pytest.mark.parametrize("text", ["", "@3", "a b", "../x", "a@", "a@0", "a@-1", "a@b c", "a/b", "ä"])
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(ValueError, match=r"not the name|neither"):
        parse_reference(text)


def test_a_version_comes_into_being_with_the_commit_and_is_named_by_its_output(history):
    begin(history, "x")
    attempt(history, "t", "x", "a")
    done = record("x", "a", artifacts=(artifact(),))

    committed = history.attempts.commit(
        attempt_record("t", "x", "a", Status.SUCCEEDED), done, offers=(), claim=None, now=102.5,
        registrations={"df": draft("frames")},
    )  # fmt: skip

    assert committed
    assert history.executions.of_step("x", "a").artifacts[0].dataset == "frames@1"
    assert str(history.datasets.find(DatasetReference("frames"))) == "frames@1"


def test_an_attempt_that_comes_too_late_registers_nothing(history):
    begin(history, "x")
    attempt(history, "t", "x", "a")
    end(history, "t", "x", "a", Status.FAILED)

    committed = history.attempts.commit(
        attempt_record("t", "x", "a", Status.SUCCEEDED), record("x", "a"), offers=(), claim=None, now=102.5,
        registrations={"df": draft("frames")},
    )  # fmt: skip

    assert not committed
    assert history.datasets.names() == []


def test_a_version_tells_who_read_it(history):
    begin(history, "x")
    attempt(history, "t", "x", "a")
    history.datasets.register(draft())
    version = history.datasets.find(DatasetReference("labels"))
    begin(history, "y")
    history.attempts.record("y", _read_by("y", "labels@1"), 103.0)
    begin(history, "z")
    history.attempts.record("z", _read_by("z", "labels@11"), 103.0)

    assert history.datasets.readers(version) == [(2, "b")]
    commit(history, "t", "x", "a")


def _read_by(run: str, version: str):
    return RunChanges(executions=[record(run, "b", datasets={"raw": version})])


def test_a_pinned_version_is_kept_under_its_number(history):
    referenced = draft()
    content = replace(referenced.content, kind=DatasetKind.REFERENCED)
    version = history.datasets.register(replace(referenced, content=content))

    history.datasets.keep(version, ObjectReference("default", "blake3:f", "labels.csv", 12))

    found = history.datasets.find(DatasetReference("labels", 1))
    assert (found.content.kind, found.content.reference.digest) == (DatasetKind.KEPT, "blake3:f")
    assert found.content.digest == version.content.digest


def test_what_is_known_of_a_table_can_be_added(history):
    version = history.datasets.register(draft())
    profile = TableProfile(3, 3, (ColumnProfile("a", "int64", 0, 1, 2, (1.0,), 2, ((1, 2),)),))
    history.datasets.describe(version, profile)

    found = history.datasets.find(DatasetReference("labels"))
    assert (found.content.columns, found.content.rows) == ((Column("a", "int64"),), 3)
    assert history.datasets.profile(found) == profile


HOSTILE = [
    ("dataset_versions", "number = 0"), ("dataset_versions", "name = '../../x'"), ("dataset_versions", "kind = 'lost'"),
    ("dataset_versions", "recipe = '{}'"), ("dataset_versions", "tags = '[1]'"), ("dataset_versions", "parents = '{'"),
    ("dataset_versions", "columns = '3'"), ("dataset_versions", "created = 'x'"), ("dataset_versions", "bytes = -1"),
    ("dataset_versions", "profile = '[]'"),
    ("dataset_labels", "label = 'a/b'"), ("dataset_labels", "number = 7"), ("dataset_labels", "name = 'x y'"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    with Workspace.open(tmp_path) as workspace:
        history = workspace.context.history
        for content in "12":
            keep_version(workspace.layout, history.datasets.register(draft(content=content)))
        history.datasets.label("labels", 1, "golden")
        keep_labels(workspace.layout, history, "labels")
    return tmp_path


def known(folder) -> tuple[list[str], dict[str, dict[str, int]]]:
    with Workspace.open(folder) as workspace:
        datasets = workspace.context.history.datasets
        return [str(version) for version in datasets.versions()], datasets.labels()


@pytest.mark.parametrize("table, change", HOSTILE)
def test_damaged_rows_are_found_and_restored(folder, table, change):
    everything = known(folder)
    with closing(sqlite3.connect(folder / ".nbpipe" / "history.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE {table} SET {change} WHERE number = 1")  # noqa: S608  # the test's own

    problems = [problem for problem in verify_workspace(folder).problems if problem.where == "history"]
    verify_workspace(folder, repair=True)

    assert any(table in problem.said for problem in problems)
    assert known(folder) == everything


def test_a_damaged_row_is_never_taken_for_a_version(folder):
    with closing(sqlite3.connect(folder / ".nbpipe" / "history.db", isolation_level=None)) as connection:
        connection.execute("UPDATE dataset_versions SET recipe = '[]'")
    with Workspace.open(folder) as workspace, pytest.raises(HistoryDamaged):
        workspace.context.history.datasets.versions()


def test_a_lost_database_is_rebuilt_from_the_kept_records(folder):
    everything = known(folder)
    for path in (folder / ".nbpipe").glob("history.db*"):
        path.unlink()

    assert verify_workspace(folder).unknown == 2
    assert verify_workspace(folder, repair=True).unknown == 2
    assert known(folder) == everything


def test_a_record_in_the_place_of_another_is_set_aside(folder):
    records = WorkspaceLayout(folder / ".nbpipe").datasets / "labels"
    (records / "2.json").write_bytes((records / "1.json").read_bytes())

    assert any("another version" in problem.said for problem in verify_workspace(folder).problems)
    verify_workspace(folder, repair=True)

    assert not any("kept record" in problem.said for problem in verify_workspace(folder).problems)


def test_stored_data_of_a_version_that_is_gone_is_found(folder):
    problems = verify_workspace(folder).problems

    assert [problem.where for problem in problems] == ["dataset labels@1", "dataset labels@2"]
