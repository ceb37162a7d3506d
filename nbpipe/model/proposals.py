"""Proposals: the steps, the cells as they would be written, what is said about them, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from nbpipe.model.declarations import Cell, PipelineWarning


@dataclass(frozen=True, slots=True)
class ProposedStep:
    """One step: its cells by their numbers in the notebook as it is, its declared inputs and outputs.

    ``seconds`` is what its cells took when the notebook was last executed, None if that is not known of all.
    """

    name: str
    cells: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    seconds: float | None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CellEdits:
    """New sources of cells, and new cells above cells, by the numbers of the notebook as it is."""

    sources: Mapping[int, str] = field(default_factory=dict)
    above: Mapping[int, str] = field(default_factory=dict)

    def applied(self, cells: Sequence[Cell]) -> tuple[list[Cell], dict[int, int]]:
        """Return the code cells after the edits, and the former number of each, by its new one."""
        edited: list[Cell] = []
        former: dict[int, int] = {}
        for cell in cells:
            shift = sum(number <= cell.number for number in self.above)
            number = cell.number + shift
            if cell.number in self.above:
                edited.append(Cell(number - 1, self.above[cell.number]))
                former[number - 1] = cell.number
            edited.append(replace(cell, number=number, source=self.sources.get(cell.number, cell.source)))
            former[number] = cell.number
        return edited, former

    def __bool__(self) -> bool:
        return bool(self.sources)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed pipeline. ``notes`` say what was merged or left as it is, and why, and what could not be told."""

    steps: tuple[ProposedStep, ...]
    edits: CellEdits
    notes: tuple[PipelineWarning, ...]


class ComparisonResult(StrEnum):
    """How an output of a pipeline compares with the value of the plain run; one that varies does so in each run."""

    EQUAL = "equal"
    DIFFERS = "differs"
    VARIES = "varies"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True)
class ComparedValue:
    """An output of a step compared with the plain run."""

    step: str
    output: str
    result: ComparisonResult
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PipelineComparison:
    """The outputs of a pipeline compared with the notebook's plain run.

    ``failed`` are the steps that failed, with their errors; ``failed_cells`` are the cells that failed in the plain
    run, with theirs; ``one_sided`` are the steps that failed in one of the two only. ``ran_again`` are the steps that a
    second run of the pipeline did not reuse.
    """

    values: tuple[ComparedValue, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    failed_cells: Mapping[int, str] = field(default_factory=dict)
    one_sided: tuple[str, ...] = ()
    ran_again: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Return whether a value differs, or a step fails in one of the two only."""
        return bool(self.one_sided) or any(value.result is ComparisonResult.DIFFERS for value in self.values)
