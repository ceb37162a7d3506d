"""What identifies the cells of a notebook when it is found again under another name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from nbpipe.model import TEXT_NOTEBOOK_SUFFIXES, Cell

_LENGTH = 16


def identities(notebook: str, cells: Iterable[Cell]) -> frozenset[str]:
    """Return what identifies the code cells of a notebook, given its path: their ids, or else their texts.

    Text notebooks and formats before 4.5 have none. Names of steps would not do: many notebooks have a step ``load``.
    """
    cells = tuple(cells)
    ids = [cell.id for cell in cells if cell.id and not notebook.endswith(tuple(TEXT_NOTEBOOK_SUFFIXES))]
    return frozenset(ids) or frozenset(_digest(cell.source) for cell in cells if cell.source.strip())


def _digest(source: str) -> str:
    return hashlib.sha256(source.strip().encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]
