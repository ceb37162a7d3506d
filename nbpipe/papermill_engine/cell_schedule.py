"""The schedule of a notebook's cells under papermill: which are steps, and which outputs the others read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbpipe.errors import Refused, SourceLocation
from nbpipe.language.ipython_syntax import parse_cell
from nbpipe.language.name_analysis import name_usage
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.model import Cell, StepOutput

_OURS = re.compile(r"\s*(?:%load_ext\s+nbpipe\b|%nbpipe\b|$)")


@dataclass(frozen=True, slots=True)
class CellSchedule:
    """The order of the cells; ``steps`` maps each step to the indices (from 0) of its cells, in order."""

    cells: tuple[Cell, ...]
    reading: ParsedNotebook
    steps: Mapping[str, tuple[int, ...]]

    @property
    def step_places(self) -> frozenset[int]:
        """Return the indices of all step cells."""
        return frozenset(place for places in self.steps.values() for place in places)

    def needed(self, place: int, source: str) -> tuple[StepOutput, ...]:
        """Return the outputs of earlier steps that an ordinary cell reads; for a shared name, that of the last step."""
        try:
            names = name_usage(parse_cell(source, SourceLocation(place + 1)).body)
        except (Refused, RecursionError):
            return ()
        read = names.needs | names.unsure | names.mentioned
        outputs: dict[str, StepOutput] = {}
        for step in self.reading.steps:
            if self.steps[step.name][0] < place:
                outputs |= {o.name: StepOutput(o.name, step.name) for o in step.outputs if o.name in read}
        return tuple(outputs.values())


def code_cells(cells: Iterable[Any]) -> tuple[Cell, ...]:
    """Return the code cells of a notebook, numbered over all cells from 1."""
    return tuple(
        Cell(number, cell.source, cell.get("id", ""), frozenset(cell.metadata.get("tags", [])))
        for number, cell in enumerate(cells, 1)
        if cell.cell_type == "code"
    )


def cell_schedule(cells: tuple[Cell, ...], reading: ParsedNotebook) -> CellSchedule:
    """Return the schedule of a parsed notebook."""
    steps = {step.name: tuple(piece.cell - 1 for piece in step.pieces) for step in reading.steps}
    return CellSchedule(cells, reading, steps)


def is_for_nbpipe(source: str) -> bool:
    """Return whether a cell consists only of lines for nbpipe, which is already running the notebook."""
    return bool(source.strip()) and all(_OURS.match(line) for line in source.splitlines())
