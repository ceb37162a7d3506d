"""The traits by which a notebook file is recognised after a move: its cells and its steps."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from nbpipe.errors import Refused
from nbpipe.language.cell_identity import identities
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import marker, read_step
from nbpipe.language.notebook_file import read_notebook
from nbpipe.model import Cell
from nbpipe.planning.pipeline_identity import NotebookTraits

# If a workspace's folder contains more notebooks than this, not all are compared.
_MOST_NOTEBOOKS = 500


def notebooks_below(folder: Path, suffix: str) -> Iterator[Path]:
    """Yield the files with a suffix of notebooks in a folder and below it, without hidden folders."""
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(suffix):
                yield Path(place, name)
                count += 1
                if count >= _MOST_NOTEBOOKS:
                    return


def read_traits(path: Path, place: str) -> NotebookTraits:
    """Return the traits of a notebook at this place in its workspace; an unreadable one has none."""
    try:
        notebook = read_notebook(path)
    except Refused:
        return NotebookTraits(place, frozenset(), frozenset())
    return NotebookTraits(
        place, identities(place, notebook.cells), _step_names(notebook.cells), is_output=notebook.is_output
    )


def _step_names(cells: Collection[Cell]) -> frozenset[str]:
    names: set[str] = set()
    for cell in cells:
        if marker(cell.source) is CellMarker.STEP:
            try:
                names.add(read_step(cell).name)
            except Refused:
                continue
    return frozenset(names)
