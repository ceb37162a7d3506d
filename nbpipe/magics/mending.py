"""Offers to write into a refused cell what it lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from nbpipe.errors import NbpipeError, UndeclaredName
from nbpipe.language.repair import repaired
from nbpipe.model import Cell
from nbpipe.widget import Mend


class Mending:
    """The offer under the cell that was refused last; it is gone when the next cell runs."""

    def __init__(self) -> None:
        self._offer: Mend | None = None

    def offer(self, cell: Cell, errors: Iterable[NbpipeError]) -> None:
        """Offer to declare what these errors of the cell miss, where that can be told."""
        added: list[str] = []
        for error in errors:
            source = repaired(cell, error)
            if source is not None and isinstance(error, UndeclaredName):
                cell = dataclasses.replace(cell, source=source)
                added.append(error.add)
        if added:
            self._offer = Mend(f"Add {', '.join(dict.fromkeys(added))} to the cell's inputs", cell.source)

    def withdraw(self, _info: object = None) -> None:
        """Take the offer away."""
        offer, self._offer = self._offer, None
        if offer is not None:
            offer.close()
