"""The markers that can begin a cell, and the kinds of cells."""

from __future__ import annotations

from enum import StrEnum


class CellMarker(StrEnum):
    """What the first line of a cell says about it."""

    STEP = "step"
    PARAMETERS = "parameters"
    SHARED = "shared"
    LOCAL = "local"
    MAGIC = "magic"
    """another cell magic"""


class CellKind(StrEnum):
    """What a cell is in a pipeline, by its first line and its tags."""

    PARAMETERS = "parameters"
    INJECTED = "injected"
    """papermill's cell, which overrides parameters"""
    STEP = "step"
    ORDINARY = "ordinary"
