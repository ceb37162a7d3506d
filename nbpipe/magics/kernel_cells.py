"""The cells that this kernel has run, as last run: the source of its plans."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nbpipe.errors import BadDirective, Refused, SourceLocation
from nbpipe.language.cell_identity import identities
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import marker, misplaced, read_step
from nbpipe.language.notebook_file import is_text_notebook, read_notebook
from nbpipe.language.parameters import bound_names
from nbpipe.magics.parent_process import parent_process
from nbpipe.model import Cell

_INJECTED = "# Parameters"
_PARAMETERS = "parameters"
_INJECTED_TAG = "injected-parameters"
_BEFORE = "before:"
_SESSION_NAME = "JPY_SESSION_NAME"
# VS Code's name for it in the kernel's namespace.
_EDITED_FILE = "__vsc_ipynb_file__"


class KernelCells:
    """Cells by the ids that the front end sends; without ids, each executed input is a cell of its own.

    A kernel does not get the tags of cells. They are read from the notebook file if it can be found, by the cells' ids,
    or by their text if the front end sends none or the file, as a text notebook, has none. ``named`` says that it sends
    ids. The cell that papermill injects begins with a special comment, and the cell whose names it rebinds is the
    parameters cell.
    A cell's number is the one shown beside it: ``[n]`` of its last execution; ``count`` returns that of a cell that is
    about to run.
    """

    def __init__(
        self, before_us: Iterable[str], notebook: Path | None, count: Callable[[], int], *,
        deleted: Callable[[], Iterable[str]], terminal: bool, named: bool = False,
    ) -> None:  # fmt: skip
        self._cells: dict[str, Cell] = {}
        self.notebook = notebook
        self._count = count
        self._deleted = deleted
        self._terminal = terminal
        self._named = named
        self._current: str = ""
        self._number = count() - 1
        self._saved = _file_cells(notebook)
        ids = {cell.source.strip(): cell.id for cell in self._saved if cell.id and not self._is_text}
        for number, source in enumerate(before_us, 1):
            if not source.strip() or misplaced(Cell(number, source)) is not None:
                continue
            cell_id = ids.get(source.strip(), "")
            self._keep(f"id:{cell_id}" if cell_id else f"{_BEFORE}{number}", Cell(number, source, cell_id))

    def before(self, info: Any) -> None:
        """Record the cell that is about to run; forget cells that were deleted since the last one ran."""
        for deleted in self._deleted():
            self._cells.pop(f"id:{deleted}", None)
        source = info.raw_cell or ""
        if not source.strip() or info.silent or not info.store_history:
            self._current = ""
            return
        number = self._number = self._count()
        cell_id = getattr(info, "cell_id", None)
        self._keep(f"id:{cell_id}" if cell_id else f"run:{number}", Cell(number, source, cell_id or ""))

    def after(self, result: Any) -> None:
        """Forget a cell that does not compile, since it has defined nothing."""
        if result.error_before_exec is not None and self._current and marker(self.source) is not CellMarker.STEP:
            self._cells.pop(self._current, None)

    @property
    def _is_text(self) -> bool:
        """Return whether the notebook is a text notebook: a front end gives its cells other ids each time."""
        return self.notebook is not None and is_text_notebook(self.notebook)

    @property
    def source(self) -> str:
        """Return the source of the running cell."""
        cell = self._cells.get(self._current)
        return cell.source if cell else ""

    def refused(self, line: str) -> BadDirective:
        """Return the error for the running cell, in which a line begins with ``%step``; forget the cell."""
        cell = self._cells.pop(self._current, None)
        error = misplaced(cell) if cell else None
        if error is None:
            place = SourceLocation(cell.number if cell else None)
            error = BadDirective(f"`%step {line}` does not declare a step", "Begin a cell with `%%step NAME …`.", place)
        return error

    def declare(self, source: str) -> Cell:
        """Return the running step cell; a magic that was called by a program is recorded under its source."""
        stacked = misplaced(self._cells[self._current]) if self._current in self._cells else None
        if stacked is not None:
            self._cells.pop(self._current)
            raise stacked
        if self._current not in self._cells or marker(self.source) is not CellMarker.STEP:
            self._keep(f"call:{source}", Cell(self._number, source))
        return self._cells[self._current]

    def all(self) -> tuple[Cell, ...]:
        """Return the cells with their known tags."""
        self._saved = _file_cells(self.notebook)
        by_id = {cell.id: cell.tags for cell in self._saved if cell.id and not self._is_text}
        has_ids = self._named and not self._is_text
        # The first of equal cells counts, so it is set last.
        by_text = {cell.source.strip(): cell.tags for cell in reversed(self._saved) if not (has_ids and cell.id)}
        cells = [
            dataclasses.replace(
                cell, tags=by_id[cell.id] if cell.id in by_id else by_text.get(cell.source.strip(), frozenset())
            )
            for cell in self._cells.values()
        ]
        return tuple(_with_parameters(cells, is_file_known=self.notebook is not None))

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the cells in the saved notebook, as last read by :meth:`all`, else of the cells that ran."""
        return identities(str(self.notebook), self._saved) or frozenset(
            cell.id for cell in self._cells.values() if cell.id
        )

    def forget(self, cell: Cell) -> None:
        """Forget a refused step cell, so that it does not affect other steps."""
        self._cells = {key: other for key, other in self._cells.items() if other is not cell}

    def _keep(self, key: str, cell: Cell) -> None:
        if self._terminal:
            self._replace(key, cell, "")
        elif self._named:
            # An input that ran before the extension was loaded may be an earlier version of this cell: it has no id.
            self._replace(key, cell, _BEFORE)
        self._cells[key] = cell
        self._current = key

    def _replaced(self, cell: Cell) -> Callable[[Cell], bool]:
        """Return a predicate for the cells that an input without an id replaces: same text, step, or defined names."""
        name, names, text = _step_name(cell), bound_names(cell.source), cell.source.strip()
        if name:
            return lambda other: _step_name(other) == name
        return lambda other: other.source.strip() == text or (bool(names) and bound_names(other.source) == names)

    def _replace(self, key: str, cell: Cell, prefix: str) -> None:
        """Forget the cells that a cell replaces; the steps below them still are, unless it is a step itself."""
        replaced = self._replaced(cell)
        cells: dict[str, Cell] = {}
        for other_key, other in self._cells.items():
            if not (other_key.startswith(prefix) and replaced(other)):
                cells[other_key] = other
            elif marker(cell.source) is not CellMarker.STEP:
                cells.setdefault(key, cell)
        self._cells = cells


