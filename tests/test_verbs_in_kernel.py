"""The verbs in a real kernel: the errors of a shell, help about one verb, and every option that has a meaning there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from magics_kernel import Kernel
from notebook_author import write_notebook

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

CELLS = (
    "#| parameters\nrate = 0.5",
    "%%step one -o x\nimport nbpipe\nprint('said')\nnbpipe.log_metric('loss', 0.125)\nx = rate",
    "%%step two -i x -o y\ny = x",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(folder / "n.ipynb", CELLS)
    lab = Kernel(folder, JPY_SESSION_NAME="n.ipynb")
    lab.run("load", "%load_ext nbpipe")
    lab.run("manual", "%nbpipe defaults run=manual")
    for number, source in enumerate(CELLS):
        lab.run(f"cell-{number}", source)
    yield lab
    lab.close()


@pytest.mark.parametrize(
    "verb, rest",
    [
        ("run", "--tag a=1 --tag a=2"),
        ("run", "-p 1x=3"),
        ("run", "--frm one"),
        ("run", "three"),
        ("why", ""),
        ("runs", "--status faild"),
        ("pull", "one.z"),
        ("plan", "-p rat=1"),
        ("status", "--follow now"),
    ],
)
def test_a_wrong_call_has_the_error_of_the_shell(lab, verb, rest):
    command = [sys.executable, "-m", "nbpipe", verb, "n.ipynb", *rest.split(), "--json"]
    done = subprocess.run(command, cwd=lab.folder, capture_output=True, text=True, timeout=120, check=False)
    (error,) = json.loads(done.stdout)["errors"]
    assert done.returncode == 2
    shown = lab.run("verb", f"%nbpipe {verb} {rest}")[1]
    assert f"{error['code']}: " in shown
    assert error["message"] in shown
    assert error["hint"] in shown


@pytest.mark.parametrize("asked", ["%nbpipe run?", "%nbpipe run ?\n", "%nbpipe run --help", "%nbpipe run a -h"])
def test_help_about_one_verb(lab, asked):
    shown, error = lab.run("help", asked)
    assert error == ""
    assert shown.startswith("Usage: %nbpipe run [STEP...] [OPTIONS]")
    assert "--here" in shown
    assert "--json" not in shown


def test_asking_about_defaults_sets_none(lab):
    for asked in ("%nbpipe defaults --help", "%nbpipe defaults?"):
        assert lab.run("ask", asked)[0].startswith("Usage: %nbpipe defaults")
        assert lab.run("plan", "%nbpipe plan")[1] == ""


def test_options_that_mean_something_here_are_taken(lab):
    assert lab.run("run", "%nbpipe run --to one --experiment E --tag who=ada --keep-going -p rate=0.25")[1] == ""
    assert lab.run("await", "x")[0] == "0.25"
    calls = {
        "runs --limit 1": "one",
        "runs --all --experiment E --tag who=ada --step one": "one",
        "runs --status succeeded": "one",
        "status --follow": "one",
        "logs one": "said",
        "plan -p rate=0.25": "one",
        "why one -p rate=2": "parameter rate: 0.25 → 2",
        "verify --full": "no problem",
        "lint -p rate=2": "",
        "lint --fix": "",
        "fmt --check --long": "would change",
        "compare 1 1": "run 1",
        "show 1": "one: loss = 0.125",
        "status": "one: loss = 0.125",
    }
    for call, text in calls.items():
        shown, error = lab.run("verb", f"%nbpipe {call}")
        assert error == "", call
        assert text in shown, call
    assert "one" not in lab.run("verb", "%nbpipe runs --status failed")[0]


def test_runs_of_other_notebooks_are_listed_when_asked_for(lab):
    write_notebook(lab.folder / "other.ipynb", ["%%step elsewhere -o z\nz = 1"])
    command = [sys.executable, "-m", "nbpipe", "run", "other.ipynb"]
    subprocess.run(command, cwd=lab.folder, capture_output=True, timeout=120, check=True)
    assert "elsewhere" not in lab.run("verb", "%nbpipe runs")[0]
    assert "elsewhere" in lab.run("verb", "%nbpipe runs --all")[0]


def test_following_without_a_front_end_waits_for_the_end(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%%step slow -o x\nimport time\ntime.sleep(1)\nprint('done')\nx = 1"])
    program = (
        "from IPython.core.interactiveshell import InteractiveShell as Shell\n"
        "shell = Shell.instance()\n"
        "for line in ('%load_ext nbpipe', '%nbpipe status --follow'):\n"
        "    shell.run_cell(line).raise_error()\n"
    )
    words = ("run", "n.ipynb", "--detach")
    subprocess.run([sys.executable, "-m", "nbpipe", *words], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    environment = {**os.environ, "JPY_SESSION_NAME": "n.ipynb"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "slow | done" in done.stdout
    assert "succeeded slow" in done.stdout
