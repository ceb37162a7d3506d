"""An error in one place stays there: it refuses the steps that need what is wrong, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_in_process import said
from notebook_author import Author

from nbpipe.errors import NbpipeError, Refusals
from nbpipe.model import Status

A, D = "%%step a -o x\nx = 1", "%%step d -i x -o w\nw = x"


def planned(folder: Path, *cells: str) -> tuple[list[str], dict[str, str], list[str]]:
    """Plan a notebook, and get the steps with a verdict, the refused ones with their reasons, and the errors."""
    plan = Author(folder, *cells).plan()
    return list(plan.decisions), dict(plan.refused), [error.message for error in plan.errors]


@pytest.mark.parametrize(
    "wrong, because",
    [
        ("%%step b -i x -o y --gpus 1\ny = x", "needs `y`, which only a cell with an error may declare"),
        ("%%step b -i x -o y\ny = x +", "needs `b`, which is refused"),
        ("%%step b -i x -o y\ny = x + nowhere", "needs `b`, which is refused"),
        ("%%step b -i x, nothing -o y\ny = x, nothing", "needs `b`, which is refused"),
        ("%%step b -i x, raw=./absent.csv -o y\ny = x, raw", "needs `b`, which is refused"),
        ("%%step b -i x -o y:parquet=./o.json, z=./o.json\ny = z = x", "needs `b`, which is refused"),
    ],
)
def test_a_wrong_step_refuses_itself_and_what_needs_it(tmp_path, wrong, because):
    decided, refused, errors = planned(tmp_path, A, wrong, "%%step c -i y -o z\nz = y", D)

    assert decided == ["a", "d"]
    assert refused == {"b": "has an error", "c": because}
    assert len(errors) == 1


def test_a_wrong_ordinary_cell_refuses_the_steps_that_read_what_it_may_define(tmp_path):
    cells = ("def half(n):\n    return n /", "%%step b -i x -o y\ny = half(x)", "%%step c -i y -o z\nz = y")
    decided, refused, errors = planned(tmp_path, A, *cells, D)

    assert decided == ["a", "d"]
    assert refused == {
        "b": "reads `half`, which only a cell with an error may define", "c": "needs `b`, which is refused",
    }  # fmt: skip
    assert len(errors) == 1


def test_a_file_that_is_missing_refuses_every_step_that_reads_it(tmp_path):
    reading = [f"%%step {name} -i raw=./absent.csv -o {name}_out\n{name}_out = raw" for name in ("b", "c")]
    decided, refused, _ = planned(tmp_path, A, *reading, D)

    assert decided == ["a", "d"]
    assert refused == {"b": "has an error", "c": "has an error"}


@pytest.mark.parametrize(
    "cell", ["#| shared\nimport os\nos.environ['A' =", "#| parameters\nn = open(", "%nbpipe defaults gpus=1"]
)
def test_an_error_of_what_all_steps_share_refuses_all(tmp_path, cell):
    with pytest.raises(NbpipeError):
        Author(tmp_path, cell, A, D).plan()


def test_where_nothing_is_left_the_errors_are_raised(tmp_path):
    with pytest.raises(Refusals) as raised:
        Author(tmp_path, "%%step a -o x\nx = nowhere", "%%step b -i x -o y\ny = x + nothing").plan()
    assert len(raised.value.errors) == 2


def test_only_errors_of_named_steps_and_what_they_need_prevent_a_run(tmp_path):
    author = Author(tmp_path, A, "%%step b -i x -o y --gpus 1\ny = x", "%%step c -i y -o z\nz = y", D)

    assert author.run(steps=("d",)) == {"a", "d"}
    assert author.statuses()["d"] is Status.SUCCEEDED
    for asked in ({"steps": ("c",)}, {}):
        with pytest.raises(NbpipeError, match="there is no option `--gpus`"):
            author.run(**asked)


def test_plan_and_lint_show_the_rest_beside_the_errors(tmp_path):
    author = Author(tmp_path, A, "%%step b -i x -o y --gpus 1\ny = x", "%%step u -i x -o v\nv = 1", D)
    path = str(author.write())

    code, text = said("plan", path)
    assert code == 2
    assert "3 run, 1 refused" in text
    assert "error: cell 2 (step b), line 1" in text

    code, text = said("plan", path, "--json")
    told = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    assert code == 2
    assert [(step["name"], step["verdict"]) for step in told["steps"]] == [
        ("a", "run"), ("u", "run"), ("d", "run"), ("b", "refused"),
    ]  # fmt: skip
    assert [error["cell"] for error in told["errors"]] == [2]

    code, text = said("lint", path)
    assert code == 2
    assert "the input `x` is not used" in text
    assert "there is no option `--gpus`" in text


@pytest.mark.parametrize(
    "binding",
    ["rows = [1]", "for rows in [1]: pass", "def rows(): return 1", "import os as rows", "(rows := 1)",
     "class rows: pass", "with open('a') as rows: pass", "rows, other = 1, 2"],
)  # fmt: skip
def test_a_name_that_another_step_binds_is_said_to_be_bound_there(tmp_path, binding):
    _, _, errors = planned(tmp_path, f"%%step a -o x\nx = 1\n{binding}", "%%step b -i x -o y\ny = x, rows", D)

    assert errors == ["`rows` is bound in step `a` (cell 1), which does not declare it as an output"]


def test_the_last_binding_above_a_step_is_the_one_that_is_named(tmp_path):
    cells = (
        "rows = open('a')",
        "%%step a -o x\nx = rows = 1",
        "rows = open('b')",
        "%%step b -i x -o y\ny = x, rows",
        D,
    )
    _, _, errors = planned(tmp_path, *cells)

    assert errors == ["`rows` is defined in cell 3, which is not part of the pipeline"]
