"""All that history promises is looked at; what is wrong is found, and a lost database is made from kept results."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scripted_executor import Bench, Fail, by_code
from test_reuse_lookup import flip

from nbpipe.codec import gunzip_text
from nbpipe.errors import HistoryDamaged, HistoryOutOfReach, NbpipeError, StoreOutOfReach
from nbpipe.history.attempts import RunChanges
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.rebuild_archive import archive_text, read_archived_result
from nbpipe.history.runs import RunFilter
from nbpipe.history.store import History
from nbpipe.model import Job, MetricPoint, MetricsLogged
from nbpipe.run.verification import VerificationReport
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace

MAKE = "%%step make -o a:json,folder:dir\na = 3"
USE = "%%step use -i a -o b:json\nb = a * 2"


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, [MAKE, USE])
    made.run()
    yield made
    made.executor.close()


def verify(bench: Bench, **options: Any) -> VerificationReport:
    """Verify the workspace of the bench."""
    return verify_workspace(bench.folder, **options)


def database(bench: Bench) -> Path:
    """Get the run store's file."""
    return bench.folder / ".nbpipe" / "history.db"


def test_an_intact_workspace_is_whole(bench):
    bench.run()
    found = verify(bench)

    assert (found.is_intact, found.outputs, found.problems, found.unknown) == (True, 3, (), 0)
    assert found.bytes == sum(artifact.bytes for step in bench.report.steps for artifact in step.artifacts)


@pytest.mark.parametrize("full", [False, True])
def test_a_damaged_output_is_found_with_its_run_and_step(bench, full):
    flip(bench.stored("use", "b"))
    found = verify(bench, full=full)

    assert not found.is_intact
    assert [(problem.where, "`b` is damaged" in problem.said) for problem in found.problems] == [
        ("run 1, step use", True)
    ]


def test_a_missing_output_is_found(bench):
    shutil.rmtree(bench.stored("make", "folder"))

    assert ["no longer" in problem.said for problem in verify(bench).problems] == [True]


def test_repair_offers_damage_no_more_and_then_all_is_well(bench):
    flip(bench.stored("use", "b"))

    assert verify(bench, repair=True).is_intact
    assert verify(bench).is_intact
    assert bench.run() == ["use"]
    assert verify(bench).is_intact


def test_a_lost_database_is_made_from_the_kept_results(bench):
    before = {step.step: step.artifacts for step in bench.report.steps}
    number, started = bench.report.run.number, bench.report.run.started
    database(bench).unlink()
    lost = verify(bench)
    assert (lost.is_intact, lost.unknown) == (False, 2)

    assert verify(bench, repair=True).unknown == 2
    assert verify(bench).is_intact
    assert bench.run() == []
    assert {step.step: step.artifacts for step in bench.report.steps} == before
    with Workspace.open(bench.folder) as workspace:
        old = workspace.runs.show(str(number))[0]
    assert (old.number, old.started, old.status.value) == (number, started, "succeeded")
    assert bench.report.run.number == number + 1


def test_repair_after_new_runs_keeps_both_and_numbers_stay_apart(bench):
    database(bench).unlink()
    bench.run()
    assert verify(bench, repair=True).unknown == 2
    with Workspace.open(bench.folder) as workspace:
        numbers = [run.number for run in workspace.runs.find(RunFilter())]
    assert len(numbers) == len(set(numbers)) == 2


def test_a_damaged_database_is_told_and_made_anew_on_request(bench):
    database(bench).write_bytes(b"not a database" * 1000)
    with pytest.raises(HistoryDamaged, match="damaged"):
        verify(bench)

    found = verify(bench, repair=True)
    assert (found.unknown, found.is_intact) == (2, True)
    assert database(bench).with_name("history.db.damaged-1").exists()
    assert bench.run() == []


_ENDLESS = (
    "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT {columns} FROM {table}_, t WHERE n < 0"
)


def _put_a_view(connection: sqlite3.Connection, table: str, kind: str) -> None:
    """Have a view stand where a table was; reading it never ends."""
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA legacy_alter_table = ON")
    columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
    connection.execute(f"ALTER TABLE {table} RENAME TO {table}_")
    connection.execute(f"CREATE VIEW {table} AS {_ENDLESS.format(columns=columns, table=table)}")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET type = ? WHERE name = ?", (kind, table))


@pytest.mark.parametrize("kind", ["view", "table"], ids=["honest", "called a table"])
@pytest.mark.parametrize("table", ["runs", "meta", "events", "outputs"])
def test_s22_a_view_that_never_ends_is_damage_and_not_read(bench, table, kind):
    with closing(sqlite3.connect(database(bench), isolation_level=None)) as connection:
        _put_a_view(connection, table, kind)
    for read in (History.open, History.copied):
        with pytest.raises(HistoryDamaged, match="damaged"):
            read(database(bench))
    assert verify(bench, repair=True).is_intact
    assert bench.run() == []


