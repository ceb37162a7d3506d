"""A result is believed only when its bytes are there and are those that were published."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from sample_pipelines import word
from scripted_executor import Bench

from nbpipe.errors import HistoryDamaged
from nbpipe.history.store import History
from nbpipe.model import ReuseVerdict

MAKE = "%%step make -o a:json\na = 3"
USE = "%%step use -i a -o b:json\nb = a * 2"


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "project", [MAKE, USE])
    made.folder.mkdir()
    yield made
    made.executor.close()


def delete(path: Path) -> None:
    """Take the stored file away."""
    path.unlink()


def flip(path: Path) -> None:
    """Change one bit of it."""
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Take its end away."""
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    """Leave nothing in it."""
    path.chmod(0o644)
    path.write_bytes(b"")


DAMAGE = {
    "deleted": (delete, "no longer in its datastore"), "flipped": (flip, "is damaged"),
    "truncated": (truncate, "bytes in its datastore"), "emptied": (empty, "0 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("damage, said", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_made_again_and_the_reason_says_what_is_wrong(bench, damage, said):
    bench.run()
    damage(bench.stored("make", "a"))

    assert bench.run() == ["make"]
    (reason,) = bench.step("make").reasons
    assert reason.component == "artifact:a"
    assert said in (reason.now or "")
    assert bench.statuses()["use"] == "reused"
    assert bench.run() == []


@pytest.mark.parametrize("damage, said", DAMAGE.values(), ids=DAMAGE)
def test_a_plan_that_finds_damage_first_takes_nothing_from_the_runs_reason(bench, damage, said):
    """Plan, then run: the verdicts are the same, and so is what they say."""
    bench.run()
    damage(bench.stored("make", "a"))
    planned = bench.plan()

    assert {name: word(decision) for name, decision in planned.decisions.items()} == {"make": "run", "use": "depends"}
    assert bench.plan().decisions["make"].verdict.reasons == planned.decisions["make"].verdict.reasons
    bench.run()
    assert bench.step("make").reasons == planned.decisions["make"].verdict.reasons
    assert said in (planned.decisions["make"].verdict.reasons[0].now or "")


def test_a_damaged_result_is_in_quarantine_with_the_reason(bench):
    bench.run()
    flip(bench.stored("make", "a"))
    bench.run()
    with sqlite3.connect(bench.folder / ".nbpipe" / "history.db") as connection:
        rows = connection.execute(
            "SELECT step, why FROM attempts JOIN executions ON executions.id = execution WHERE quarantined IS NOT NULL"
        ).fetchall()
    connection.close()

    assert [step for step, _ in rows] == ["make"]
    assert "damaged" in rows[0][1]


def test_an_older_whole_result_of_the_same_key_is_taken(bench):
    """The step was forced and made other bytes: when the newer ones are gone, the older ones stand."""
    bench.sources = [MAKE]
    bench.run(work=lambda job, output: "first")
    older = bench.report.run.id
    bench.run(work=lambda job, output: "second", force=("make",))
    bench.stored("make", "a").unlink()

    assert bench.run() == []
    assert bench.step("make").origin.run == older


def test_when_every_result_of_a_key_is_gone_the_step_runs(bench):
    bench.sources = [MAKE]
    bench.run(work=lambda job, output: "first")
    bench.run(work=lambda job, output: "second", force=("make",))
    shutil.rmtree(bench.folder / ".nbpipe" / "store")

    assert bench.run() == ["make"]


def test_keep_takes_the_newest_result_that_is_whole(bench):
    bench.sources = [MAKE.replace("-o", "--reuse keep -o")]
    bench.run(work=lambda job, output: "first")
    older = bench.report.run.id
    bench.sources = [bench.sources[0].replace("3", "4")]
    bench.run(work=lambda job, output: "second", force=("make",))
    flip(bench.stored("make", "a"))

    assert bench.run() == []
    assert bench.step("make").origin.run == older


def test_a_workspace_that_was_moved_keeps_its_results(bench, tmp_path):
    """History holds references, which do not tell where the store lies."""
    bench.run()
    moved = bench.folder.rename(tmp_path / "renamed")
    after = dataclasses.replace(bench, folder=moved)

    assert after.run() == []
    assert after.stored("use", "b").is_relative_to(moved)
    assert after.run() == []


def test_another_notebook_of_the_workspace_takes_the_result_of_an_equal_step(bench):
    bench.run()
    other = dataclasses.replace(bench, notebook="other.ipynb")

    assert other.run() == []
    assert other.step("use").origin.run == bench.report.run.id


def test_after_a_run_of_one_step_all_others_are_still_known(bench):
    """The last run is not the only past that counts."""
    bench.sources += [f"%%step s{n} -o d{n}\nd{n} = {n}" for n in range(5)]
    bench.run()
    bench.run(steps=("make",))

    assert bench.run() == []


def test_a_failed_run_does_not_hide_what_was_there(bench):
    bench.run()
    bench.sources[1] = USE.replace("2", "5")
    bench.run(work=lambda job, output: (_ for _ in ()).throw(ValueError("no")) if job.step == "none" else output)
    bench.sources[1] = USE

    assert bench.run() == []


def test_a_result_is_verified_by_content_not_by_time(bench):
    """Equal bytes under another time are the same result."""
    bench.run()
    stored = bench.stored("make", "a")
    content = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(content)

    assert bench.run() == []


def test_a_folder_with_a_file_too_many_is_damaged(bench):
    bench.sources = ["%%step make -o a:dir\n(a / 'x').write_text('1')"]

    def publish_folder(job, output):
        return "unused"

    executor = bench.executor
    executor.work = publish_folder
    bench.run()
    stored = bench.stored("make", "a")
    assert stored.is_dir()
    (stored / "more.txt").write_text("2")

    assert bench.run() == ["make"]
    assert "artifact:a" in [reason.component for reason in bench.step("make").reasons]


def test_a_store_that_is_not_known_and_a_name_that_is_none_are_reasons_and_no_crash(bench):
    """History that was written by another machine may name stores that this one cannot reach."""
    bench.run()
    path = bench.folder / ".nbpipe" / "history.db"
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT id, artifacts FROM attempts").fetchall()
        for attempt, text in rows:
            told = [[*a[:2], "elsewhere", "blake3:" + "0" * 64, "../x.json", a[5]] for a in json.loads(text)]
            connection.execute("UPDATE attempts SET artifacts = ? WHERE id = ?", (json.dumps(told), attempt))
    connection.close()

    planned = bench.plan()
    assert not any(isinstance(decision.verdict, ReuseVerdict) for decision in planned.decisions.values())
    assert "datastore `elsewhere`" in (planned.decisions["make"].verdict.reasons[0].now or "")


def test_a_plan_reads_the_records_of_earlier_steps_only_when_something_is_missing(bench):
    """They are long; where everything is reused nobody asks."""
    bench.run()
    with sqlite3.connect(bench.folder / ".nbpipe" / "history.db") as connection:
        connection.execute(
            "UPDATE texts SET text = 'no list of components' WHERE digest IN (SELECT components FROM executions)"
        )
    connection.close()

    assert {word(decision) for decision in bench.plan().decisions.values()} == {"reuse"}
    with (
        History.open(bench.folder / ".nbpipe" / "history.db") as history,
        pytest.raises(HistoryDamaged, match="did not write"),
    ):
        history.executions.latest(bench.report.run.pipeline)
