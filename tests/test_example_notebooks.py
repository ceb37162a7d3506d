"""The example notebooks are valid, clean, and complete: what a reader opens is what the pipeline runs."""

from __future__ import annotations

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NAMES = ("quickstart.ipynb", "images.ipynb")


def cells(name: str, kind: str = "code") -> list[dict]:
    """Get a notebook's cells of one kind."""
    notebook = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    """Get a cell's text with a magic's line turned into a comment."""
    return re.sub(r"\A%+", "#", "".join(cell["source"]))


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_valid_and_clean(name):
    """Format 4.5, ids that tell what a cell is, no output and no count of anybody's run."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]

    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []
    assert [cell.id for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_python(name):
    """Without its magic's line each cell compiles."""
    for cell in cells(name):
        compile(source(cell), cell["id"], "exec")


@pytest.mark.parametrize("name", NAMES)
def test_both_spellings_of_a_step_are_shown(name):
    """A reader meets the magic and the comment form."""
    text = "\n".join("".join(cell["source"]) for cell in cells(name))

    assert "\n%%step " in text
    assert "\n#| step: " in text


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_typed_and_explained(name):
    """Each has an annotation, a default and a comment that is its help."""
    (cell,) = (cell for cell in cells(name) if "parameters" in cell["metadata"].get("tags", ()))
    lines = "".join(cell["source"]).splitlines()

    assert all(isinstance(ast.parse(line).body[0], ast.AnnAssign) and "  # " in line for line in lines)


def test_the_housing_data_are_whole():
    """The copy in the repository is the data set that the README names, row for row."""
    with (NOTEBOOKS / "data" / "housing.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == 20_640
    assert "1990" in (NOTEBOOKS / "data" / "README.md").read_text(encoding="utf-8")


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize(
    "name, changed, executed",
    [
        ("quickstart.ipynb", "learning_rate=0.2", {"boosting", "compare"}),
        ("images.ipynb", None, set()),
    ],
)
def test_notebooks_run_and_run_again_only_what_changed(name, changed, executed, tmp_path):
    """The whole notebook runs on a cluster; unchanged nothing runs, and with a parameter changed only who reads it."""
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".nbpipe"))

    first = run(tmp_path, name)
    again = run(tmp_path, name)
    assert {step["status"] for step in first["steps"]} == {"succeeded"}
    assert {step["status"] for step in again["steps"]} == {"reused"}
    if changed:
        other = run(tmp_path, name, "-p", changed)
        assert {step["name"] for step in other["steps"] if step["attempts"]} == executed


def run(folder: Path, name: str, *words: str) -> dict:
    """Run a notebook by the command line and get what it says."""
    command = [sys.executable, "-m", "nbpipe", "run", f"notebooks/{name}", "--json", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
