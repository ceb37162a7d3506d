"""Offers to write into a refused cell what it lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from nbpipe.errors import NbpipeError, UndeclaredName
from nbpipe.language.quick_fix import declare_missing_input
from nbpipe.model import Cell
from nbpipe.widget import QuickFixWidget


class QuickFixOffer:
    """The offer under the cell that was refused last; it is gone when the next cell runs."""

    def __init__(self) -> None:
        self._offer: QuickFixWidget | None = None

    def offer(self, cell: Cell, errors: Iterable[NbpipeError]) -> None:
        """Offer to declare what these errors of the cell miss, where that can be told."""
        added: list[str] = []
        for error in errors:
            source = declare_missing_input(cell, error)
            if source is not None and isinstance(error, UndeclaredName):
                cell = dataclasses.replace(cell, source=source)
                added.append(error.add)
        if added:
            self._offer = QuickFixWidget(f"Add {', '.join(dict.fromkeys(added))} to the cell's inputs", cell.source)

    def withdraw(self, _info: object = None) -> None:
        """Take the offer away."""
        offer, self._offer = self._offer, None
        if offer is not None:
            offer.close()
