"""The cells that this kernel has run, as last run: the source of its plans."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nbpipe.errors import BadDirective, Refused, SourceLocation
from nbpipe.language.directives import marker, misplaced, read_step
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.parameters import bound_names
from nbpipe.model import Cell

_INJECTED = "# Parameters"
_BEFORE = "before:"


class KernelCells:
    """Cells by the ids that the front end sends; without ids, each executed input is a cell of its own.

    A kernel does not get the tags of cells. They are read from the notebook file if it can be found; under papermill
    the injected cell begins with a special comment, and the cell whose names it rebinds is the parameters cell.
    ``named`` says that the front end sends ids.
    A cell's number is the one shown beside it: ``[n]`` of its last execution; ``count`` returns that of a cell that is
    about to run.
    """

    def __init__(
        self, before_us: Iterable[str], notebook: Path | None, count: Callable[[], int], *,
        deleted: Callable[[], Iterable[str]], terminal: bool, named: bool = False,
    ) -> None:  # fmt: skip
        self._cells: dict[str, Cell] = {}
        self._notebook = notebook
        self._count = count
        self._deleted = deleted
        self._terminal = terminal
        self._named = named
        self._current: str = ""
        self._number = count() - 1
        self._saved = _file_cells(notebook)
        ids = {cell.source.strip(): cell.id for cell in self._saved}
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
        if result.error_before_exec is not None and self._current and marker(self.source) != "step":
            self._cells.pop(self._current, None)

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
        if self._current not in self._cells or marker(self.source) != "step":
            self._keep(f"call:{source}", Cell(self._number, source))
        return self._cells[self._current]

    def all(self) -> tuple[Cell, ...]:
        """Return the cells with their known tags."""
        self._saved = _file_cells(self._notebook)
        tags = {cell.id: cell.tags for cell in self._saved}
        cells = [dataclasses.replace(cell, tags=tags.get(cell.id, frozenset())) for cell in self._cells.values()]
        return tuple(_with_parameters(cells))

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the cells in the saved notebook, as last read by :meth:`all`, else of the cells that ran."""
        saved = frozenset(cell.id for cell in self._saved)
        return saved or frozenset(cell.id for cell in self._cells.values() if cell.id)

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
            elif marker(cell.source) != "step":
                cells.setdefault(key, cell)
        self._cells = cells


def session_notebook(folder: Path) -> Path | None:
    """Return the notebook that this kernel belongs to, if the server or the editor names it."""
    name = os.environ.get("JPY_SESSION_NAME") or os.environ.get("__vsc_ipynb_file__")  # noqa: SIM112  # VS Code spells it so
    if not name:
        return None
    path = folder / Path(name).name
    return path if path.is_file() else None


def _step_name(cell: Cell) -> str | None:
    if marker(cell.source) != "step":
        return None
    try:
        declared = read_step(cell)
    except Refused:
        return None
    return None if declared.append else declared.name


def _file_cells(notebook: Path | None) -> tuple[Cell, ...]:
    """Return the cells of the saved notebook that have an id; none if it cannot be read."""
    try:
        return tuple(cell for cell in read_notebook(notebook).cells if cell.id) if notebook else ()
    except Refused:
        return ()


def _with_parameters(cells: list[Cell]) -> list[Cell]:
    """Tag papermill's injected cell, and the cell above it whose names it rebinds."""
    for place, cell in enumerate(cells):
        if not cell.source.lstrip().startswith(_INJECTED) or not bound_names(cell.source):
            continue
        cells[place] = dataclasses.replace(cell, tags=frozenset({"injected-parameters"}))
        names = bound_names(cell.source)
        for above in range(place - 1, -1, -1):
            if bound_names(cells[above].source) & names:
                cells[above] = dataclasses.replace(cells[above], tags=cells[above].tags | {"parameters"})
                break
    return cells
