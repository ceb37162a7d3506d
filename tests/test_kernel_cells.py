"""The cells of a kernel: one that is run again keeps its place, so that the steps below it stay below."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

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