_EVIL = "CREATE TRIGGER evil AFTER {event} BEGIN UPDATE outputs SET digest = ''; END"


@pytest.mark.parametrize("event", ["INSERT ON runs", "UPDATE ON executions", "DELETE ON claims"])
def test_s22_a_trigger_is_damage_and_never_fires(bench, event):
    with closing(sqlite3.connect(database(bench), isolation_level=None)) as connection:
        connection.execute(_EVIL.format(event=event))
    with pytest.raises(HistoryDamaged, match="'evil'"):
        verify(bench)
    found = verify(bench, repair=True)
    assert (found.unknown, found.is_intact) == (0, True)
    assert bench.run() == []


@pytest.mark.parametrize("number", [2**63 - 1, 2**63 - 2, 10**18])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE counters SET value = {number}",
        "UPDATE runs SET number = {number}",
        "UPDATE attempts SET token = {number} WHERE token = 1",
        "UPDATE executions SET number = {number}",
    ],
)
def test_a_number_that_leaves_no_room_for_the_next_one_is_mended(bench, change, number):
    with closing(sqlite3.connect(database(bench))) as connection, connection:
        connection.execute(change.format(number=number))
    assert not verify(bench).is_intact
    assert verify(bench, repair=True).is_intact
    bench.sources = [*bench.sources, "%%step more -o z:json\nz = 1"]
    assert bench.run() == ["more"]
    assert bench.run() == []
    assert verify(bench).is_intact


@pytest.fixture
def impatient():
    """End a test that waits for ever."""

    def ended(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_is_not_waited_for_but_mended(bench, impatient, make):
    files = sorted(path for path in (bench.folder / ".nbpipe" / "runs").rglob("*") if path.is_file())
    assert files
    for path in files:
        path.unlink()
        make(path)
    assert not verify(bench).is_intact
    assert verify(bench, repair=True).is_intact
    bench.run()
    for path in files:
        assert not path.is_fifo() or path.name not in ("record.json.gz", "run.json")
    assert verify(bench).is_intact


def test_a_result_that_was_not_offered_is_not_offered_after_a_repair(bench):
    """NOSTORE is kept too: nobody may reuse afterwards what nobody might reuse before."""
    (bench.folder / "data.txt").write_text("one")
    bench.sources = ["%%step s -i raw=./data.txt -o x:json\nx = raw"]

    def edits(job, output):
        (bench.folder / "data.txt").write_text("two")
        return by_code(job, output)

    bench.run(work=edits)
    (bench.folder / "data.txt").write_text("one")
    database(bench).unlink()
    verify(bench, repair=True)

    assert bench.run(work=by_code) == ["s"]


def test_a_kept_result_that_is_torn_is_a_problem_and_no_result(bench):
    for record in (bench.folder / ".nbpipe" / "runs").glob("*/use/*/record.json.gz"):
        record.write_bytes(record.read_bytes()[:100])
    database(bench).unlink()
    found = verify(bench, repair=True)

    assert found.unknown == 1
    assert ["not a kept result" in problem.said for problem in found.problems] == [True]
    assert bench.run() == ["use"]


def test_a_kept_result_that_history_knows_is_written_anew_by_a_repair(bench):
    (record,) = (bench.folder / ".nbpipe" / "runs").glob("*/use/*/record.json.gz")
    before = read_archived_result(gunzip_text(record.read_bytes()))
    record.write_bytes(record.read_bytes()[:100])

    assert ["not a kept result" in problem.said for problem in verify(bench).problems] == [True]
    assert verify(bench, repair=True).is_intact
    after = read_archived_result(gunzip_text(record.read_bytes()))
    assert (after.execution.artifacts, after.offers) == (before.execution.artifacts, before.offers)
    assert verify(bench).problems == ()


def test_a_kept_result_reads_back_as_it_was(bench):
    (path,) = (bench.folder / ".nbpipe" / "runs").glob("*/make/*/record.json.gz")
    text = gunzip_text(path.read_bytes())
    kept = read_archived_result(text)
    recorded = bench.step("make")

    assert kept.execution == dataclasses.replace(recorded, notebook=kept.execution.notebook)
    assert recorded.notebook == str(bench.folder / ".nbpipe" / (kept.execution.notebook or ""))
    assert read_archived_result(archive_text(kept)) == kept
    for torn in ("", "[]", "{}", '{"version": 99}', text.replace('"offers"', '"other"')):
        with pytest.raises(ValueError, match=r".*"):
            read_archived_result(torn)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_a_database_with_damaged_bytes_never_gives_a_wrong_hit(bench, seed):
    """Whatever bytes change: either it is said, or what is reused is exactly what the code makes."""
    good = {artifact.name: artifact.digest for step in bench.report.steps for artifact in step.artifacts}
    chance = random.Random(seed)  # noqa: S311  # damage, not a secret
    content = bytearray(database(bench).read_bytes())
    for _ in range(chance.randint(1, 40)):
        content[chance.randrange(100, len(content))] ^= 1 << chance.randrange(8)
    database(bench).write_bytes(content)
    try:
        bench.run()
    except HistoryOutOfReach:
        return
    made = {artifact.name: artifact.digest for step in bench.report.steps for artifact in step.artifacts}
    assert made == good


def test_a_digest_that_is_none_is_told_and_the_step_runs(bench):
    with sqlite3.connect(database(bench)) as connection:
        connection.execute(
            "UPDATE attempts SET artifacts = replace(artifacts, 'blake3:', 'bnake3:')"
            " WHERE execution IN (SELECT id FROM executions WHERE step = 'use')"
        )
    connection.close()

    assert bench.run() == ["use"]
    assert "has an invalid record" in (bench.step("use").reasons[0].now or "")


@pytest.mark.parametrize("change", ["digest = '../..'", "digest = ''", "basename = '../../../x'", "basename = ''"])
def test_a_name_that_no_object_has_is_told_by_who_copies_it(bench, tmp_path, change):
    with closing(sqlite3.connect(database(bench))) as connection, connection:
        connection.execute("UPDATE outputs SET " + change)  # noqa: S608  # ours
    with Workspace.open(bench.folder) as workspace, pytest.raises(StoreOutOfReach, match="as none is named"):
        workspace.results.pull(str(bench.folder / bench.notebook), "use.b", tmp_path / "x")
    assert not verify(bench).is_intact
    assert verify(bench, repair=True).is_intact
    assert bench.run() == []


def test_the_command_tells_by_its_exit_code_and_its_json(bench):
    command = [sys.executable, "-m", "nbpipe", "verify", "--json", "--workspace", str(bench.folder / ".nbpipe")]
    done = subprocess.run([*command, "--full"], check=False, capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["whole"]) == (0, True)
    flip(bench.stored("use", "b"))
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["problems"][0]["where"]) == (1, "run 1, step use")


