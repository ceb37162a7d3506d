"""Two users of one group and one workspace: real ones, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_in_process import said
from notebook_author import write_notebook
from other_user import STRANGER, User, as_user, needs_other_users
from scripted_executor import Bench, by_code

from nbpipe.errors import HistoryOutOfReach, OutOfReach
from nbpipe.history.runs import RunFilter
from nbpipe.history.store import History
from nbpipe.model import Job
from nbpipe.workspace import Workspace

pytestmark = needs_other_users

GROUP = 1700
SOURCES = ["%%step a -o x\nx = 1", "%%step b -i x -o y\ny = x"]


OWNER, OTHER = User(1701, (GROUP,)), User(65534, (GROUP,))


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Get all that is in a folder: its owners, modes, sizes and times."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        told = path.lstat()
        found[str(path)] = told.st_uid, told.st_gid, told.st_mode, told.st_size, told.st_mtime_ns
    return found


def work(job: Job, output: str) -> str:
    Path(job.directory, "notebook.ipynb").write_text(json.dumps({"cells": [], "metadata": {}}), encoding="utf-8")
    return by_code(job, output)


def run(folder: Path) -> list[str]:
    return Bench(folder, SOURCES).run(work=work)


def project(ground: Path, mode: int, *, opened: bool = False) -> Path:
    """Make a folder of the owner and the shared group, in which the owner has run a notebook once.

    With ``opened`` the owner has then let everybody read the workspace.
    """
    folder = ground / "project"
    folder.mkdir()
    os.chown(folder, OWNER.number, GROUP)
    folder.chmod(mode)
    as_user(OWNER, lambda: run(folder))
    workspace = folder / ".nbpipe"
    for path in [workspace, *workspace.rglob("*")] if opened else []:
        path.chmod(path.stat().st_mode | (0o005 if path.is_dir() else 0o004))
    return folder


@pytest.fixture
def ground() -> Iterator[Path]:
    """Make a folder that all users may enter: the one that pytest gives is root's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load all that is used: other users may not be able to read where Python lies."""
    folder = tmp_path_factory.mktemp("warm")
    run(folder)
    "".encode("ascii"), "".encode("idna"), "".encode("utf-8-sig")
    for words in (["runs"], ["status"], ["show", "1"], ["compare", "1", "1"], ["logs"]):
        target = {"status": [str(folder / "work.ipynb")], "logs": [str(folder / "work.ipynb"), "a"]}
        assert said(*words, *target.get(words[0], []), "--workspace", str(folder / ".nbpipe"))[0] == 0
    with History.read(folder / ".nbpipe" / "history.db"):
        pass
    with Workspace.read(folder) as opened:
        opened.results.pull(str(folder / "work.ipynb"), "b.y", folder / "pulled.json")
    OutOfReach("loaded").to_json()


@pytest.mark.parametrize("mode", [0o755, 0o2750, 0o2755, 0o2775, 0o770])
def test_another_user_reads_and_leaves_nothing_behind(ground: Path, mode: int) -> None:
    folder = project(ground, mode, opened=mode == 0o755)
    name, before, target = str(folder / "work.ipynb"), tree(folder), ground / "pulled"
    target.mkdir()
    os.chown(target, OTHER.number, OTHER.number)

    def look() -> tuple[Any, ...]:
        with Workspace.read(folder) as opened:
            run_, steps = opened.runs.last(name)
            planned = opened.plans.plan(Bench(folder, SOURCES).request())
            opened.results.pull(name, "b.y", target / "y.json")
            count = len(opened.runs.find(RunFilter()))
            return run_.number, [step.step for step in steps], sorted(planned.decisions), count

    assert as_user(OTHER, look) == (1, ["a", "b"], ["a", "b"], 1)
    for words in (["runs", name], ["status", name], ["show", "1"], ["compare", "1", "1"]):
        code, text = as_user(OTHER, partial(said, *words, "--workspace", str(folder / ".nbpipe")))
        assert (code, "Traceback" in text) == (0, False), text
    assert tree(folder) == before
    assert as_user(OWNER, lambda: run(folder)) == []


