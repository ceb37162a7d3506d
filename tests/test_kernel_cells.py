"""The cells of a kernel: one that is run again keeps its place, so that the steps below it stay below."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
from notebook_author import write_notebook

from nbpipe.language.notebook_parser import parse_cells
from nbpipe.magics.kernel_cells import KernelCells

SETUP = "import numpy as np\nnp.random.seed(1)"
STEP = "%%step s -o x\nx = np.random.rand()"


@dataclass
class Input:
    """What IPython tells of a cell that is about to run."""

    raw_cell: str
    cell_id: str | None = None
    silent: bool = False
    store_history: bool = True


def cells_after(*inputs: str, terminal: bool) -> KernelCells:
    """Get the cells of a kernel that has run these inputs; without a terminal, equal beginnings are one cell."""
    counts = iter(range(1, 99))
    ran = KernelCells([], None, lambda: next(counts), deleted=lambda: (), terminal=terminal, named=not terminal)
    for text in inputs:
        ran.before(Input(text, None if terminal else text[:12]))
    return ran


@pytest.mark.parametrize("terminal", [True, False])
def test_a_set_up_cell_that_is_run_again_stays_above_its_steps(terminal):
    changed = SETUP.replace("seed(1)", "seed(2)") if not terminal else SETUP
    ran = cells_after(SETUP, STEP, changed, terminal=terminal).all()

    assert [cell.source for cell in ran] == [changed, STEP]
    assert [item.setting for item in parse_cells(ran).code["s"].definitions] == ["", "numpy.random.seed"]


def test_a_step_that_is_typed_again_is_below_what_was_typed_before():
    ran = cells_after(STEP, SETUP, STEP, terminal=True).all()

    assert [cell.source for cell in ran] == [SETUP, STEP]


PARAMETERS = "# Parameters\nk = 1"
INJECTED = "# Parameters\nk = 2\n"


def tags(ran: KernelCells) -> list[set[str]]:
    return [set(cell.tags) for cell in ran.all()]


def test_an_author_may_begin_the_parameters_cell_as_papermill_begins_its_own(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", [PARAMETERS, STEP], parameters=0)
    for notebook in (path, None):
        assert tags(executing(notebook, PARAMETERS, STEP)) == [{"parameters"}, set()]
        injected = tags(executing(notebook, PARAMETERS, INJECTED, STEP))
        assert injected == [{"parameters"}, {"injected-parameters"}, set()]


def test_a_cell_of_the_notebook_with_other_words_is_not_papermills(tmp_path):
    assert tags(executing(None, "k = 0", "# Parameters of ours\nk = 1")) == [set(), set()]


def test_a_front_end_tells_which_cell_the_notebook_tags(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", [PARAMETERS, PARAMETERS, STEP], parameters=1)
    ran = KernelCells([], path, itertools.count(1).__next__, deleted=lambda: (), terminal=False, named=True)
    ran.before(Input(PARAMETERS, "cell-1"))
    ran.before(Input(STEP, "cell-2"))

    assert tags(ran) == [{"parameters"}, set()]


def test_cells_of_a_text_notebook_have_its_tags_whatever_ids_the_front_end_gives_them(tmp_path):
    path = tmp_path / "n.py"
    path.write_text('# %%\nimport this\n\n# %% tags=["parameters"]\nk = 1\n\n# %%\n# %%step s -o x\n# x = k\n')
    before = ["import this", "k = 1"]
    ran = KernelCells(before, path, itertools.count(3).__next__, deleted=lambda: (), terminal=False, named=True)
    assert tags(ran) == [set(), {"parameters"}]
    ran.before(Input("k = 1", "a-7"))
    assert tags(ran) == [set(), {"parameters"}]


def test_cells_without_ids_have_the_tags_of_their_texts_in_the_notebook(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", ["k = 1", STEP], parameters=0)

    assert tags(executing(path, "k = 1\n", STEP)) == [{"parameters"}, set()]
    assert tags(executing(path, "k = 1\n", INJECTED, STEP)) == [{"parameters"}, {"injected-parameters"}, set()]


def executing(notebook: Path | None, *inputs: str) -> KernelCells:
    """Get the cells of a kernel whose client sends no ids."""
    ran = KernelCells([], notebook, itertools.count(1).__next__, deleted=lambda: (), terminal=False)
    for text in inputs:
        ran.before(Input(text))
    return ran
