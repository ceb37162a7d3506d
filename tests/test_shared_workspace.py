"""Two users of one group and one workspace: real ones, in processes of their own."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from notebook_author import write_notebook
from scripted_executor import Bench, by_code

from nbpipe.cli import main
from nbpipe.errors import HistoryOutOfReach, OutOfReach
from nbpipe.history.runs import RunFilter
from nbpipe.history.store import History
from nbpipe.model import Job
from nbpipe.workspace import Workspace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")

GROUP = 1700
SOURCES = ["%%step a -o x\nx = 1", "%%step b -i x -o y\ny = x"]


class User(NamedTuple):
    """Somebody: a number, and a group of their own besides the shared one."""

    number: int
    groups: tuple[int, ...] = (GROUP,)


OWNER, OTHER, STRANGER = User(1701), User(65534), User(1703, ())


def as_user(user: User, function: Callable[[], Any]) -> Any:
    """Call a function in a process of that user; get what it returns, or raise what it raises."""
    with tempfile.TemporaryDirectory() as own:
        # Not everywhere may everybody write to the system's folder for temporary files.
        os.chown(own, user.number, user.number)
        return _in_a_process_of(user, function, own)


def _in_a_process_of(user: User, function: Callable[[], Any], own: str) -> Any:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            tempfile.tempdir = own
            os.setgroups(user.groups)
            os.setgid(user.number)
            os.setuid(user.number)
            os.umask(0o022)
            told = (True, function())
        except BaseException as error:  # noqa: BLE001 - told to the parent, which raises it
            told = (False, error)
        os.write(write, pickle.dumps(told))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        went_well, value = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if not went_well:
        raise value
    return value


def said(*words: str) -> tuple[int, str]:
    """Call the command line in this process, and get its exit code and all that it wrote."""
    text = io.StringIO()
    try:
        with redirect_stdout(text), redirect_stderr(text):
            main(words)
    except SystemExit as ended:
        return int(str(ended.code or 0)), text.getvalue()
    raise AssertionError("it never returns")


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


def project(ground: Path, mode: int) -> Path:
    """Make a folder of the owner and the shared group, in which the owner has run a notebook once."""
    folder = ground / "project"
    folder.mkdir()
    os.chown(folder, OWNER.number, GROUP)
    folder.chmod(mode)
    as_user(OWNER, lambda: run(folder))
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
    folder = project(ground, mode)
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
    assert re.search("/a/[0-9a-f]{16} belongs to user 1701", text)
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
        with history._database.writing():
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
    folder = project(ground, 0o755)
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
