"""``nbpipe lint``: ruff sees step cells, and undeclared names are declared in the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from notebook_author import write_notebook

from nbpipe.authoring.notebook_edits import rewrite_notebook
from nbpipe.authoring.notebook_linting import find_ruff, quick_fixed_cells, ruff_warnings
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells

CELLS = [
    "rate = 0.5",
    "import json\nimport math\nimport os",
    (
        "%%step late -i table=./t.csv, old=early.df -o out:dir, x \\\n  --retries 2\n"
        "x = scale(json.loads(old)) * rate\nout, table\nunused = nowhere = 1"
    ),
    "#| step: early\n#| out: df\ndf = str(math.pi)",
    "def scale(v):\n    return later(v)\ndef later(v):\n    return v",
    "print(x, df, wrong)",
]


def found(folder: Path, *cells: str) -> list[tuple[str, int | None, int | None, str]]:
    """Get what ruff says about a notebook of these cells: code, cell, line, text."""
    ruff = find_ruff()
    if ruff is None:
        pytest.skip("ruff is not installed")
    (folder / "ruff.toml").write_text('[lint]\nselect = ["F", "E501", "ERA"]\n')
    path = write_notebook(folder / "n.ipynb", cells, parameters=0)
    linted = ruff_warnings(path, parse_cells(read_notebook(path).cells), ruff)
    assert linted.note == ""
    return [(w.code, w.place.cell, w.place.line, w.message) for w in linted.warnings]


def test_step_cells_are_seen_and_names_that_are_there_are_no_false_alarms(tmp_path):
    told = found(tmp_path, *CELLS)

    assert [(code, cell, line) for code, cell, line, _ in told] == [("ruff:F401", 2, 3), ("ruff:F821", 6, 1)]
    assert told[1][3] == "Undefined name `wrong`"


def test_a_finding_in_a_step_names_its_cell_and_line(tmp_path):
    told = found(tmp_path, "rate = 1", "%%step a \\\n  -o x\n\nimport os\nx = f''")

    assert [(code, cell, line) for code, cell, line, _ in told] == [("ruff:F401", 2, 4), ("ruff:F541", 2, 5)]


def test_a_project_that_keeps_ruff_off_its_notebooks_is_obeyed(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ["import os", "%%step a -o x\nx = 1"])
    (tmp_path / "ruff.toml").write_text('extend-exclude = ["*.ipynb"]\n')
    ruff = find_ruff()
    if ruff is None:
        pytest.skip("ruff is not installed")
    assert ruff_warnings(path, parse_cells(read_notebook(path).cells), ruff).warnings == ()


def test_a_ruff_that_does_not_answer_is_told(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ["%%step a -o x\nx = 1"])
    (tmp_path / "ruff.toml").write_text("nonsense = [")
    ruff = find_ruff()
    if ruff is None:
        pytest.skip("ruff is not installed")
    assert "could not be run" in ruff_warnings(path, parse_cells(read_notebook(path).cells), ruff).note
    assert "could not be run" in ruff_warnings(path, parse_cells(()), str(tmp_path / "no-ruff")).note


def test_undeclared_names_are_declared_in_the_file_and_nothing_else_is_touched(tmp_path):
    there = ["x = 1", "%%step a -o p, q\np = q = 1"]
    sources = [*there, "%%step b -i p -o r\nr = p + q", "%%step c\n#| out: s\ns = q + r"]
    path = write_notebook(tmp_path / "n.ipynb", sources)
    rewrite_notebook(path, quick_fixed_cells(path))

    written = [cell["source"] for cell in json.loads(path.read_text())["cells"]]
    assert written == [*there, "%%step b -i p, q -o r\nr = p + q", "%%step c\n#| in: q, r\n#| out: s\ns = q + r"]
    assert parse_cells(read_notebook(path).cells).errors == ()
    assert quick_fixed_cells(path) == {}


def test_no_mend_that_would_make_a_ring(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ["%%step a -i q -o p\np = q", "%%step b -o q\nq = p"])
    assert quick_fixed_cells(path) == {}
