"""The API of a running step: log metrics, tables, images and progress, and query the run. In its kernel.

``import nbpipe`` in a step provides these functions. Events are sent as display data of nbpipe's own MIME type, so they
are in the executed notebook too, with a plain text. Outside of a run, the functions do nothing.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

MIME = "application/vnd.nbpipe.event+json"
_ROWS = 1000
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_CURRENT: dict[str, RunContext] = {}


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run that this code is part of; ``active`` is False outside of a run."""

    active: bool = False
    run: str = ""
    experiment: str = ""
    step: str = ""
    attempt: str = ""
    inputs: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    parameters: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)


def context() -> RunContext:
    """Return the run that this code is part of: run, experiment, step, inputs (paths by name), parameters."""
    return _CURRENT.get("here", RunContext())


def enter(here: RunContext) -> None:
    """Make this process part of a run."""
    _CURRENT["here"] = here


def log_metric(name: str, value: float, step: int | None = None) -> None:
    """Record a number under a name; ``step`` orders the values of one name, instead of their time."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        kind = type(value).__name__
        raise TypeError(f"the metric {name!r} is a {kind}; a metric is a number: float(value) makes one of most things")
    if step is not None and not (isinstance(step, int) and abs(step) < 1 << 63):
        raise TypeError(f"the step {step!r} of the metric {name!r} is not a whole number, or is too large")
    number = float(value)
    shown = number if math.isfinite(number) else str(number)
    place = "" if step is None else f" (step {step})"
    _display({"kind": "metric", "name": str(name), "value": shown, "step": step}, f"{name} = {number:g}{place}")


def log_table(name: str, table: Any) -> None:
    """Record a small table: a list of dicts, a dict of lists, or a DataFrame; only the first 1,000 rows are kept."""
    columns, rows = _table(name, table)
    event = {"kind": "table", "name": str(name), "columns": columns, "rows": rows[:_ROWS], "count": len(rows)}
    _display(event, f"{name}: {len(rows)} rows of {', '.join(columns)}")


def log_image(name: str, image: Any) -> None:
    """Record a picture: a matplotlib figure, a PIL image, or PNG bytes."""
    data = _png(name, image)
    # Imported here: only needed for images.
    import base64

    png = base64.b64encode(data).decode("ascii")
    _display({"kind": "image", "name": str(name), "bytes": len(data)}, f"{name}: a picture of {len(data):,} bytes", png)


def progress(done: float, total: float | None = None, description: str = "") -> None:
    """Report the step's progress, with a description."""
    share = f" of {total:g}" if total else ""
    event = {"kind": "progress", "done": float(done), "total": None if total is None else float(total)}
    _display({**event, "description": str(description)}, f"{description} {done:g}{share}".lstrip())


def _display(event: dict[str, Any], text: str, png: str | None = None) -> None:
    display = sys.modules.get("IPython.display")
    if not context().active or display is None:
        return
    bundle = {MIME: event, "text/plain": text} | ({"image/png": png} if png else {})
    display.display(bundle, raw=True)


def _table(name: str, table: Any) -> tuple[list[str], list[list[Any]]]:
    if hasattr(table, "to_dict") and hasattr(table, "columns"):
        columns = [str(column) for column in table.columns]
        return columns, [[_plain(value) for value in row] for row in table.head(_ROWS + 1).to_numpy().tolist()]
    if isinstance(table, Mapping):
        columns = [str(column) for column in table]
        return columns, [[_plain(value) for value in row] for row in zip(*table.values(), strict=True)]
    rows = list(table)
    if not all(isinstance(row, Mapping) for row in rows):
        raise TypeError(f"the table {name!r} is not a DataFrame, a dict of lists or a list of dicts")
    columns = list(dict.fromkeys(str(column) for row in rows for column in row))
    return columns, [[_plain(row.get(column)) for column in columns] for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _png(name: str, image: Any) -> bytes:
    if isinstance(image, bytes) and image.startswith(b"\x89PNG"):
        return image
    # Imported here, as above.
    import io

    target = io.BytesIO()
    if hasattr(image, "savefig"):
        image.savefig(target, format="png", bbox_inches="tight")
    elif hasattr(image, "save"):
        image.save(target, format="PNG")
    else:
        raise TypeError(f"the image {name!r} is a {type(image).__name__}, not a figure, PIL image or PNG bytes")
    return target.getvalue()
