"""A copy of a database: whoever writes the original meanwhile, whatever state it is in, and however many read it."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from notebook_author import write_notebook
from other_user import User, as_user, needs_other_users
from sample_history import begin, succeed

from nbpipe.errors import HistoryDamaged, HistoryOutOfReach
from nbpipe.history import database_copy
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.store import History
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace

_WRITE = """
import pathlib, sys, time
from sample_history import begin
from nbpipe.history.store import History
with History.open(pathlib.Path(sys.argv[1])) as history:
    for number in range(60):
        begin(history, f"more-{number}")
        time.sleep(0.02)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".nbpipe" / "history.db"


def killed_writer(path: Path) -> None:
    """Have a process die after it has written, with all of it in the log beside the database."""
    child = os.fork()
    if child == 0:
        begin(History.open(path), "x")
        os._exit(0)
    os.waitpid(child, 0)
    assert path.with_name("history.db-wal").stat().st_size > 0


def test_many_threads_read_a_copy_that_is_renewed(path):
    with History.open(path) as history:
        begin(history, "x")
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(path)], env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    )
    wrong: list[object] = []

    def read(copy: History) -> None:
        while writer.poll() is None:
            try:
                if copy.runs.get("x") is None:
                    wrong.append("missing")
            except HistoryOutOfReach as error:
                wrong.append(error)

    with History.copied(path) as copy:
        threads = [threading.Thread(target=read, args=(copy,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(copy.runs.newest(limit=99)) == 61
    assert wrong == []


@pytest.mark.parametrize("damage", [bytes(100), b"\x00", b"?" * 8192], ids=["start", "byte", "pages"])
def test_a_damaged_first_page_with_a_filled_log_is_repaired(path, damage):
    write_notebook(path.parent.parent / "work.ipynb", ["%%step a -o x\nx = 1"])
    Workspace.open(path.parent.parent).close()
    killed_writer(path)
    with path.open("r+b") as file:
        file.write(damage)

    with pytest.raises(HistoryDamaged):
        verify_workspace(path.parent.parent)
    verify_workspace(path.parent.parent, repair=True)

    assert verify_workspace(path.parent.parent).problems == ()


def test_a_locked_database_is_not_waited_for_without_end(path, monkeypatch):
    monkeypatch.setattr(database_copy, "_LOCKED_SECONDS", 0.2)
    History.open(path, shares_memory=False).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        with pytest.raises(HistoryOutOfReach, match="busy"):
            History.copied(path)
        assert time.monotonic() - begun < 30


def test_a_database_that_never_rests_is_busy(path, monkeypatch):
    History.open(path).close()
    monkeypatch.setattr(database_copy, "_TRIES", 0)
    with pytest.raises(HistoryOutOfReach, match="busy"):
        History.copied(path)


def test_a_rollback_that_a_killed_writer_left_is_copied(path):
    History.open(path, shares_memory=False).close()
    child = os.fork()
    if child == 0:
        history = History.open(path, shares_memory=False)
        with history.database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE torn (filler TEXT)")
            connection.exec_driver_sql("INSERT INTO torn VALUES (?)", [("x" * 1000,)] * 20_000)
            os._exit(0)
    os.waitpid(child, 0)
    before = path.read_bytes()

    with History.copied(path) as copy:
        assert InspectionRepository(copy.database).damage() == []
    assert path.read_bytes() == before


@needs_other_users
@pytest.mark.parametrize("open_", [History.open, History.copied], ids=["open", "copied"])
def test_what_cannot_be_opened_is_not_called_damaged(path, open_):
    History.open(path).close()

    def open_without_descriptors() -> str:
        with suppress(OSError):
            while True:
                os.dup(0)
        try:
            open_(path)
        except HistoryOutOfReach as error:
            resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
            return type(error).__name__
        return "opened"

    assert as_user(User(0), open_without_descriptors) == "HistoryOutOfReach"


def test_tables_that_are_only_in_the_log_need_no_temporary_files(path, monkeypatch):
    killed_writer(path)
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    monkeypatch.setattr(tempfile, "tempdir", "/proc")

    with History.copied(path) as copy:
        assert copy.runs.get("x") is not None
    with History.open(path) as history:
        succeed(history, "x", "a")


@needs_other_users
def test_a_disk_that_is_full_at_the_end_takes_nothing_from_what_was_read(path):
    Workspace.open(path.parent.parent).close()

    def read() -> str:
        with Workspace.read(path.parent.parent) as opened:
            opened.context.digests.note(path, "blake3:" + "0" * 64)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        return "read"

    assert as_user(User(0), read) == "read"


def test_a_folder_that_becomes_a_file_is_told(path, tmp_path):
    History.open(path).close()
    with History.copied(path) as copy:
        path.parent.rename(tmp_path / "moved")
        path.parent.write_text("")
        with pytest.raises(HistoryOutOfReach):
            copy.runs.last()


@pytest.mark.parametrize("log", [False, True])
def test_a_missing_database_is_an_empty_one(path, log):
    path.parent.mkdir()
    if log:
        path.with_name("history.db-wal").write_bytes(b"x" * 100)
    with History.copied(path) as copy:
        assert copy.runs.last() is None
        assert copy.runs.last() is None
    assert not path.exists()
