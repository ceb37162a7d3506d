"""A history's file: made where there is none, and refused in one sentence where it is not ours or not whole."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from sample_history import begin

from nbpipe.data import file_system_kind
from nbpipe.errors import HistoryDamaged, HistoryOutOfReach
from nbpipe.history.schema import SCHEMA_VERSION
from nbpipe.history.store import History


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
        history.runs.newest()


def test_a_history_of_a_newer_nbpipe_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "history.db"
    History.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
        connection.commit()
    before = path.read_bytes()

    with pytest.raises(HistoryOutOfReach, match="newer nbpipe") as caught:
        History.open(path)
    assert "Upgrade" in caught.value.hint
    assert path.read_bytes() == before


def test_the_schema_counts_anew_from_one(tmp_path):
    path = tmp_path / "history.db"
    History.open(path).close()

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name, value FROM meta").fetchall() == [("version", "1")]
    assert SCHEMA_VERSION == 1


OLD_TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE meta (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
CREATE TABLE counters (name TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE runs (id TEXT NOT NULL, number BIGINT NOT NULL, notebook TEXT NOT NULL, status TEXT NOT NULL);
CREATE TABLE steps (run TEXT NOT NULL, step TEXT NOT NULL, status TEXT NOT NULL, PRIMARY KEY (run, step));
INSERT INTO meta VALUES ('schema', '3');
INSERT INTO runs VALUES ('r', 1, 'a.ipynb', 'running');
"""


@pytest.mark.parametrize(
    "change", [None, "UPDATE meta SET value = '0' WHERE name = 'version'"], ids=["before-the-first", "before-this"]
)
def test_a_history_of_an_older_nbpipe_is_refused_in_one_sentence_and_left_alone(tmp_path, change):
    path = tmp_path / "history.db"
    if change:
        History.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(change or OLD_TABLES)
        connection.commit()
    before = path.read_bytes()

    with pytest.raises(HistoryOutOfReach, match="older nbpipe") as caught:
        History.open(path)
    assert not isinstance(caught.value, HistoryDamaged)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert "--workspace" in caught.value.hint
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["history.db"]


@pytest.mark.parametrize("statement", ["CREATE TABLE songs (name TEXT)", "CREATE TABLE meta (name TEXT, value TEXT)"])
def test_another_programs_database_is_refused(tmp_path, statement):
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()

    with pytest.raises(HistoryOutOfReach, match="not a history"):
        History.open(path)


def test_a_history_that_says_itself_that_it_is_read_only_is_damaged(tmp_path):
    path = tmp_path / "history.db"
    History.open(path).close()
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x07")

    with pytest.raises(HistoryDamaged, match="says that it is read-only"):
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

    with pytest.raises(HistoryOutOfReach, match="cannot be opened"):
        History.open(tmp_path / "file" / "history.db")
    with pytest.raises(HistoryDamaged, match="a link or a folder"):
        History.open(tmp_path / "folder")


def test_nothing_is_made_through_a_link(tmp_path):
    (tmp_path / "history.db").symlink_to(tmp_path / "elsewhere.db")

    for open_ in (History.open, History.read):
        with pytest.raises(HistoryDamaged, match="a link or a folder"):
            open_(tmp_path / "history.db")
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_local_file_is_logged_ahead(tmp_path):
    """Readers then never wait for writers."""
    with History.open(tmp_path / "history.db") as history, history.database.reading() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()

    assert mode == ("wal" if file_system_kind.shares_memory(tmp_path) else "delete")
