"""The tools of the command line as whole commands: what they print, write and leave alone."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from notebook_author import write_notebook

from nbpipe.authoring.notebook_linting import find_ruff

FAILING = (
    "rate: float = 0.5",
    "SCALE = 2",
    "%%step a -o x\nx = [1, 2]",
    "%%step b -i x -o y\nt = x[0] * SCALE * rate\ny = t / 0",
)


def nbpipe(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one whole command, without a terminal."""
    command = [sys.executable, "-m", "nbpipe", *words]
    nothing = subprocess.DEVNULL
    return subprocess.run(command, cwd=folder, stdin=nothing, capture_output=True, text=True, timeout=120, check=False)


def typed(folder: Path, words: tuple[str, ...], keys: str, until: str) -> str:
    """Run a command on a terminal of its own, type into it, and get what it shows up to a text."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "IPY_TEST_SIMPLE_PROMPT": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "nbpipe", *words]
    process = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.write(ours, keys.encode())
    said, ends = "", time.monotonic() + 90
    try:
        while until not in said and time.monotonic() < ends:
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 65_536).decode("utf-8", "replace")
        process.wait(timeout=60)
    except OSError:
        # A terminal whose other end is closed cannot be read any more.
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert until in said, said
    return said


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Get a folder whose notebook was run once, and failed."""
    folder = tmp_path_factory.mktemp("project")
    write_notebook(folder / "n.ipynb", FAILING, parameters=0)
    assert nbpipe(folder, "run", "n.ipynb").returncode == 1
    return folder


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
class TestOfRecordedRuns:
    """What is told of a run that is over."""

    def test_debug_without_a_terminal_prints_what_the_step_was_given(self, project):
        done = nbpipe(project, "debug", "n.ipynb", "b")
        assert done.returncode == 0
        assert "which failed: cell 4, line 3: ZeroDivisionError" in done.stdout
        assert "  rate = 0.5" in done.stdout
        assert "y = t / 0  # ← ZeroDivisionError: float division by zero" in done.stdout
        assert "%nbpipe debug b" in done.stderr

    def test_debug_as_json_has_all_that_a_program_needs(self, project):
        told = json.loads(nbpipe(project, "debug", "n.ipynb", "b", "--json").stdout)
        (path,) = told["inputs"]["x"]["paths"]
        assert json.loads(Path(path).read_text()) == [1, 2]
        assert (told["parameters"], told["locals"]) == ({"rate": 0.5}, ["rate", "t"])
        assert (told["error"]["cell"], told["error"]["line"]) == (4, 3)

    def test_debug_on_a_terminal_is_a_session_with_all_of_it_bound(self, project):
        words = ("debug", "n.ipynb", "b", "--locals", "--workspace", str(project / ".nbpipe"))
        said = typed(project, words, "print('found', x, rate, b_locals.t)\nexit\n", until="found [1, 2] 0.5 1.0")
        assert "which failed: cell 4, line 3" in said

    def test_compare_shows_two_runs(self, project):
        nbpipe(project, "run", "n.ipynb", "-p", "rate=0.25")
        shown = nbpipe(project, "compare", "1", "2")
        assert shown.returncode == 0, shown.stderr
        assert "parameter rate: 0.5 → 0.25" in shown.stdout
        told = json.loads(nbpipe(project, "compare", "1", "2", "--json").stdout)
        assert told["parameters"] == {"rate": [0.5, 0.25]}
        assert [(step["name"], step["status"]) for step in told["steps"]] == [
            ("a", ["succeeded", "reused"]),
            ("b", ["failed", "failed"]),
        ]
        assert told["steps"][0]["outputs"]["x"]["same"] is True
        assert nbpipe(project, "compare", "1", "99").returncode == 2

    def test_debug_of_an_unknown_step_is_refused(self, project):
        done = nbpipe(project, "debug", "n.ipynb", "bb")
        assert done.returncode == 2
        assert "has not been executed" in done.stderr


WIDE = "%%step train -i features, raw:csv=./data/raw.csv, labels=prepare.labels -o model, report:json --retries 2"
LONG = (
    "%%step train\n#| in: features, raw:csv=./data/raw.csv, labels=prepare.labels\n#| out: model, report:json\n"
    "#| retries: 2"
)


def sources(path: Path) -> list[str]:
    """Get the sources of a notebook's cells."""
    return [cell["source"] for cell in json.loads(path.read_text())["cells"]]


class TestFmt:
    """Declarations laid out in saved notebooks."""

    def test_a_wide_declaration_becomes_long_and_is_left_alone_then(self, tmp_path):
        path = write_notebook(tmp_path / "n.ipynb", ["import os", f"{WIDE}\nx = 1"])
        before = path.read_bytes()
        checked = nbpipe(tmp_path, "fmt", "n.ipynb", "--check")
        assert (checked.returncode, checked.stdout) == (1, "would change n.ipynb: cell 2\n")
        assert path.read_bytes() == before
        assert nbpipe(tmp_path, "fmt", "n.ipynb").stdout == "changed n.ipynb: cell 2\n"
        assert sources(path) == ["import os", f"{LONG}\nx = 1"]
        assert nbpipe(tmp_path, "fmt", "--check", "n.ipynb").returncode == 0
        assert nbpipe(tmp_path, "fmt", "--short", "n.ipynb").returncode == 0
        assert path.read_bytes() == before

    def test_several_notebooks_are_told_as_json(self, tmp_path):
        write_notebook(tmp_path / "a.ipynb", [f"{WIDE}\nx = 1"])
        write_notebook(tmp_path / "b.ipynb", ["x = 1"])
        told = json.loads(nbpipe(tmp_path, "fmt", "a.ipynb", "b.ipynb", "--json").stdout)
        assert told == {"notebooks": [{"notebook": "a.ipynb", "cells": [1]}, {"notebook": "b.ipynb", "cells": []}]}

    @pytest.mark.parametrize("cell", ["%%step a --gpus 1\nx = 1", None])
    def test_what_cannot_be_read_is_left_untouched(self, tmp_path, cell):
        path = tmp_path / "n.ipynb"
        if cell is None:
            path.write_text("{")
        else:
            write_notebook(path, [f"{WIDE}\nx = 1", cell])
        before = path.read_bytes()
        done = nbpipe(tmp_path, "fmt", "n.ipynb")
        assert (done.returncode, done.stdout) == (2, "")
        assert "error:" in done.stderr
        assert path.read_bytes() == before