@pytest.mark.parametrize("mode", [0o2750, 0o2775, 0o770])
def test_what_a_step_printed_is_read_where_the_folder_is_shared(ground: Path, mode: int) -> None:
    folder = project(ground, mode)
    assert as_user(OTHER, lambda: said("logs", str(folder / "work.ipynb"), "a"))[0] == 0


@pytest.mark.parametrize("verb", ["logs", "debug"])
def test_what_is_closed_is_named_with_its_owner(ground: Path, verb: str) -> None:
    folder = project(ground, 0o755)
    write_notebook(folder / "work.ipynb", SOURCES).chmod(0o644)
    code, text = as_user(OTHER, lambda: said(verb, str(folder / "work.ipynb"), "a"))
    assert code == 3
    assert re.search(r"/\.nbpipe is closed to this user and belongs to user 1701", text)
    assert "Traceback" not in text


@pytest.mark.parametrize("mode", [0o2775, 0o2770, 0o770])
def test_each_user_of_the_group_writes_and_nobody_is_locked_out(ground: Path, mode: int) -> None:
    folder = project(ground, mode)
    assert as_user(OTHER, lambda: run(folder)) == []
    SOURCES.append("%%step c -i y -o z\nz = y")
    try:
        assert as_user(OTHER, lambda: run(folder)) == ["c"]
        assert as_user(OWNER, lambda: run(folder)) == []
    finally:
        SOURCES.pop()
    made = [path for path in (folder / ".nbpipe").rglob("*") if path.is_dir() and path.name != "staging"]
    assert {path.stat().st_gid for path in made} == {GROUP}
    assert {path.stat().st_mode & stat.S_IRWXG for path in made} == {0o070}


def test_a_writer_that_is_killed_locks_nobody_out(ground: Path) -> None:
    folder = project(ground, 0o770)
    database = folder / ".nbpipe" / "history.db"

    def write_and_die() -> None:
        history = History.open(database)
        with history.database.writing():
            pass
        os._exit(0)

    with pytest.raises(EOFError):
        as_user(OTHER, write_and_die)
    assert as_user(OWNER, lambda: run(folder)) == []


@pytest.mark.parametrize("user", [OTHER, STRANGER])
def test_who_may_not_write_is_told_which_file_and_whose(ground: Path, user: User) -> None:
    folder = project(ground, 0o755)
    before = tree(folder)
    with pytest.raises(OutOfReach, match="nbpipe belongs to user 1701"):
        as_user(user, lambda: run(folder))
    with pytest.raises(HistoryOutOfReach, match=r"history.db cannot be written: .* belongs to user 1701"):
        as_user(user, lambda: History.open(folder / ".nbpipe" / "history.db"))
    assert tree(folder) == before


def test_who_may_not_read_is_told_which_folder_and_whose(ground: Path) -> None:
    folder = project(ground, 0o2750)
    with pytest.raises(HistoryOutOfReach, match="project is closed to this user and belongs to user 1701"):
        as_user(STRANGER, lambda: History.read(folder / ".nbpipe" / "history.db"))


def test_a_plan_in_a_folder_of_somebody_else_needs_no_workspace(ground: Path) -> None:
    folder = project(ground, 0o2775)
    other = folder / "new"
    other.mkdir()
    os.chown(other, OWNER.number, GROUP)
    other.chmod(0o2775)

    def plan() -> list[str]:
        with Workspace.read(other, other / ".nbpipe") as opened:
            return sorted(opened.plans.plan(Bench(other, SOURCES).request()).decisions)

    assert as_user(OTHER, plan) == ["a", "b"]
    assert list(other.iterdir()) == []


def test_a_reader_sees_what_is_written_meanwhile(ground: Path) -> None:
    folder = project(ground, 0o2750)
    database = folder / ".nbpipe" / "history.db"
    read, write = os.pipe()

    def watch() -> list[int]:
        with History.read(database) as history:
            counts = [len(history.runs.newest(limit=99))]
            os.read(read, 1)
            return [*counts, len(history.runs.newest(limit=99))]

    child = os.fork()
    if child == 0:
        as_user(OWNER, lambda: run(folder))
        os.write(write, b"x")
        os._exit(0)
    assert as_user(OTHER, watch)[-1] == 2
    os.waitpid(child, 0)
