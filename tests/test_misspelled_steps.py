"""Cells that were meant as steps: refused, with the line to write."""

from __future__ import annotations

import pytest
from sample_cells import fine, wrong

OTHER = "%%step other -o y\ny = 1"


@pytest.mark.parametrize(
    "cell, line, written",
    [
        ("%step a -o x\nx = 1", 1, "%%step a -o x"),
        ("%nbstep a -o x\nx = 1", 1, "%%nbstep a -o x"),
        ("  %step a", 1, "%%step a"),
        ("% step a", 1, "%%step a"),
        ("% %step a", 1, "%%step a"),
        ("%% step a", 1, "%%step a"),
        ("%%%step a", 1, "%%step a"),
        ("%step", 1, "%%step NAME"),
        ("%%Step a\nx = 1", 1, "%%step a"),
        ("%%steps a", 1, "%%step a"),
        ("%%stpe a", 1, "%%step a"),
        ("%%setp a", 1, "%%step a"),
        ("%%nb_step a", 1, "%%nbstep a"),
        ("%Steps a", 1, "%%step a"),
        ("\n\n%step a", 3, "%%step a"),
        ("# why\n\n# how\n%step a", 4, "%%step a"),
        ("# why\n%%steps a", 2, "%%step a"),
        ("#| stp: a\n#| out: x\nx = 1", 1, "#| step: a"),
        ("# | Step: a", 1, "#| step: a"),
        ("#| steps: a", 1, "#| step: a"),
        ("#|step a -o x", 1, "#| step: a -o x"),
        ("#| step = a", 1, "#| step: a"),
        ("#| step", 1, "#| step: NAME"),
        ("## | step: a", 1, "#| step: a"),
        ("#  | step: a", 1, "#| step: a"),
        ("# why\n#| stp: a", 2, "#| step: a"),
    ],
)
def test_a_cell_that_is_nearly_a_step_is_refused_with_the_right_spelling(cell: str, line: int, written: str) -> None:
    said = wrong(OTHER, cell)
    assert said.startswith(f"cell 2, line {line}, column 1: `")
    assert "does not declare a step" in said
    assert f"Write `{written}`" in said


@pytest.mark.parametrize(
    "cell",
    [
        *("%step?", "%%step?", "%%step??", "%%steps?", "# step: load", "# Step 1: load", "#| label: x", "#| export"),
        *(
            "# see %step",
            "%%setup x\n(",
            "%store x",
            "%%stata\n(",
            "%stop",
            "x = 1  # %step a",
            "s = '''\n%step a\n'''",
        ),
    ],
)
def test_a_cell_that_only_looks_like_one_is_none(cell: str) -> None:
    assert len(fine(OTHER, cell).steps) == 1


@pytest.mark.parametrize("above", ["x = 1", "%matplotlib inline", "%%time\nx = 1", "if True:\n    x = 1"])
def test_one_percent_sign_below_code_is_refused(above: str) -> None:
    indent = "    " if "if" in above else ""
    said = wrong(OTHER, f"{above}\n{indent}%step a -o x")
    assert "cell 2, line " in said
    assert "`%step a -o x` stands below" in said
    assert "%%step" in said
