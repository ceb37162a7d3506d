"""Which pipeline a notebook is: identified by an id, independent of the path of its file.

A notebook is recognised by its path. If no pipeline is known at its path, it is a pipeline that has moved if that
pipeline's notebook no longer exists and both share their cells; it is a copy, and a new pipeline, if the other notebook
still exists. If several match, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from nbpipe.model import PipelineRecord

# The share of cells that must be the same in a notebook that was moved: it may have been edited since.
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class NotebookTraits:
    """What identifies a notebook: its path in the workspace, the ids of its cells, the names of its steps.

    ``is_output`` says that it was written by executing another one, with whose cells it is no rival of that.
    """

    notebook: str
    cells: frozenset[str]
    steps: frozenset[str]
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class IdentifiedPipeline:
    """The pipeline of a notebook; ``note`` is a sentence to show once, if it does not follow from the path.

    ``known`` says whether the workspace has it already.
    """

    pipeline: PipelineRecord
    known: bool
    note: str = ""


def at_its_place(
    traits: NotebookTraits, pipeline: PipelineRecord, others: Callable[[], Iterable[PipelineRecord]] = tuple
) -> IdentifiedPipeline:
    """Return the pipeline known at the notebook's path, with its cells and steps updated.

    If the notebook has none of the pipeline's cells but those of one of the ``others``, that is noted: notebooks may
    have swapped their names.
    """
    # A kernel may provide no ids, and may have run only some cells: then keep what is known.
    cells = traits.cells or pipeline.cells
    at_place = replace(pipeline, cells=cells, steps=traits.steps or pipeline.steps)
    if not traits.cells or not pipeline.cells or traits.cells & pipeline.cells:
        return IdentifiedPipeline(at_place, known=True)
    alike = [other.notebook for other in others() if other.id != pipeline.id and other.cells and _alike(traits, other)]
    if not alike:
        return IdentifiedPipeline(at_place, known=True)
    note = f"{traits.notebook} has the cells of {alike[0]}: it continues the history of the notebook with this name"
    return IdentifiedPipeline(at_place, known=True, note=note)


def after_a_move(traits: NotebookTraits, others: Iterable[PipelineRecord]) -> PipelineRecord | None:
    """Return the pipeline of a kernel's notebook that has moved away from the path that the kernel knows.

    ``traits`` are what the kernel has run of it. None is returned if that fits no pipeline, or several.
    """
    fitting = [other for other in others if traits.cells and traits.cells <= other.cells]
    return fitting[0] if len(fitting) == 1 else None


def identify(
    traits: NotebookTraits,
    others: Iterable[PipelineRecord],
    *,
    exists: Callable[[str], bool],
    strangers: Callable[[], Iterable[NotebookTraits]],
    new_id: Callable[[], str],
) -> IdentifiedPipeline:
    """Return the pipeline of a notebook at a path where no pipeline is known.

    ``exists`` says whether there is a notebook at a path; ``strangers`` returns the traits of the notebooks at other
    paths where no pipeline is known.
    """
    new = PipelineRecord(new_id(), traits.notebook, traits.cells, traits.steps)
    named = [other for other in others if other.notebook]
    # The names of steps alone say little: they decide only where no cells do.
    alike = [other for other in named if _shares_cells(traits, other)] or [
        other for other in named if _alike(traits, other)
    ]
    missing = [other for other in alike if not exists(other.notebook)]
    if len(missing) == 1:
        alike_too = {other.notebook for other in strangers() if not other.is_output and _alike(other, missing[0])}
        rivals = sorted(alike_too - {traits.notebook})
        if not rivals:
            moved = replace(missing[0], notebook=traits.notebook, cells=traits.cells, steps=traits.steps)
            note = f"{traits.notebook} is {missing[0].notebook}, moved or renamed: its history continues"
            return IdentifiedPipeline(moved, known=True, note=note)
        both = " and ".join([traits.notebook, *rivals])
        return IdentifiedPipeline(
            new, known=False, note=f"{both} both look like {missing[0].notebook}, which no longer exists: {_STARTS}"
        )
    if missing:
        both = " and ".join(sorted(other.notebook for other in missing))
        return IdentifiedPipeline(
            new, known=False, note=f"{traits.notebook} looks like {both}, which no longer exist: {_STARTS}"
        )
    if alike:
        note = f"{traits.notebook} is a copy of {alike[0].notebook}: it has its own history and reuses results"
        return IdentifiedPipeline(new, known=False, note=note)
    return IdentifiedPipeline(new, known=False)


_STARTS = "it starts its own history and reuses results by content"


def _alike(traits: NotebookTraits, other: PipelineRecord) -> bool:
    """Return whether a notebook has the cells of a pipeline, or, if cell ids are unknown, the same steps."""
    if traits.cells and other.cells:
        return _shares_cells(traits, other)
    return bool(traits.steps) and traits.steps == other.steps


def _shares_cells(traits: NotebookTraits, other: PipelineRecord) -> bool:
    both = traits.cells & other.cells
    return bool(both) and len(both) >= _SHARE * max(len(traits.cells), len(other.cells))
