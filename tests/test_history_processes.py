"""Several processes and threads on one file, and processes killed in the middle."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest
from sample_history import attempt, begin, commit, everyone, put, record, succeed

from nbpipe.errors import HistoryOutOfReach
from nbpipe.history.claims import Claim
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.store import History
from nbpipe.model import Status

SPAWN = get_context("spawn")
WRITERS = 16
KEYS_EACH = 12


def write_much(path: Path, name: str, answer: Pipe) -> None:
    """Do what a driver does, as fast as it goes, and tell which keys were won."""
    won = []
    with History.open(path) as history:
        begin(history, name, owner=name)
        for number in range(KEYS_EACH):
            step = f"s{number}"
            claim = history.claims.claim(f"key-{step}", owner=name, now=0.0, lease=1e9, alive=everyone)
            put(history, record(name, step, Status.RUNNING))
            if isinstance(claim, Claim) and not history.results.lookup([f"key-{step}"]):
                attempt(history, f"{name}-{step}", name, step)
                assert commit(history, f"{name}-{step}", name, step, claim=claim)
                won.append(step)
            elif isinstance(claim, Claim):
                history.claims.release(claim)
            history.claims.renew(name, now=1.0, lease=1e9)
        history.runs.end(name, Status.SUCCEEDED, 200.0)
    answer.send(won)


@pytest.mark.slow
def test_sixteen_processes_make_and_write_one_history_without_a_lock_error(tmp_path):
    """F28, F31: each key is computed once, each run has its own number, all is there afterwards."""
    path = tmp_path / "w" / "history.db"
    pipes = [SPAWN.Pipe(duplex=False) for _ in range(WRITERS)]
    processes = [
        SPAWN.Process(target=write_much, args=(path, f"run{number}", sender))
        for number, (_, sender) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()
    won = Counter(step for receiver, _ in pipes for step in receiver.recv())
    for process in processes:
        process.join()
    for receiver, _ in pipes:
        receiver.close()

    assert [process.exitcode for process in processes] == [0] * WRITERS
    assert won == {f"s{number}": 1 for number in range(KEYS_EACH)}
    with History.open(path) as history:
        runs = history.runs.newest()
        assert [run.number for run in runs] == list(range(WRITERS, 0, -1))
        assert {run.status for run in runs} == {Status.SUCCEEDED}
        assert {len(history.executions.of_run(run.id)) for run in runs} == {KEYS_EACH}
        assert InspectionRepository(history.database).damage() == []


def test_threads_share_one_history(tmp_path):
    with History.open(tmp_path / "history.db") as history, ThreadPoolExecutor(8) as pool:
        begin(history, "x")
        written = [pool.submit(succeed, history, "x", f"s{number}") for number in range(24)]
        renewed = [pool.submit(history.claims.renew, "me", now=1.0, lease=1.0) for _ in range(24)]
        assert [each.result() for each in written] == [f"x-s{number}" for number in range(24)]
        assert [each.result() for each in renewed] == [set()] * 24
        assert len(history.executions.of_run("x")) == 24


def hold_half_written(path: Path, answer: Pipe) -> None:
    """Change a lot inside one transaction, say so, and never come to its end."""
    with History.open(path) as history, history.database.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET status = 'torn'")
        connection.exec_driver_sql("DELETE FROM outputs")
        connection.exec_driver_sql("DELETE FROM events")
        # More than the cache holds, so that part of it is on disk already.
        connection.exec_driver_sql("CREATE TABLE torn (filler TEXT)")
        connection.exec_driver_sql("INSERT INTO torn VALUES (?)", [("x" * 1000,)] * 20_000)
        answer.send("inside")
        time.sleep(60)


def write_until_killed(path: Path, answer: Pipe) -> None:
    """Commit runs of fifty steps until the end."""
    with History.open(path) as history:
        answer.send("inside")
        for number in range(10**6):
            begin(history, f"run{number}")
            put(history, *(record(f"run{number}", f"s{step}") for step in range(50)))


def kill_inside(target, path: Path, seconds: float = 0.0) -> None:
    receiver, sender = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=target, args=(path, sender))
    process.start()
    sender.close()
    assert receiver.recv() == "inside"
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    receiver.close()


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_transaction_of_a_killed_process_never_was(tmp_path):
    path = tmp_path / "history.db"
    with History.open(path) as history:
        begin(history, "x")
        succeed(history, "x", "a")

    kill_inside(hold_half_written, path)

    with History.open(path) as history:
        assert history.runs.get("x").status is Status.RUNNING
        assert history.executions.of_run("x") == [record("x", "a")]
        assert begin(history, "y").number == 2
        assert InspectionRepository(history.database).damage() == []
    assert sound(path)


def test_a_process_killed_at_any_moment_leaves_whole_runs(tmp_path):
    for seconds in (0.0, 0.05, 0.2):
        path = tmp_path / str(seconds) / "history.db"
        kill_inside(write_until_killed, path, seconds)
        with History.open(path) as history:
            written = [len(history.executions.of_run(run.id)) for run in history.runs.newest(limit=10**6)]
            assert set(written[:1]) <= {0, 50}
            assert set(written[1:]) <= {50}
            assert InspectionRepository(history.database).damage() == []
        assert sound(path)


def fail_for_want_of_space(path: Path, answer: Pipe) -> None:
    """Write more than the file system takes, then free space and go on; tell what was said."""
    with History.open(path) as history:
        begin(history, "x")
        # What a file has already may be written over, as on a full disk.
        limit = max(file.stat().st_size for file in path.parent.iterdir()) + 64 * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        said = ""
        try:
            begin(history, "big", parameters={"text": "x" * 10**6})
        except HistoryOutOfReach as error:
            said = str(error)
        readable = [run.id for run in history.runs.newest()]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        answer.send((said, readable, begin(history, "y").number))


def test_a_full_disk_is_told_and_freeing_space_is_enough(tmp_path):
    """F22: nothing half visible, what was there is readable."""
    receiver, sender = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=fail_for_want_of_space, args=(tmp_path / "history.db", sender))
    process.start()
    sender.close()
    said, readable, number = receiver.recv()
    process.join()
    receiver.close()

    assert "no space" in said
    assert (readable, number) == (["x"], 2)
