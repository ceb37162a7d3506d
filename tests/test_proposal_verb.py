"""``propose`` as a whole command: what it shows, what it writes, and what it leaves alone."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_in_process import said
from hypothesis import given
from hypothesis import strategies as st
from magics_kernel import Kernel
from notebook_author import write_notebook

from nbpipe.authoring.notebook_edits import edit_notebook
from nbpipe.data.value_comparison import compare
from nbpipe.errors import StoreOutOfReach
from nbpipe.language.notebook_cell_insertion import with_new_cells
from nbpipe.model.proposals import CellEdits

CELLS = (
    "import json",
    "def twice(x):\n    return 2 * x\n\nrows = twice([1, 2])",
    "rows",
    "total = twice(sum(rows))\nprint(total)",
)


def whole(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one whole command."""
    command = [sys.executable, "-m", "nbpipe", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def described(path: Path, **changes: object) -> dict[str, object]:
    """Change a notebook's document, as its author would with another tool, and get it."""
    document: dict[str, object] = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return document


def test_a_proposal_is_shown_and_nothing_is_written(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", CELLS)
    before = path.read_bytes()
    code, text = said("propose", str(path))
    assert code == 0
    assert "@@ new cell above cell 2 @@\n+def twice(x):\n+    return 2 * x" in text
    assert "+#| step: make_rows -o rows" in text
    assert "make_total  4      make_rows  rows    total" in text
    assert text.endswith(
        "2 steps from 2 of 4 code cells, 1 new cell with definitions\nnothing is written without --write\n"
    )
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_written_proposal_is_planned_run_and_reused(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", CELLS)
    described(path)
    before = json.loads(path.read_text())
    told = json.loads(whole(tmp_path, "propose", "n.ipynb", "--write", "--json").stdout)
    assert told["wrote"] is True
    assert [(step["name"], step["needs"]) for step in told["steps"]] == [
        ("make_rows", []),
        ("make_total", ["make_rows"]),
    ]
    after = json.loads(path.read_text())
    assert [cell["id"] for cell in after["cells"]] == ["cell-0", "cell-1-above", "cell-1", "cell-2", "cell-3"]
    assert after["nbformat_minor"] == before["nbformat_minor"]
    assert [cell["metadata"] for cell in after["cells"]][2:] == [cell["metadata"] for cell in before["cells"]][1:]
    namespace: dict[str, object] = {}
    for cell in after["cells"]:
        exec("".join(cell["source"]), namespace)  # noqa: S102  # it runs plainly
    assert namespace["total"] == 12
    assert "warning" not in whole(tmp_path, "lint", "n.ipynb").stderr
    assert whole(tmp_path, "plan", "n.ipynb").returncode == 0
    again = whole(tmp_path, "propose", "n.ipynb")
    assert again.returncode == 2
    assert "has steps already, the first in cell 3" in again.stderr


def test_other_languages_and_formats_are_refused(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ("x <- 1",))
    described(path, metadata={"kernelspec": {"name": "ir", "language": "R"}})
    code, text = said("propose", str(path), "--json")
    assert code == 2
    assert "is written in R" in text
    assert said("propose", str(tmp_path / "m.ipynb"))[0] == 2


def test_a_notebook_without_steps_to_propose_is_left_alone(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ("import json", "exec('x = 1')\ny = 2", "y"))
    before = path.read_bytes()
    code, text = said("propose", str(path), "--write")
    assert code == 0
    assert "note: cell 2 stays as it is: its code is not all in its text" in text
    assert "no steps are proposed; the notebook is left as it is" in text
    assert path.read_bytes() == before


def test_a_file_that_changed_meanwhile_is_not_written(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", CELLS)
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    with pytest.raises(StoreOutOfReach, match="was changed by another program"):
        edit_notebook(path, CellEdits({1: "import json as json"}), content)


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_new_cells_keep_the_rest_of_the_file(tmp_path, indent):
    path = write_notebook(tmp_path / "n.ipynb", CELLS)
    text = json.dumps(json.loads(path.read_text()), indent=indent)
    fresh = with_new_cells(text, {2: "a = 1\nb = 2", 4: "c = 3"})
    kept = json.loads(fresh)
    added = [kept["cells"].pop(place) for place in (4, 1)]
    assert kept == json.loads(text)
    assert [cell["source"] for cell in added] == [["c = 3"], ["a = 1\n", "b = 2"]]
    if indent:
        assert fresh == json.dumps(json.loads(fresh), indent=indent)


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_both_ways_are_run_and_compared(tmp_path):
    cells = (
        *CELLS,
        "import time\nnow = [time.time()]",
        "class Pair:\n    def __init__(self, a):\n        self.a = a\n\npair = Pair(total)",
        "other = iter(twice([1]))",
        "class Odd:\n    def __reduce_ex__(self, how):\n        return Odd, (), None, iter([open])\n\nodd = Odd()",
    )
    path = write_notebook(tmp_path / "n.ipynb", cells)
    before = path.read_bytes()
    done = whole(tmp_path, "propose", "n.ipynb", "--check", "--json")
    comparison = json.loads(done.stdout)["comparison"]
    results = {f"{value['step']}.{value['output']}": value["result"] for value in comparison["values"]}
    assert results["make_rows.rows"] == results["make_total.total"] == results["make_pair.pair"] == "equal"
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == (before, [path])
    assert comparison["ran_again"] == []
    assert (done.returncode, comparison["equal"]) == (0, True)


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_what_differs_or_fails_is_told(tmp_path):
    cells = (
        "import time, os",
        "stamps = [time.time()]",
        "level = [os.environ.get('SHLVL_OF_MINE')]",
        "os.environ['SHLVL_OF_MINE'] = str(len(level))",
        "seen = [os.environ.get('SHLVL_OF_MINE'), *level]\nprint(seen)",
        "gap = [stamps[0], time.time()]\nprint(gap)",
        "gap[5]",
    )
    write_notebook(tmp_path / "n.ipynb", cells)
    done = whole(tmp_path, "propose", "n.ipynb", "--check", "--write")
    assert done.returncode == 1
    assert "make_stamps.stamps: varies" in done.stdout
    assert "cell 7 failed in the notebook's plain run: IndexError" in done.stdout
    assert "make_seen.seen: differs (['1', None] in the notebook, [None, None] in the pipeline)" in done.stdout
    assert "note: no step gets `os.environ['SHLVL_OF_MINE'] = str(len(level))`" in done.stderr
    assert "wrote n.ipynb" in done.stdout


@pytest.mark.kernel
@pytest.mark.slow
def test_the_magic_shows_a_proposal_and_writes_it(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", CELLS)
    lab = Kernel(tmp_path, JPY_SESSION_NAME="n.ipynb")
    try:
        lab.run("load", "%load_ext nbpipe")
        shown, error = lab.run("propose", "%nbpipe propose")
        assert error == ""
        assert "+#| step: make_rows -o rows" in shown
        assert "nothing is written without --write; save the notebook first" in shown
        assert "is for the command line" in lab.run("check", "%nbpipe propose --check")[1]
        shown, error = lab.run("write", "%nbpipe propose --write")
        assert error == ""
        assert "n.ipynb changed on disk: reload it" in shown
    finally:
        lab.close()
    assert '"#| step: make_total -i rows -o total' in path.read_text()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(VALUES, VALUES)
def test_values_are_compared_by_what_they_are(first, second):
    assert compare(first, copy.deepcopy(first))[0] == "equal"
    assert (compare(first, second)[0] == "equal") == (repr(first) == repr(second) or first == second)


class Node:
    """A value with a reference to itself."""

    def __init__(self, number) -> None:
        self.number, self.me = number, self


class Circle:
    """A value that computes another one when it is first asked for it."""

    def __init__(self, radius) -> None:
        self.radius = radius

    @functools.cached_property
    def area(self) -> float:
        """Get the area."""
        return 3 * self.radius**2


def test_cached_properties_are_no_part_of_a_value():
    first, second = Circle(1), Circle(1)
    assert first.area == 3
    assert compare(first, second)[0] == "equal"
    assert compare(first, Circle(2))[0] == "differs"


def test_values_of_libraries_and_of_classes_are_compared():
    table = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", "y"]})
    for first, second in ((table, table.assign(a=2.0)), (np.array([np.nan]), np.array([1.0])), (Node(1), Node(2)),
                          (np.random.default_rng(1), np.random.default_rng(2)), (table.a, table.b),
                          ({"a": table}, {"a": table.assign(b="z")}), (lambda x: x + 1, lambda x: x - 1)):  # fmt: skip
        assert compare(first, copy.deepcopy(first))[0] == "equal"
        assert compare(first, second)[0] == "differs"
    assert compare(1, 1.0)[0] == "differs"
    assert compare(threading.Lock(), threading.Lock())[0] == "not compared"
