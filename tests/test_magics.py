"""nbpipe in a live kernel: cells as a front end sends them, and whole notebooks under papermill."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from front_end_kernel import Kernel
from notebook_author import write_notebook

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]


class Lab:
    """A kernel, and cells sent to it with their ids as JupyterLab does; ``number`` stands beside the last one."""

    number = 0

    def __init__(self, folder: Path, **environment: str) -> None:
        self.kernel = Kernel(folder, **environment)

    def run(self, cell_id: str, source: str) -> tuple[str, str]:
        """Run a cell, and wait until its step has ended; get what it shows as text, and its error or nothing."""
        shown = self.kernel.run(cell_id, source)
        self.number = shown.number
        return shown.text, shown.error

    def close(self) -> None:
        """Stop the kernel."""
        self.kernel.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    assert lab.run("load", "%load_ext nbpipe") == ("", "")
    lab.run("defs", "SCALE = 2\ndef scale(v):\n    return v * SCALE")
    yield lab
    lab.close()


def test_a_step_cell_runs_shows_what_it_printed_and_binds_its_outputs(lab):
    shown, error = lab.run("make", "%%step make -o a\nprint('in the step')\na = [1, 2]")
    assert error == ""
    assert "✓ make succeeded" in shown
    assert "in the step" in shown
    assert lab.run("look", "a")[0] == "[1, 2]"


def test_the_other_spelling_and_a_continued_line_mean_the_same(lab):
    assert lab.run("take", "#| step: take -i a\n# | out: b\nb = scale(a)")[1] == ""
    assert lab.run("look", "b")[0] == "[1, 2, 1, 2]"
    shown, error = lab.run("take", "%%step take \\\n   -i a -o b\nb = scale(a)")
    assert error == ""
    assert "↺ take reused" in shown


def test_an_edited_helper_makes_the_step_stale_and_an_edited_cell_replaces_itself(lab):
    lab.run("make", "%%step make -o a\na = [1]")
    lab.run("take", "%%step take -i a -o b\nb = scale(a)")
    lab.run("defs", "SCALE = 3\ndef scale(v):\n    return v * SCALE")
    shown, _ = lab.run("take", "%%step take -i a -o b\nb = scale(a)")
    assert "definition of SCALE" in shown
    assert lab.run("look", "b")[0] == "[1, 1, 1]"


def test_a_class_of_the_notebook_comes_back_as_itself(lab):
    lab.run("class", "class Point:\n    def __init__(self, x):\n        self.x = x")
    assert lab.run("point", "%%step point -o where\nwhere = Point(3)")[1] == ""
    assert lab.run("look", "isinstance(where, Point), where.x")[0] == "(True, 3)"


def test_a_stale_ancestor_runs_first(lab):
    lab.run("make", "%%step make -o a\na = [7]")
    lab.run("next", "%%step next -i a -o c\nc = a")
    lab.run("manual", "%nbpipe defaults run=manual")
    lab.run("make", "%%step make -o a\na = [8]")
    lab.run("manual", "%nbpipe defaults run=submit")
    shown, _ = lab.run("next", "%%step next -i a -o c\nc = a")
    assert "✓ next succeeded" in shown
    assert lab.run("look", "a, c")[0] == "([8], [8])"


def test_a_step_over_two_cells_runs_when_it_is_complete(lab):
    shown, error = lab.run("two", "%%step two -o p,q\np = 1")
    assert (error, "incomplete" in shown) == ("", True)
    assert lab.run("two more", "%%step two --append -i a\nq = a")[1] == ""
    assert lab.run("look", "p")[0] == "1"


def test_a_failed_step_shows_its_own_traceback_and_unbinds_its_outputs(lab):
    lab.run("bad", "%%step bad -o z\nz = 1")
    shown, error = lab.run("bad", "%%step bad -o z\ny = 0\nz = 1 / y")
    assert error == ""
    assert "ZeroDivisionError" in shown
    assert "line 3" in shown
    for _ in range(2):
        _, error = lab.run("look", "z")
        assert "`z` is an output of step bad, which failed" in error
        assert "ZeroDivisionError" in error
        assert "nbpipe/magics" not in error


def test_what_is_refused_says_so_in_the_cell_and_stands_in_nobody_s_way(lab):
    _, error = lab.run("wrong", "%%step wrong --gpus 1 -o w\nw = 1")
    assert "--gpu" in error
    _, error = lab.run("wrong", "%%step wrong -o w\nw = unheard_of")
    assert "`unheard_of`" in error
    assert "Traceback" not in error
    assert lab.run("fine", "%%step fine -o f\nf = 1")[1] == ""
    assert "there is no verb `plam`" in lab.run("verb", "%nbpipe plam")[1]


@pytest.mark.parametrize(
    "cell, written",
    [
        ("%step near -o n\nn = 1", "Write `%%step near -o n`"),
        ("# why\n% nbstep near\nn = 1", "Write `%%nbstep near`"),
        ("%%stpe near -o n\nn = 1", "Write `%%step near -o n`"),
        ("#| steps: near\nn = 1", "Write `#| step: near`"),
        ("m = 1\n%step near -o n", "Begin a cell with `%%step NAME …`"),
    ],
)
def test_a_cell_that_is_nearly_a_step_says_how_to_write_it_and_stands_in_nobody_s_way(lab, cell, written):
    _, error = lab.run("near", cell)
    assert f"cell {lab.number}" in error
    assert "does not declare a step" in error
    assert written in error
    assert "Traceback" not in error
    assert "NameError" in lab.run("look", "n")[1]
    assert lab.run("fine", "%%step fine -o f\nf = 1")[1] == ""


def test_a_step_cell_without_a_body_says_what_it_lacks(lab):
    assert "is declared, incomplete" in lab.run("bare", "%%step bare -o b")[0]
    lab.run("bare", "%%step bare -o b\nb = 1")


def test_every_verb_answers(lab):
    lab.run("wrong", "%%step wrong -o w\nw = 1")
    lab.run("fine", "%%step fine -o f\nprint('hello')\nf = 1")
    pulls = ("pull fine.f", "pull fine.f --to f.json")
    for verb in ("plan", "status", "why fine", "logs fine", *pulls, "runs", "show 1", "lint", "run fine --force"):
        shown, error = lab.run("verb", f"%nbpipe {verb}")
        assert error == "", verb
        assert shown.strip(), verb


def test_errors_name_the_cell_by_the_number_beside_it(lab):
    for _ in range(2):
        lab.run("wrong", "%%step wrong --gpus 1 -o w\nw = 1")
    _, error = lab.run("wrong", "%%step wrong -o w\nw = unheard_of")
    assert f"cell {lab.number} (step wrong)" in error
    lab.run("wrong", "%%step wrong -o w\nw = 1")


def test_why_names_runs_by_their_numbers(lab):
    for _ in range(2):
        lab.run("fine", "%%step fine -o f\nprint('hello')\nf = 1")
    shown, error = lab.run("verb", "%nbpipe why fine")
    assert error == ""
    assert re.search(r"from run \d{1,3}\b", shown)
    assert not re.search(r"\d{8}", shown)


def test_what_this_kernel_does_not_do_is_answered_clearly(lab):
    answers = {
        "publish": "`%nbpipe publish` is not supported yet",
        "init": "a verb of the command line",
        "cancel": "is active",
        "plan --json": "`--json` is for the command line",
        "runs --workspace x": "`--workspace` is for the command line",
        "run -p lr=5": "There is no parameters cell: begin one with `#| parameters`",
    }
    # The run of the cells before goes on for a moment, in case that more of them come.
    ends = time.monotonic() + 60
    while answers["cancel"] not in lab.run("verb", "%nbpipe cancel")[1]:
        assert time.monotonic() < ends
        time.sleep(0.2)
    for words, answer in answers.items():
        assert answer in lab.run("verb", f"%nbpipe {words}")[1], words
    shown, error = lab.run("verb", "%nbpipe")
    assert (error, "plan, run, cancel, status" in shown) == ("", True)


def test_tags_come_from_the_saved_notebook_where_the_server_tells_it(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["rate = 2", "%load_ext nbpipe"], parameters=0)
    lab = Lab(tmp_path, JPY_SESSION_NAME="n.ipynb")
    try:
        lab.run("cell-0", "rate = 2")
        lab.run("cell-1", "%load_ext nbpipe")
        lab.run("cell-0", "rate = 2")
        assert lab.run("s", "%%step s -o x\nx = rate")[1] == ""
        shown, _ = lab.run("verb", "%nbpipe plan -p rate=5")
        assert "parameter rate: 2 → 5" in shown
    finally:
        lab.close()


def papermill(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "n.ipynb", "out.ipynb", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def outputs(folder: Path) -> list[Any]:
    cells = json.loads((folder / "out.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_papermill_runs_the_same_notebook_truthfully(tmp_path):
    write_notebook(
        tmp_path / "n.ipynb",
        ["%load_ext nbpipe", "rate = 2", "%%step s -o x\nprint('rate', rate)\nx = rate", "assert x == 5\nx"],
        parameters=1,
    )
    done = papermill(tmp_path, "-p", "rate", "5")
    assert done.returncode == 0, done.stderr
    text = json.dumps(outputs(tmp_path)[3]["outputs"])
    assert "succeeded" in text
    assert "rate 5" in text


def test_papermill_ends_badly_when_a_step_does(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%load_ext nbpipe", "%%step s -o x\nx = 1 / 0", "print('never')"])
    done = papermill(tmp_path)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert outputs(tmp_path)[2]["outputs"] == []
