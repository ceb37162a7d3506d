"""Detection of a front end for the running cell: then the cell need not wait for its step, and gets a card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

OFF = "NBPIPE_LIVE"


def is_watched(shell: Any) -> bool:
    """Return whether a front end that sends cell ids runs this cell; papermill and nbconvert do not send them.

    With ``NBPIPE_LIVE=0`` in the environment, every step cell waits for its step.
    """
    return os.environ.get(OFF) != "0" and names_cells(shell)


def names_cells(shell: Any) -> bool:
    """Return whether a front end sends the id of the running cell."""
    return "cellId" in cell_metadata(shell)


def deleted_cells(shell: Any) -> list[str]:
    """Return the ids of cells that were deleted since the front end last ran a cell."""
    deleted = cell_metadata(shell).get("deletedCells")
    return [str(cell) for cell in deleted] if isinstance(deleted, list) else []


def cell_metadata(shell: Any) -> Mapping[str, Any]:
    """Return the metadata that the front end sent with the running cell."""
    get_parent = getattr(getattr(shell, "kernel", None), "get_parent", None)
    parent = get_parent() if get_parent else None
    return (parent or {}).get("metadata") or {}
