"""Quick fixes for refused cells: a button that adds missing inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from nbpipe.errors import NbpipeError, UndeclaredName
from nbpipe.language.quick_fix import declare_missing_input
from nbpipe.model import Cell
from nbpipe.widget import QuickFixWidget


class QuickFixOffer:
    """The quick fix under the cell that was refused last; it is removed when the next cell runs."""

    def __init__(self) -> None:
        self._offer: QuickFixWidget | None = None

    def offer(self, cell: Cell, errors: Iterable[NbpipeError]) -> None:
        """Offer to declare the inputs that are missing according to the cell's errors, if they are known."""
        added: list[str] = []
        for error in errors:
            source = declare_missing_input(cell, error)
            if source is not None and isinstance(error, UndeclaredName):
                cell = dataclasses.replace(cell, source=source)
                added.append(error.add)
        if added:
            self._offer = QuickFixWidget(f"Add {', '.join(dict.fromkeys(added))} to the cell's inputs", cell.source)

    def withdraw(self, _info: object = None) -> None:
        """Remove the offer."""
        offer, self._offer = self._offer, None
        if offer is not None:
            offer.close()
