"""What a proposal cannot tell: whether a notebook can be divided at all, what is in huge cells and in ``import *``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nbpipe.errors import SourceLocation
from nbpipe.language.source_text import lines_of
from nbpipe.model import PipelineWarning
from nbpipe.model.proposals import ProposedStep
from nbpipe.proposal.cell_tags import CellTags
from nbpipe.proposal.notebook_outline import OutlineCell

UNTOLD = "cannot-tell"
_HUGE_LINES = 150
# One step of so many cells is no division of a notebook.
_UNDIVIDED_CELLS = 3
_STAR = re.compile(r"^from\s+([\w.]+)\s+import\s*\*", re.MULTILINE)


def doubts(steps: Sequence[ProposedStep], cells: Mapping[int, OutlineCell]) -> list[PipelineWarning]:
    """Return what cannot be told from the text of the cells."""
    taken = {number for step in steps for number in step.cells}
    found: list[PipelineWarning] = []
    for number, item in cells.items():
        length = len(lines_of(item.cell.source))
        if number in taken and length > _HUGE_LINES:
            message = (
                f"cell {number} has {length} lines and stays whole: what in it could be a step of its own is not told"
            )
            found.append(_doubt(number, message, "Split the cell where its parts end, and propose again."))
        star = _STAR.search(item.cell.source)
        if star:
            message = f"cell {number} imports all names of `{star[1]}`: which of them hide others is not told"
            found.append(_doubt(number, message, "Import the names that are used, or check with --check."))
    return found


def _doubt(number: int, message: str, hint: str) -> PipelineWarning:
    return PipelineWarning(UNTOLD, message, hint, SourceLocation(number))


def is_divided(steps: Sequence[ProposedStep], tags: Mapping[int, CellTags]) -> bool:
    """Return whether the steps are more than all cells in one, or one that tags name."""
    if len(steps) != 1 or len(steps[0].cells) < _UNDIVIDED_CELLS:
        return True
    return any(tags[number].step is not None for number in steps[0].cells)


def undivided(step: ProposedStep) -> PipelineWarning:
    """Return the note about a notebook that would be a single step."""
    listed = f"{', '.join(map(str, step.cells[:-1]))} and {step.cells[-1]}"
    message = f"cells {listed} work on the same values, so that all of them would be one step"
    hint = "Give the values of each stage names of their own, and propose again."
    return PipelineWarning(UNTOLD, message, hint, SourceLocation(step.cells[0]))
