"""Slices and items of objects that the text does not show to be arrays: they may share the data of the whole."""

from __future__ import annotations

import pytest
from sample_cells import fine

MAY = ["step `b` (cell 3) may change `x`, an output of `a`, which `c` gets unchanged"]
USE = "%%step c -i x -o y\ny = sum(x)"


def told(*sources: str) -> list[str]:
    """Get the messages about changes that no declaration hands over."""
    return [warned.message for warned in fine(*sources).warnings if warned.code == "hidden-change"]


def changed(change: str, made: str = "lib.load()") -> list[str]:
    """Get the messages if a step changes an object that the text does not show to be an array."""
    imports = "import lib\nimport numpy as np\nimport pandas as pd\ni, KEYS = 0, ['a']"
    imports += "\ndef fix(a):\n    t = a[:2]\n    t[0] = 9\ndef head(a):\n    return a[:2]"
    return told(imports, f"%%step a -o x\nx = {made}", f"%%step b -i x -o n\n{change}\nn = 1", USE)


@pytest.mark.parametrize(
    "change",
    [
        "t = x[:2]\nt[0] = 9", "t = x[:2]\nt += 9", "t = x[:, 0]\nt[1:] = 9", "t = x[:2]\nt.fill(0)",
        "t = x[:2]\nt.sort()",
        "t = x[1:]\nnp.copyto(t, 0)", "t = x[1:]\nnp.add(t, 1, out=t)", "t = x[:2][1:]\nt[0] = 9", "fix(x)",
        "t = head(x)\nt[0] = 9", "t = x[i]\nt[0] = 9", "t = x[i]\nt.append(2)",
        "for t in [x[:2]]:\n    t[0] = 9", "t, u = x[:2], x[2:]\nu[0] = 9", "t = x[:2]\nt.zero_()",
    ],
)  # fmt: skip
def test_what_sets_elements_of_a_slice_or_an_item_may_change_the_whole(change: str):
    assert changed(change) == MAY


@pytest.mark.parametrize(
    "made", ["[1, 2, 3]", "pd.read_csv('x.csv')", "'text'", "sorted(lib.load())", "lib.load().split()"]
)
@pytest.mark.parametrize("change", ["t = x[:2]\nt[0] = 9", "t = x[:2]\nt += 9", "fix(x)", "t = head(x)\nt[0] = 9"])
def test_slices_of_lists_texts_and_tables_are_copies(made: str, change: str):
    assert changed(change, made) == []


@pytest.mark.parametrize(
    "harmless",
    [
        "t = x[:2]\nt['k'] = 9", "t = x[KEYS]\nt['k'] = 1", "t = x[:2]\nt.loc[0, 'k'] = 1", "t = x[:2]\nt.append(9)",
        "t = x[:3]\nt += '!'", "t = x[:2].copy()\nt[0] = 9", "t = x[KEYS]\nt.dropna(inplace=True)",
        "t = x[x > 1]\nt[0] = 1",
        "t = x[:2] + 1\nt[0] = 9", "t = x[:2]\nt.refresh()",
    ],
)  # fmt: skip
def test_what_only_changes_the_selection_is_not_told(harmless: str):
    assert changed(harmless) == []


def test_a_slice_that_is_an_output_sees_a_change_of_the_whole():
    cells = ["%%step a -o x\nimport lib\nx = lib.load()", "%%step b -i x=a.x -o t\nt = x[:2]"]
    assert told(*cells, "%%step c -i x=a.x -o x\nx[0] = 9", "%%step d -i t -o n\nn = sum(t)") == [
        "step `c` (cell 3) changes `t`, an output of `b`, which `d` gets unchanged"
    ]
    assert told(*cells, "%%step c -i x=a.x -o x\nx = x + 1", "%%step d -i t -o n\nn = sum(t)") == []
