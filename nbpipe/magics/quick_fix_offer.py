"""Quick fixes for refused cells: a button that adds missing inputs, or declares a file in the steps that share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from nbpipe.errors import FileBetweenSteps, NbpipeError, UndeclaredName
from nbpipe.language.file_quick_fix import declare_file
from nbpipe.language.quick_fix import declare_missing_input
from nbpipe.model import Cell
from nbpipe.widget import QuickFixWidget


class QuickFixOffer:
    """The quick fix under the cell that was refused last; it is removed when the next cell runs."""

    def __init__(self) -> None:
        self._offer: QuickFixWidget | None = None

    def offer(self, cell: Cell, errors: Sequence[NbpipeError], cells: Iterable[Cell]) -> None:
        """Offer to write the declarations that are missing according to the cell's errors, if they are known.

        ``cells`` are all cells of the notebook.
        """
        self._offer = self._missing_inputs(cell, errors) or self._file(cell, errors, list(cells))

    def _missing_inputs(self, cell: Cell, errors: Iterable[NbpipeError]) -> QuickFixWidget | None:
        added: list[str] = []
        for error in errors:
            source = declare_missing_input(cell, error)
            if source is not None and isinstance(error, UndeclaredName):
                cell = dataclasses.replace(cell, source=source)
                added.append(error.add)
        if not added:
            return None
        return QuickFixWidget(f"Add {', '.join(dict.fromkeys(added))} to the cell's inputs", cell.source)

    def _file(self, cell: Cell, errors: Iterable[NbpipeError], cells: Sequence[Cell]) -> QuickFixWidget | None:
        """Offer to declare the first file that can be, in the refused cell and in that of the other step."""
        for error in errors:
            sources = declare_file(cells, error) if isinstance(error, FileBetweenSteps) else None
            if sources is not None and isinstance(error, FileBetweenSteps) and cell.number in sources:
                others = [(each.source, sources[each.number]) for each in cells
                          if each.number in sources and each.number != cell.number]  # fmt: skip
                label = f"Declare {error.path} in steps {error.writer} and {error.reader}"
                return QuickFixWidget(label, sources[cell.number], others)
        return None

    def withdraw(self, _info: object = None) -> None:
        """Remove the offer."""
        offer, self._offer = self._offer, None
        if offer is not None:
            offer.close()