def session_notebook(folder: Path, namespace: Mapping[str, object]) -> Path | None:
    """Return the notebook that this kernel belongs to, if the server or the editor names it.

    ``namespace`` is the kernel's.
    """
    edited = namespace.get(_EDITED_FILE)
    if isinstance(edited, str) and Path(edited).is_file():
        return Path(edited)
    name = os.environ.get(_SESSION_NAME)
    parent = parent_process()
    # A program that was started in another notebook has the name of that one.
    if not name or (parent is not None and parent.environment.get(_SESSION_NAME) == name):
        return None
    path = folder / Path(name).name
    return path if path.is_file() else None


def looks_injected(source: str) -> bool:
    """Return whether a cell begins as the one that papermill injects; an author may begin a cell so, too."""
    return source.lstrip().partition("\n")[0].rstrip() == _INJECTED


def _step_name(cell: Cell) -> str | None:
    if marker(cell.source) is not CellMarker.STEP:
        return None
    try:
        declared = read_step(cell)
    except Refused:
        return None
    return None if declared.append else declared.name


def _file_cells(notebook: Path | None) -> tuple[Cell, ...]:
    """Return the cells of the saved notebook; none if it cannot be read."""
    try:
        return read_notebook(notebook).cells if notebook else ()
    except Refused:
        return ()


def _with_parameters(cells: list[Cell], *, is_file_known: bool) -> list[Cell]:
    """Tag papermill's injected cell, and the cell above it whose names it rebinds.

    Without a notebook file, one that rebinds nothing may be the author's: its names are parameters in either case.
    """
    for place, cell in enumerate(cells):
        names = bound_names(cell.source)
        if not looks_injected(cell.source) or not names or cell.tags & {_PARAMETERS, _INJECTED_TAG}:
            continue
        above = next((at for at in reversed(range(place)) if bound_names(cells[at].source) & names), None)
        tag = _INJECTED_TAG if above is not None or is_file_known else _PARAMETERS
        cells[place] = dataclasses.replace(cell, tags=cell.tags | {tag})
        if above is not None:
            cells[above] = dataclasses.replace(cells[above], tags=cells[above].tags | {_PARAMETERS})
    return cells
