"""A workspace is the same wherever its folder lies: moved, copied, or opened by another path."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from notebook_author import write_notebook
from sample_pipelines import word
from scripted_executor import Bench
from test_reuse_lookup import flip

from nbpipe.cli.command import outcome
from nbpipe.codec import pack, unpack
from nbpipe.errors import StoreOutOfReach
from nbpipe.views.text_tables import verified_lines
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace

MAKE = "%%step make -o a:json,folder:dir\na = 3"
USE = "%%step use -i a -o b:json\nb = a * 2"


def moved(folder: Path, target: Path) -> None:
    """Give the folder another place."""
    folder.rename(target)


def copied(folder: Path, target: Path) -> None:
    """Copy the folder with all it holds, and take the first one away."""
    shutil.copytree(folder, target)
    shutil.rmtree(folder)


def linked(folder: Path, target: Path) -> None:
    """Reach the folder by another path."""
    target.symlink_to(folder)


@pytest.fixture(params=[moved, copied, linked], ids=lambda how: how.__name__)
def elsewhere(request, tmp_path):
    """Get a bench whose folder was brought elsewhere after a run."""
    bench = Bench(tmp_path / "project", [MAKE, USE])
    bench.folder.mkdir()
    bench.run()
    request.param(bench.folder, tmp_path / "a new place")
    yield dataclasses.replace(bench, folder=tmp_path / "a new place")
    bench.executor.close()


def test_a_plan_reuses_everything_and_so_does_a_run(elsewhere):
    assert {word(decision) for decision in elsewhere.plan().decisions.values()} == {"reuse"}
    assert elsewhere.run() == []
    assert elsewhere.stored("use", "b").is_file()


@pytest.mark.parametrize("full", [True, False])
def test_verify_finds_nothing_wrong_and_repair_loses_nothing(elsewhere, full):
    found = verify_workspace(elsewhere.folder, full=full)
    assert (found.is_intact, found.outputs, found.problems) == (True, 3, ())
    repaired = verify_workspace(elsewhere.folder, full=full, repair=True)

    assert (repaired.problems, repaired.unknown) == ((), 0)
    assert elsewhere.run() == []


def test_damage_is_found_where_the_bytes_are_now(elsewhere):
    elsewhere.run()
    flip(elsewhere.stored("use", "b"))

    assert {"is damaged" in problem.said for problem in verify_workspace(elsewhere.folder).problems} == {True}
    assert elsewhere.run() == ["use"]


def test_a_lost_history_is_made_from_the_kept_results(elsewhere):
    (elsewhere.folder / ".nbpipe" / "history.db").unlink()

    assert verify_workspace(elsewhere.folder, repair=True).unknown == 2
    assert elsewhere.run() == []
    assert verify_workspace(elsewhere.folder, full=True).is_intact


def test_outputs_are_pulled(elsewhere, tmp_path):
    elsewhere.run()
    with Workspace.open(elsewhere.folder) as workspace:
        artifact = workspace.results.pull(str(elsewhere.folder / elsewhere.notebook), "use.b", tmp_path / "out")
        workspace.results.pull(str(elsewhere.folder / elsewhere.notebook), "folder", tmp_path / "folder")
        url = workspace.materializer.url(artifact)

    assert (tmp_path / "out").read_bytes() == elsewhere.stored("use", "b").read_bytes()
    assert (tmp_path / "folder" / "part.txt").is_file()
    assert url == f"file://{elsewhere.stored('use', 'b')}"


def test_no_record_of_a_stored_output_holds_a_place(elsewhere):
    with sqlite3.connect(elsewhere.folder / ".nbpipe" / "history.db") as connection:
        told = [text for row in connection.execute("SELECT * FROM outputs") for text in row if isinstance(text, str)]
        told += [row[0] for row in connection.execute("SELECT artifacts FROM attempts")]
    connection.close()

    assert not any("/" in text for text in told)


@pytest.fixture
def far(tmp_path):
    """Get a bench whose results of the first step lie in a datastore that is not known."""
    bench = Bench(tmp_path, [MAKE, USE])
    bench.run()
    with sqlite3.connect(tmp_path / ".nbpipe" / "history.db") as connection:
        ((execution,),) = connection.execute("SELECT id FROM executions WHERE step = 'make'").fetchall()
        of_make = "SELECT id, artifacts FROM attempts WHERE execution = ?"
        for attempt, text in connection.execute(of_make, (execution,)).fetchall():
            told = json.dumps([[*made[:2], "lake", *made[3:]] for made in json.loads(text)])
            connection.execute("UPDATE attempts SET artifacts = ? WHERE id = ?", (told, attempt))
        connection.execute("UPDATE outputs SET store = 'lake' WHERE execution = ?", (execution,))
        for run, number, packed in connection.execute("SELECT run, number, fact FROM events").fetchall():
            if json.loads(told := unpack(packed)).get("step") == "make" or f'"execution":"{execution}"' in told:
                fact = pack(told.replace('"store":"default"', '"store":"lake"'))
                connection.execute("UPDATE events SET fact = ? WHERE (run, number) = (?, ?)", (fact, run, number))
    connection.close()
    yield bench
    bench.executor.close()


def offered(bench: Bench) -> int:
    """Count the results that may be reused."""
    with sqlite3.connect(bench.folder / ".nbpipe" / "history.db") as connection:
        (count,) = connection.execute("SELECT count(DISTINCT attempt) FROM entries WHERE offered").fetchone()
    connection.close()
    return int(count)


SAID = "`a.json` is in the datastore `lake`, which this workspace does not know"


def test_a_result_in_an_unknown_store_is_not_used_and_not_thrown_away(far):
    decisions = far.plan().decisions

    assert {name: word(decision) for name, decision in decisions.items()} == {"make": "run", "use": "depends"}
    assert decisions["make"].verdict.reasons[0].now == SAID
    assert offered(far) == 2
    assert far.run() == ["make"]


def test_verify_tells_of_an_unknown_store_and_repair_leaves_its_outputs_alone(far):
    for repair in (False, True):
        found = verify_workspace(far.folder, repair=repair)
        assert (found.is_intact, found.unreachable) == (False, 2)
        assert found.problems[0].said == SAID
        (*_, told) = verified_lines([], 3, 10, unknown=0, unreachable=found.unreachable, repaired=repair)
        assert told.endswith("2 of them out of reach, left unchanged")
    assert offered(far) == 2


@pytest.mark.parametrize("verb", ["show", "status", "why"])
def test_an_output_in_an_unknown_store_has_no_uri_and_the_rest_of_the_record_is_shown(far, verb, capsys):
    path = str(write_notebook(far.folder / far.notebook, far.sources))
    words = {"show": ["show", "1"], "status": ["status", path], "why": ["why", path, "make"]}[verb]
    code = outcome([*words, "--json", "--workspace", str(far.folder / ".nbpipe")])
    shown, noted = capsys.readouterr()
    told = json.loads(shown)
    steps = {step["name"]: step for step in told.get("steps", [told.get("last")])}

    assert code == 0
    assert (steps["make"]["outputs"]["a"]["uri"], steps["make"]["outputs"]["a"]["format"]) == (None, "json")
    assert verb == "why" or steps["use"]["outputs"]["b"]["uri"].startswith("file:///")
    assert noted.count("`a.json` is in the datastore `lake`") == 1


def test_what_needs_the_bytes_of_an_unknown_store_says_what_is_known(far, tmp_path):
    with Workspace.open(far.folder) as workspace:
        with pytest.raises(StoreOutOfReach) as raised:
            workspace.results.pull(str(far.folder / far.notebook), "make.a", tmp_path / "out")
        artifact = workspace.results.output(str(far.folder / far.notebook), "a")
        with pytest.raises(StoreOutOfReach):
            workspace.materializer.url(artifact)

    assert (raised.value.message, raised.value.hint) == (SAID, "It knows: `default`.")
