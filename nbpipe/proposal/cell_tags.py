"""The tags by which other tools mark cells: Kale's steps, papermill's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nbpipe.language.directives import marker
from nbpipe.model import Cell

_STEP = re.compile(r"(?:block|step):(.*)")
_PREVIOUS = re.compile(r"prev:(.+)")
_SHARED = frozenset({"imports", "functions", "block:imports", "block:functions"})
_PARAMETERS = frozenset({"pipeline-parameters", "block:pipeline-parameters"})


@dataclass(frozen=True, slots=True)
class CellTags:
    """What the tags of a cell say: the step that it belongs to, the steps before it, or what else it is.

    ``step`` is None if no tag names one.
    """

    step: str | None = None
    previous: tuple[str, ...] = ()
    skipped: bool = False
    shared: bool = False
    parameters: bool = False


def tags_of(cell: Cell) -> CellTags:
    """Return what Kale's tags of a cell say; papermill's ``parameters`` are read by the language itself."""
    named = [match[1].strip() for tag in cell.tags if (match := _STEP.fullmatch(tag)) and tag not in _SHARED]
    names = [name for name in named if name and f"block:{name}" not in _PARAMETERS]
    return CellTags(
        step=identifier(min(names)) if names else None,
        previous=tuple(sorted(identifier(match[1]) for tag in cell.tags if (match := _PREVIOUS.fullmatch(tag)))),
        skipped="skip" in cell.tags,
        shared=bool(_SHARED & cell.tags),
        parameters=bool(_PARAMETERS & cell.tags),
    )


def with_earlier_steps(cells: Iterable[Cell]) -> dict[int, CellTags]:
    """Return the tags by cell number; as in Kale, a cell without tags belongs to the step of the tagged cell above it.

    That is so only in notebooks in which a tag names a step.
    """
    tags = {cell.number: tags_of(cell) for cell in cells}
    above: CellTags | None = None
    for cell in cells:
        own = tags[cell.number]
        if own.step is not None:
            above = own
        elif above is not None and own == CellTags() and marker(cell.source) is None and "parameters" not in cell.tags:
            tags[cell.number] = CellTags(step=above.step)
    return tags


def identifier(text: str) -> str:
    """Return a tag's name as a name of a step."""
    name = re.sub(r"\W+", "_", text.strip()).strip("_").lower() or "step"
    return name if name.isidentifier() else f"step_{name}"
