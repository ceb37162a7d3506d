"""A repair keeps every row of a damaged database that is whole, and what it makes of the others is whole as well."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from scripted_executor import Bench

from nbpipe.history.runs import RunFilter
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace

CELLS = [
    "%%step make -o a:json\nimport nbpipe\nnbpipe.log_metric('loss', 1)\na = 3",
    "%%step use -i a -o b:json\nb = a * 2",
]


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, CELLS)
    bench.run()
    bench.run()
    yield bench
    bench.executor.close()


def entries(folder: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(folder / ".nbpipe" / "history.db")) as connection:
        return connection.execute("SELECT run, number FROM events ORDER BY run, number").fetchall()


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / ".nbpipe" / "history.db", isolation_level=None)) as connection:
        connection.execute(statement, values)


def runs(folder: Path) -> list[str]:
    with Workspace.open(folder) as workspace:
        return [run.id for run in workspace.runs.find(RunFilter())]


def moved(folder: Path, run: str, number: int, target: str) -> None:
    """Move an entry of a log to another run, and repair the workspace."""
    statement = "UPDATE events SET run = ?, number = number + 100 WHERE (run, number) = (?, ?)"
    change(folder, statement, target, run, number)
    assert not verify_workspace(folder).is_intact

    verify_workspace(folder, repair=True)

    assert verify_workspace(folder).problems == ()


@pytest.mark.parametrize("target", ["to a run that there is not", "to the other run"])
def test_an_entry_of_a_log_may_be_moved(bench, target):
    known = runs(bench.folder)
    for run, number in entries(bench.folder):
        moved(bench.folder, run, number, next(each for each in known if each != run) if "other" in target else "none")
        assert set(known) <= set(runs(bench.folder))
    assert bench.run() == []


def test_a_log_whose_run_is_gone_is_a_run_again(bench):
    known = runs(bench.folder)
    change(bench.folder, "DELETE FROM runs WHERE number = 2")

    verify_workspace(bench.folder, repair=True)

    assert verify_workspace(bench.folder).problems == ()
    assert sorted(runs(bench.folder)) == sorted(known)
