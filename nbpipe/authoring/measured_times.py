"""How long cells took when the notebook was last executed, as Jupyter or papermill recorded it in their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_STARTS = ("iopub.execute_input", "iopub.status.busy", "shell.execute_reply.started")
_ENDS = ("shell.execute_reply", "iopub.status.idle")


def measured_times(document: Mapping[str, Any]) -> dict[int, float]:
    """Return the seconds that cells of a notebook took, by the numbers of those cells for which they are recorded."""
    metadata = {number: cell.get("metadata") for number, cell in enumerate(document["cells"], 1)}
    times = {number: measured_seconds(each) for number, each in metadata.items() if isinstance(each, dict)}
    return {number: seconds for number, seconds in times.items() if seconds is not None}


def measured_seconds(metadata: Mapping[str, Any]) -> float | None:
    """Return how long a cell took, from the times that Jupyter or papermill recorded in its metadata."""
    papermill = metadata.get("papermill")
    duration = papermill.get("duration") if isinstance(papermill, dict) else None
    if isinstance(duration, int | float) and not isinstance(duration, bool) and duration >= 0:
        return float(duration)
    execution = metadata.get("execution")
    if not isinstance(execution, dict):
        return None
    starts = [moment for key in _STARTS if (moment := _moment(execution.get(key)))]
    ends = [moment for key in _ENDS if (moment := _moment(execution.get(key)))]
    if not starts or not ends:
        return None
    try:
        seconds = (ends[0] - starts[0]).total_seconds()
    except TypeError:
        # One of the times has a zone, the other has none.
        return None
    return seconds if seconds >= 0 else None


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
