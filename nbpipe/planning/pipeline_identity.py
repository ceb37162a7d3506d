"""Which pipeline a notebook is: known by an id, whatever its file is called and wherever it lies.

A notebook is recognised by its place. One at a place where no pipeline is known is a pipeline that has moved when that
pipeline's own notebook is gone and the two have their cells in common; it is a copy, and a pipeline of its own, when
the other notebook is still there. Where several fit, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from nbpipe.model import PipelineRecord

# Of their cells, so many must be the same in a notebook that was moved: it may have been edited since.
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class NotebookTraits:
    """What a notebook is recognised by: its place in the workspace, the ids of its cells, the names of its steps."""

    notebook: str
    cells: frozenset[str]
    steps: frozenset[str]


@dataclass(frozen=True, slots=True)
class Identified:
    """The pipeline that a notebook is; ``note`` is a sentence to say once, when that is not plain from its place.

    ``known`` tells whether the workspace has it already.
    """

    pipeline: PipelineRecord
    known: bool
    note: str = ""


def at_its_place(traits: NotebookTraits, pipeline: PipelineRecord) -> Identified:
    """Return the pipeline known at the notebook's place, with what is known of its cells brought up to date."""
    # A kernel may tell no ids, and may have run some of the cells only: what is known stays known then.
    cells = traits.cells or pipeline.cells
    return Identified(replace(pipeline, cells=cells, steps=traits.steps or pipeline.steps), known=True)


def identify(
    traits: NotebookTraits,
    others: Iterable[PipelineRecord],
    *,
    exists: Callable[[str], bool],
    strangers: Callable[[], Iterable[NotebookTraits]],
    new_id: Callable[[], str],
) -> Identified:
    """Return the pipeline that a notebook is at whose place no pipeline is known.

    ``exists`` tells whether there is a notebook at a place; ``strangers`` returns the traits of the notebooks at whose
    places no pipeline is known.
    """
    new = PipelineRecord(new_id(), traits.notebook, traits.cells, traits.steps)
    alike = [other for other in others if other.notebook and _alike(traits, other)]
    gone = [other for other in alike if not exists(other.notebook)]
    if len(gone) == 1:
        alike_too = {other.notebook for other in strangers() if _alike(other, gone[0])}
        rivals = sorted(alike_too - {traits.notebook})
        if not rivals:
            moved = replace(gone[0], notebook=traits.notebook, cells=traits.cells, steps=traits.steps)
            said = f"{traits.notebook} is {gone[0].notebook}, moved or renamed: its history goes on"
            return Identified(moved, known=True, note=said)
        both = " and ".join([traits.notebook, *rivals])
        return Identified(new, known=False, note=f"{both} both look like {gone[0].notebook}, which is gone: {_STARTS}")
    if gone:
        both = " and ".join(sorted(other.notebook for other in gone))
        return Identified(new, known=False, note=f"{traits.notebook} looks like {both}, which are gone: {_STARTS}")
    if alike:
        said = f"{traits.notebook} is a copy of {alike[0].notebook}: it has a history of its own, and reuses results"
        return Identified(new, known=False, note=said)
    return Identified(new, known=False)


_STARTS = "it starts a history of its own, and reuses results by content"


def _alike(traits: NotebookTraits, other: PipelineRecord) -> bool:
    """Return whether a notebook has the cells of a pipeline, or where neither tells their ids, the same steps."""
    if traits.cells and other.cells:
        return len(traits.cells & other.cells) >= _SHARE * max(len(traits.cells), len(other.cells))
    return bool(traits.steps) and traits.steps == other.steps
