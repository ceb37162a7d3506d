"""Attacks and what answers them; each test is named after its row, and fails when its guard is taken away."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_author import Author, write_notebook
from stored import path_in

from nbpipe.errors import NbpipeError, Refusals, Refused
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.step_notebook import render_step_notebook
from nbpipe.model import Cell, Status
from nbpipe.run.process_identity import this_owner
from nbpipe.workspace import Workspace, request_for

pytestmark = [pytest.mark.kernel]

EVIL = "__import__('os').system('touch evil')"
NAMES = (
    "`touch evil`.ipynb",
    "$(touch evil).ipynb",
    "a;touch evil;.ipynb",
    "-p x=1.ipynb",
    "quote'\".ipynb",
    "ü ☃ …\u202e.ipynb",
)


@pytest.mark.parametrize("name", NAMES)
def test_s15_the_names_of_notebooks_and_folders_are_never_run(tmp_path, name):
    folder = tmp_path / name.removesuffix(".ipynb")
    folder.mkdir()
    write_notebook(folder / name, ["%%step a -o x\nx = 1"])
    command = [sys.executable, "-m", "nbpipe", "run", "--json", "--", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "succeeded"
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("name", [f"x = 1; {EVIL}; y", "a b", "", "x\n" + EVIL, "class", "ﬁ"])
def test_s16_the_name_of_a_parameter_is_never_code(tmp_path, name):
    author = Author(tmp_path, "rate = 1", "%%step a -o x\nx = rate", parameters=0)
    with pytest.raises(NbpipeError, match="there is no parameter"):
        author.plan(texts={name: "1"})
    done = subprocess.run(
        [sys.executable, "-m", "nbpipe", "run", "work.ipynb", "-p", f"{name}=1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "value", [EVIL, "'; " + EVIL + " #", '""" + ' + EVIL, "\\'); " + EVIL, "{}\n" + EVIL, "\x00\r\n"]
)
def test_s17_the_value_of_a_parameter_is_never_code(value):
    cells = [
        Cell(1, "rate = 'x'\nmore = {'k': ['v']}", tags=frozenset({"parameters"})),
        Cell(2, "%%step a -o x\nx = rate, more"),
    ]
    reading = parse_cells(cells)
    given = {"rate": value, "more": {value: [value]}}
    rendered = json.loads(render_step_notebook(reading.steps[0], reading.code["a"], given, None))
    source = next(cell["source"] for cell in rendered["cells"] if "parameters" in cell["metadata"]["tags"])
    delivered: dict[str, object] = {}
    exec(source, {"__import__": None}, delivered)  # noqa: S102  # that this is harmless is what is tested
    assert delivered == given


@pytest.mark.parametrize("kernel", ["../../x", "python3; touch evil", "$(touch evil)", "x" * 300, "."])
def test_s17_the_name_of_a_kernel_is_only_looked_up(tmp_path, kernel):
    write_notebook(tmp_path / "n.ipynb", ["%%step a -o x\nx = 1"], kernel=kernel)
    with Workspace.open(tmp_path) as workspace, pytest.raises((Refused, Refusals)):
        workspace.plans.plan(request_for(tmp_path / "n.ipynb"))
    assert not (tmp_path / "evil").exists()


def test_s22_a_result_that_others_put_into_the_store_is_never_taken(tmp_path):
    author = Author(tmp_path, "%%step a -o x\nx = [1]", "%%step b -i x -o y\ny = x")
    author.run()
    stored = path_in(author.folder, author.step("a").artifacts[0])
    status = stored.stat()
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes().replace(b"1", b"2"))
    os.utime(stored, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert author.run() == {"a"}, "its bytes are not those of its digest, whatever its size and time"
    assert author.value("y") == [1]


def test_s22_who_wrote_a_result_is_recorded(tmp_path):
    author = Author(tmp_path, "%%step a -o x\nx = 1")
    author.run()
    assert author.report is not None
    writer = author.report.run.owner.split("|")
    assert writer == this_owner(author.report.run.id).split("|")
    assert writer[-1] == getpass.getuser()


CANARY = "canary-7f3d1e"


def test_s26_the_value_of_an_environment_variable_is_stored_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("NBPIPE_TEST_TOKEN", CANARY)
    monkeypatch.setenv("NBPIPE_TEST_UNDECLARED", CANARY)
    author = Author(
        tmp_path,
        "%%step good -o x --envvar NBPIPE_TEST_TOKEN\nimport os\nx = len(os.environ['NBPIPE_TEST_TOKEN'])\n"
        "assert 'NBPIPE_TEST_UNDECLARED' not in os.environ",
        "%%step bad -i x -o y --envvar NBPIPE_TEST_TOKEN\ny = x / 0",
    )
    author.run()
    assert author.statuses() == {"good": Status.SUCCEEDED, "bad": Status.FAILED}
    assert author.value("x") == len(CANARY)
    leaks = [
        path for path in (tmp_path / ".nbpipe").rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert leaks == []


def test_s26_a_repository_s_password_is_stored_nowhere(tmp_path):
    run = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*run, "remote", "add", "origin", f"https://ada:{CANARY}@example.com/x.git"], check=True)
    subprocess.run([*run, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    author = Author(tmp_path, "%%step a -o x\nx = 1")
    author.run()
    assert author.report is not None
    assert author.report.run.git is not None
    assert author.report.run.git.remote == "https://example.com/x.git"
    leaks = [
        path for path in (tmp_path / ".nbpipe").rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert leaks == []


def test_s31_executed_notebooks_are_neither_signed_nor_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    author = Author(
        tmp_path, "%%step a -o x\nfrom IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))\nx = 1"
    )
    author.run()
    executed = json.loads(Path(author.step("a").notebook or "").read_text())
    assert not any("trusted" in cell["metadata"] for cell in executed["cells"])
    assert "signature" not in executed["metadata"]
    assert not list(tmp_path.rglob("nbsignatures.db"))


def test_a_step_cannot_write_outside_its_own_outputs_by_name(tmp_path):
    with pytest.raises(NbpipeError):
        Author(tmp_path, "%%step a -o ../x:file\nx = 1").plan()
    with pytest.raises(NbpipeError):
        Author(tmp_path, "%%step a -o x:file.../../y\nx = 1").plan()


def test_stored_parameters_are_those_given_and_nothing_else(tmp_path):
    author = Author(tmp_path, "rate = 1", "%%step a -o x\nx = rate", parameters=0)
    author.run(values={"rate": 3})
    assert author.report is not None
    assert dict(author.report.run.parameters) == {"rate": 3}
    assert dataclasses.asdict(author.report.run)["notebook"] == str(author.path)
