"""Whether somebody looks at the cell that runs now: then it need not wait for its step, and gets a card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

OFF = "NBPIPE_LIVE"


def is_watched(shell: Any) -> bool:
    """Return whether a front end runs this cell, which names the cell; papermill and nbconvert do not.

    ``NBPIPE_LIVE=0`` in the environment has every step cell wait for its step.
    """
    return os.environ.get(OFF) != "0" and names_cells(shell)


def names_cells(shell: Any) -> bool:
    """Return whether a front end tells which cell runs now."""
    return "cellId" in cell_metadata(shell)


def deleted_cells(shell: Any) -> list[str]:
    """Return the ids of cells that were deleted since the front end ran one before."""
    told = cell_metadata(shell).get("deletedCells")
    return [str(cell) for cell in told] if isinstance(told, list) else []


def cell_metadata(shell: Any) -> Mapping[str, Any]:
    """Return what the front end told with the cell that runs now."""
    get_parent = getattr(getattr(shell, "kernel", None), "get_parent", None)
    parent = get_parent() if get_parent else None
    return (parent or {}).get("metadata") or {}
