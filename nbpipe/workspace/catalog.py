"""The catalog of a workspace: its pipelines and their notebooks."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nbpipe.entry_points import load_entry_point
from nbpipe.model import NOTEBOOK_SUFFIXES, PipelineRecord
from nbpipe.planning.pipeline_identity import IdentifiedPipeline, NotebookTraits, after_a_move, at_its_place, identify
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.workspace.context import WorkspaceContext

# Loaded by their names: notebooks are read only where one is new, was moved, or has lost steps.
_NOTEBOOKS = "nbpipe.workspace.notebook_traits:notebooks_below"
_TRAITS = "nbpipe.workspace.notebook_traits:read_traits"

_SUFFIX = ".ipynb"


@dataclass(slots=True)
class Catalog:
    """The pipelines of one workspace."""

    context: WorkspaceContext

    def pipeline(self, notebook: str) -> IdentifiedPipeline:
        """Return the pipeline of a notebook; the file is read if its path is unknown."""
        place = self.context.layout.relative(Path(notebook))
        record = self.context.history.pipelines.at(place)
        if record is not None:
            return IdentifiedPipeline(record, known=True)
        return self._identify(_traits(Path(notebook), place))

    def pipeline_of(self, request: PipelineRequest) -> IdentifiedPipeline:
        """Return the pipeline of a request."""
        place = self.context.layout.relative(Path(request.notebook))
        steps = frozenset(step.name for step in request.reading.steps)
        record = self.context.history.pipelines.at(place)
        traits = NotebookTraits(place, request.cells, steps)
        if place.endswith(_SUFFIX) and not self._exists(place):
            return self._moved_away(traits, record)
        if record is None or record.steps - steps:
            traits = replace(traits, steps=steps | self._other_steps(place, record))
        if record is None:
            return self._identify(traits)
        return at_its_place(traits, record, self.context.history.pipelines.all)

    def _moved_away(self, traits: NotebookTraits, record: PipelineRecord | None) -> IdentifiedPipeline:
        """Return the pipeline of a kernel's notebook whose file is gone: moved or renamed, deleted or never saved."""
        record = record or after_a_move(traits, self._notebook_pipelines())
        # The kernel has run only some of its cells, so they say nothing new.
        return IdentifiedPipeline(record, known=True) if record is not None else self._identify(traits)

    def _other_steps(self, place: str, record: PipelineRecord | None) -> frozenset[str]:
        """Return the steps of the saved notebook, or those recorded if there is none.

        A kernel knows only the cells that were run in it.
        """
        if self._exists(place):
            return _traits(self.context.layout.absolute(place), place).steps
        return frozenset() if record is None else record.steps

    def _identify(self, traits: NotebookTraits) -> IdentifiedPipeline:
        # A kernel without a known notebook is identified by its folder, which is not a file that could have been moved.
        others = self._notebook_pipelines() if self._exists(traits.notebook) else ()
        return identify(
            traits,
            others,
            exists=self._exists,
            strangers=lambda: self._strangers(Path(traits.notebook).suffix),
            new_id=lambda: secrets.token_hex(8),
        )

    def _notebook_pipelines(self) -> list[PipelineRecord]:
        every = self.context.history.pipelines.all()
        return [pipeline for pipeline in every if pipeline.notebook.endswith(NOTEBOOK_SUFFIXES)]

    def _exists(self, place: str) -> bool:
        return self.context.layout.absolute(place).is_file()

    def _strangers(self, suffix: str) -> Iterator[NotebookTraits]:
        """Yield the traits of the notebooks below the workspace's folder that do not belong to a known pipeline.

        Only those with this suffix: notebooks of other formats have other ids of cells.
        """
        layout = self.context.layout
        known = {pipeline.notebook for pipeline in self.context.history.pipelines.all()}
        for path in load_entry_point(_NOTEBOOKS)(layout.base, suffix):
            place = layout.relative(path)
            if place not in known:
                yield _traits(path, place)


def _traits(path: Path, place: str) -> NotebookTraits:
    traits: NotebookTraits = load_entry_point(_TRAITS)(path, place)
    return traits