def test_a_history_of_something_else_is_not_touched_by_a_repair(bench):
    with pytest.raises(NbpipeError, match="not a history"):
        _foreign(bench)


def _foreign(bench: Bench) -> None:
    database(bench).unlink()
    with sqlite3.connect(database(bench)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    verify(bench, repair=True)


def test_the_database_answers_for_itself(bench):
    with History.open(database(bench)) as history:
        assert InspectionRepository(history.database).damage() == []


def _failing(job: Job, output: str) -> str:
    raise Fail(f"no {output}") if job.step == "use" else AssertionError(job.step)


@pytest.mark.parametrize("number", [1, 2, 3], ids=["executed", "reused", "failed"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
def test_a_damaged_entry_of_a_log_costs_only_itself(bench, number, place):
    bench.run()
    bench.run(work=_failing, force=("use",))
    with Workspace.open(bench.folder) as workspace:
        before = {run.number: workspace.runs.show(run.id) for run in workspace.runs.find(RunFilter())}
    run = before[number][0].id
    with sqlite3.connect(database(bench)) as connection:
        (count,) = connection.execute("SELECT events FROM runs WHERE id = ?", (run,)).fetchone()
        damaged = 1 + round(place * (count - 1))
        connection.execute("UPDATE events SET fact = x'00' WHERE run = ? AND number = ?", (run, damaged))
    connection.close()

    assert not verify(bench).is_intact
    assert verify(bench, repair=True).is_intact
    assert verify(bench).problems == ()
    with Workspace.open(bench.folder) as workspace:
        assert {run.number: workspace.runs.show(run.id) for run in workspace.runs.find(RunFilter())} == before
        assert len(workspace.context.history.log.read(run)) >= count - 1
    assert bench.run(work=by_code) == []


def test_a_log_of_any_length_is_verified_and_rebuilt_in_little_memory(bench):
    chance = random.Random(1)  # noqa: S311  # values, not secrets
    with Workspace.open(bench.folder) as workspace:
        (run,) = workspace.runs.find(RunFilter())
        attempt = workspace.context.history.attempts.of_run(run.id)[0].id
        for _ in range(30):
            points = [MetricPoint(chance.randbytes(20_000).hex(), 0.5, None, 1.0, 1) for _ in range(20)]
            metrics = [MetricsLogged(run.id, "make", attempt, 1, (point,)) for point in points]
            workspace.context.history.attempts.record(run.id, RunChanges(entries=metrics), 1.0)
    with sqlite3.connect(database(bench)) as connection:
        connection.execute("UPDATE events SET fact = x'00' WHERE number = 2")
        (stored,) = connection.execute("SELECT sum(length(fact)) FROM events").fetchone()
    connection.close()
    tracemalloc.start()
    try:
        assert verify(bench, repair=True).is_intact
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < stored / 2
