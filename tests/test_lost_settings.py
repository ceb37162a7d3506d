"""A setting that a step would have in one kernel, and does not get, is told beforehand."""

from __future__ import annotations

import pytest
from sample_cells import fine

IMPORTS = "import numpy as np\nimport pandas as pd\nimport matplotlib.pyplot as plt\nimport os"
PANDAS = "pd.set_option('display.max_rows', 5)"
USES = "%%step b -o y\ny = repr(pd.DataFrame({'a': range(9)}))"


def told(*sources: str) -> list[str]:
    """Get the messages about changes that reach no step."""
    return [warned.message for warned in fine(IMPORTS, *sources).warnings if warned.code == "hidden-change"]


@pytest.mark.parametrize(
    "cells", [(f"%%step a -o x\nx = 1\n{PANDAS}",), ("%%step a -o x\nx = 1", f"%%step a --append\n{PANDAS}")]
)
def test_a_setting_in_a_step_is_told_to_the_steps_that_use_its_library(cells: tuple[str, ...]):
    assert told(*cells, USES) == ["step `a` sets `pandas.set_option`, which `b` does not get"]
    assert told(USES, *cells) == []
    assert told(*cells, "%%step c -o z\nz = 1 + 1") == []


@pytest.mark.parametrize(
    "setting, value, use, name",
    [
        (PANDAS, "pd.Series([1.5])", "print(x)", "pandas.set_option"),
        ("pd.options.display.precision = 2", "pd.Series([1.5])", "x", "pandas.options.display.precision"),
        ("np.set_printoptions(precision=2)", "np.array([1.5])", "print(x)", "numpy.set_printoptions"),
        ("np.seterr(all='raise')", "np.array([0.0])", "z = 1 / x", "numpy.seterr"),
    ],
)
def test_it_is_told_to_steps_that_use_the_library_through_their_inputs(setting, value, use, name):
    first = f"%%step a -o x\n{setting}\nx = {value}"
    assert told(first, f"%%step b -i x -o n\nn = 1\n{use}") == [f"step `a` sets `{name}`, which `b` does not get"]
    assert told(first, "%%step b -i x -o n\nn = [x]") == []


def test_who_names_the_object_that_is_set_is_told_of_that_once():
    first = "%%step a -o x\npd.options.display.precision = 2\nx = pd.Series([1.5])"
    assert len(told(first, "%%step b -i x -o n\nn = repr(pd.DataFrame(x))")) == 1


def test_a_setting_that_is_made_again_is_not_told():
    first = f"%%step a -o x\nx = 1\n{PANDAS}"
    assert told(first, USES.replace("\ny =", f"\n{PANDAS}\ny =")) == []
    assert told(first, PANDAS, USES) == []


def test_several_steps_are_told_at_once():
    assert told(f"%%step a -o x\nx = 1\n{PANDAS}", USES, USES.replace("step b -o y", "step c -o y")) == [
        "step `a` sets `pandas.set_option`, which `b` and `c` do not get"
    ]


def test_what_is_set_for_a_block_only_is_not_told():
    assert told("%%step a -o x\nwith pd.option_context('display.max_rows', 5):\n    x = 1", USES) == []


@pytest.mark.parametrize(
    "change", ["plt.rcParams['figure.dpi'] = 50", "plt.rcParams.update({'figure.dpi': 50})", "plt.style.use('ggplot')"]
)
def test_every_setting_is_told_once(change: str):
    assert len(told(f"%%step a -o x\nx = 1\n{change}", "%%step b -o y\ny = str(plt.gcf())")) == 1


@pytest.mark.parametrize(
    "setting, use", [(PANDAS, "repr(pd.DataFrame())"), ("os.environ['MODE'] = 'fast'", "os.environ.get('MODE')")]
)
def test_a_setting_between_the_cells_of_a_step_is_told(setting: str, use: str):
    between = told("%%step a -o x\nx = 1", setting, f"%%step a --append -o y\ny = {use}")
    assert between == [f"`{setting}` stands between the cells of `a`, which does not get it"]
    assert told(setting, "%%step a -o x\nx = 1", f"%%step a --append -o y\ny = {use}") == []
    assert told("%%step a -o x\nx = 1", f"%%step a --append -o y\ny = {use}", setting) == []


def test_an_assignment_to_what_a_call_returns_is_a_setting():
    first = "%%step a -o x\nimport decimal\ndecimal.getcontext().prec = 5\nx = 1"
    assert told(first, "%%step b -o y\nimport decimal\ny = decimal.Decimal(1) / 3") == [
        "step `a` sets `decimal.getcontext().prec`, which `b` does not get"
    ]