class TestLintAndInit:
    """Linters, and the settings that they need."""

    def test_fix_declares_what_a_step_reads(self, tmp_path):
        path = write_notebook(tmp_path / "n.ipynb", ["import os", "%%step a -o x\nx = 1", "%%step b -o y\ny = x"])
        refused = nbpipe(tmp_path, "lint", "n.ipynb")
        assert refused.returncode == 2
        assert "Add `-i x`." in refused.stderr
        done = nbpipe(tmp_path, "lint", "n.ipynb", "--fix")
        assert done.returncode == 0, done.stderr
        assert "changed n.ipynb: cell 3" in done.stdout
        assert sources(path)[2] == "%%step b -i x -o y\ny = x"
        told = json.loads(nbpipe(tmp_path, "lint", "n.ipynb", "--fix", "--json").stdout)
        assert told["fixed"] == []

    def test_what_ruff_says_is_among_the_warnings(self, tmp_path):
        if find_ruff() is None:
            pytest.skip("ruff is not installed")
        write_notebook(tmp_path / "n.ipynb", ["import os", "%%step a -o x\nimport json\nx = 1"])
        (tmp_path / "ruff.toml").write_text('lint.select = ["F"]')
        assert nbpipe(tmp_path, "lint", "n.ipynb").stderr == ""
        done = nbpipe(tmp_path, "lint", "n.ipynb", "--ruff")
        assert "warning: cell 2 (step a), line 2, column 8: `json` imported but unused" in done.stderr
        told = json.loads(nbpipe(tmp_path, "lint", "n.ipynb", "--ruff", "--json").stdout)
        found = [(warned["code"], warned["cell"], warned["line"]) for warned in told["warnings"]]
        assert found == [("ruff:F401", 1, 1), ("ruff:F401", 2, 2)]

    def test_init_writes_the_guard_once(self, tmp_path):
        first = nbpipe(tmp_path, "init")
        assert "pyproject.toml" in first.stdout
        assert nbpipe(tmp_path, "init").stdout.count("\n") == 1
        told = json.loads(nbpipe(tmp_path, "init", "--json").stdout)
        assert (told["wrote"], told["add"]) == ([], [])


RETRIED = (
    (
        "%%step a -o x\n#| retries: 1\nfrom pathlib import Path\nimport nbpipe\n"
        "nbpipe.log_metric('loss', 2.0 if Path('tried').exists() else 1.0)\nprint('trying')\n"
        "if not Path('tried').exists():\n    Path('tried').touch()\n    nbpipe.log_metric('tries', 1)\n"
        "    raise ValueError('not yet')\nx = 1"
    ),
    "%%step b -i x -o y\ny = x + 1",
)


@pytest.mark.kernel
def test_both_attempts_of_a_retried_step_are_followed(tmp_path):
    write_notebook(tmp_path / "n.ipynb", RETRIED)
    ran = nbpipe(tmp_path, "run", "n.ipynb")
    assert ran.returncode == 0, ran.stderr
    progress = [line for line in ran.stderr.splitlines() if " a" in line]
    assert [line.partition(" in ")[0] for line in progress] == [
        "▸ running a: first run", "✗ failed a (attempt 1)", "▸ running a (attempt 2): first run",
        "✓ succeeded a (attempt 2)",
    ]  # fmt: skip

    followed = nbpipe(tmp_path, "status", "n.ipynb", "--follow")
    lines = [line.partition(" in ")[0] for line in followed.stderr.splitlines()]
    failed, succeeded = lines.index("✗ failed a (attempt 1)"), lines.index("✓ succeeded a (attempt 2)")
    assert "a | trying" in lines[:failed]
    assert "a | trying" in lines[failed:succeeded]


@pytest.mark.kernel
def test_status_has_the_latest_state_of_every_step(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ("%%step a -o x\nx = 1", "%%step b -i x -o y\ny = x + 1"))
    first = json.loads(nbpipe(tmp_path, "run", "n.ipynb", "--json").stdout)
    second = json.loads(nbpipe(tmp_path, "run", "n.ipynb", "--to", "a", "--force", "--json").stdout)
    status = json.loads(nbpipe(tmp_path, "status", "n.ipynb", "--json").stdout)

    assert status["run"] == second["run"]
    assert [(step["name"], step["run"]) for step in status["steps"]] == [("a", second["run"]), ("b", first["run"])]
    assert [line.split()[:1] for line in nbpipe(tmp_path, "status", "n.ipynb").stdout.splitlines()[2:4]] == [
        ["a"],
        ["b"],
    ]
