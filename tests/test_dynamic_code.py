"""Code that a notebook executes from text is told once, as something that the analysis cannot look into."""

from __future__ import annotations

import pytest
from sample_cells import fine

STEP = "%%step last -o z\nz = 1"


def told(*sources: str) -> list[str]:
    """Get the messages about code that is executed from text."""
    return [warned.message for warned in fine(*sources).warnings if warned.code == "hidden-code"]


@pytest.mark.parametrize(
    "code",
    [
        "exec(code)", "exec('k = 3')", "exec(code, globals())", "exec(code, None)",
        "def f(text):\n    exec(text)\nf(1)",
        "get_ipython().run_cell(code)", "exec(code, module.__dict__)", "if True:\n    exec(code, globals=globals())",
    ],
)  # fmt: skip
@pytest.mark.parametrize("cell", ["{}", "%%step first -o x\nx = code = module = 1\n{}"])
def test_text_that_is_executed_is_told(code: str, cell: str):
    assert told("code = module = 1", cell.format(code), STEP) == [
        "cell 2 executes text as code, which nbpipe cannot look into"
    ]


@pytest.mark.parametrize(
    "cells",
    [
        ("code = 1\nnames = {}\nexec(code, names)", STEP), ("executor = 1", STEP), ("db.exec('select')", STEP),
        (STEP, "exec('k = 3')"), ("#| local\nexec('k = 3')", STEP), ("#| shared\nexec('k = 3')", STEP),
        ("# exec(code)", STEP), ("%%step only -o x\nexec('x = 1')\nx = 1",),
    ],
)  # fmt: skip
def test_what_reaches_no_step_is_not_told(cells: tuple[str, ...]):
    assert told(*cells) == []


def test_several_cells_are_told_at_once():
    assert told("exec('a = 1')", "1", "exec('b = 1')", "%%step s -o x\nexec('c = 1')\nx = 1", STEP) == [
        "cell 1 (also cells 3, 4) executes text as code, which nbpipe cannot look into"
    ]
