"""The catalog of a workspace: its pipelines and their notebooks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nbpipe.errors import Refused
from nbpipe.language.directives import marker, read_step
from nbpipe.language.notebook_file import read_notebook
from nbpipe.model import Cell, PipelineRecord
from nbpipe.planning.pipeline_identity import Identified, NotebookTraits, after_a_move, at_its_place, identify
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.workspace.context import WorkspaceContext

# If a workspace's folder contains more notebooks than this, not all are compared.
_MOST_NOTEBOOKS = 500
_SUFFIX = ".ipynb"


@dataclass(slots=True)
class Catalog:
    """The pipelines of one workspace."""

    context: WorkspaceContext

    def pipeline(self, notebook: str) -> Identified:
        """Return the pipeline of a notebook; the file is read if its path is unknown."""
        place = self.context.layout.relative(Path(notebook))
        record = self.context.history.pipelines.at(place)
        if record is not None:
            return Identified(record, known=True)
        return self._identify(_traits(Path(notebook), place))

    def pipeline_of(self, request: PipelineRequest) -> Identified:
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

    def _moved_away(self, traits: NotebookTraits, record: PipelineRecord | None) -> Identified:
        """Return the pipeline of a kernel's notebook whose file is gone: moved or renamed, deleted or never saved."""
        record = record or after_a_move(traits, self._notebook_pipelines())
        # The kernel has run only some of its cells, so they say nothing new.
        return Identified(record, known=True) if record is not None else self._identify(traits)

    def _other_steps(self, place: str, record: PipelineRecord | None) -> frozenset[str]:
        """Return the steps of the saved notebook, or those recorded if there is none.

        A kernel knows only the cells that were run in it.
        """
        if self._exists(place):
            return _traits(self.context.layout.absolute(place), place).steps
        return frozenset() if record is None else record.steps

    def _identify(self, traits: NotebookTraits) -> Identified:
        # A kernel without a known notebook is identified by its folder, which is not a file that could have been moved.
        others = self._notebook_pipelines() if self._exists(traits.notebook) else ()
        return identify(
            traits, others, exists=self._exists, strangers=self._strangers, new_id=lambda: secrets.token_hex(8)
        )

    def _notebook_pipelines(self) -> list[PipelineRecord]:
        every = self.context.history.pipelines.all()
        return [pipeline for pipeline in every if pipeline.notebook.endswith(_SUFFIX)]

    def _exists(self, place: str) -> bool:
        return self.context.layout.absolute(place).is_file()

    def _strangers(self) -> Iterator[NotebookTraits]:
        """Yield the traits of the notebooks below the workspace's folder that do not belong to a known pipeline."""
        layout = self.context.layout
        known = {pipeline.notebook for pipeline in self.context.history.pipelines.all()}
        for path in _notebooks(layout.base):
            place = layout.relative(path)
            if place not in known:
                yield _traits(path, place)


def _notebooks(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(_SUFFIX):
                yield Path(place, name)
                count += 1
                if count >= _MOST_NOTEBOOKS:
                    return


def _traits(path: Path, place: str) -> NotebookTraits:
    try:
        cells: Collection[Cell] = read_notebook(path).cells
    except Refused:
        cells = ()
    return NotebookTraits(place, frozenset(cell.id for cell in cells if cell.id), _step_names(cells))


def _step_names(cells: Collection[Cell]) -> frozenset[str]:
    names: set[str] = set()
    for cell in cells:
        if marker(cell.source) == "step":
            try:
                names.add(read_step(cell).name)
            except Refused:
                continue
    return frozenset(names)
