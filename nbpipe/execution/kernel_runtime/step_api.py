"""What a running step tells: metrics, tables, images, progress; and what it may ask about its run. In its kernel.

``import nbpipe`` in a step gives these functions. What is told travels as display data of a type of our own, so it is
in the executed notebook too, with a plain text beside it. Outside of a run they do nothing, and say nothing.
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
    """The run that this code is part of; ``active`` is False where it is part of none."""

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
    """Record a number under a name; ``step`` orders the values of one name, else their order in time does."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        kind = type(value).__name__
        raise TypeError(f"the metric {name!r} is a {kind}; a metric is a number: float(value) makes one of most things")
    if step is not None and not (isinstance(step, int) and abs(step) < 1 << 63):
        raise TypeError(f"the step {step!r} of the metric {name!r} is no whole number that a history can hold")
    number = float(value)
    shown = number if math.isfinite(number) else str(number)
    place = "" if step is None else f" (step {step})"
    _tell({"kind": "metric", "name": str(name), "value": shown, "step": step}, f"{name} = {number:g}{place}")


def log_table(name: str, table: Any) -> None:
    """Record a small table: a list of dicts, a dict of lists, or a DataFrame; what is beyond 1,000 rows is left out."""
    columns, rows = _table(name, table)
    told = {"kind": "table", "name": str(name), "columns": columns, "rows": rows[:_ROWS], "count": len(rows)}
    _tell(told, f"{name}: {len(rows)} rows of {', '.join(columns)}")


def log_image(name: str, image: Any) -> None:
    """Record a picture: a matplotlib figure, a PIL image, or PNG bytes."""
    data = _png(name, image)
    # Here, because only who logs an image needs it.
    import base64

    png = base64.b64encode(data).decode("ascii")
    _tell({"kind": "image", "name": str(name), "bytes": len(data)}, f"{name}: a picture of {len(data):,} bytes", png)


def progress(done: float, total: float | None = None, description: str = "") -> None:
    """Tell how far the step has come, and with what."""
    share = f" of {total:g}" if total else ""
    told = {"kind": "progress", "done": float(done), "total": None if total is None else float(total)}
    _tell({**told, "description": str(description)}, f"{description} {done:g}{share}".lstrip())


def _tell(told: dict[str, Any], text: str, png: str | None = None) -> None:
    display = sys.modules.get("IPython.display")
    if not context().active or display is None:
        return
    bundle = {MIME: told, "text/plain": text} | ({"image/png": png} if png else {})
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
        raise TypeError(f"the table {name!r} is no DataFrame, dict of lists or list of dicts")
    columns = list(dict.fromkeys(str(column) for row in rows for column in row))
    return columns, [[_plain(row.get(column)) for column in columns] for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _png(name: str, image: Any) -> bytes:
    if isinstance(image, bytes) and image.startswith(b"\x89PNG"):
        return image
    # As above.
    import io

    target = io.BytesIO()
    if hasattr(image, "savefig"):
        image.savefig(target, format="png", bbox_inches="tight")
    elif hasattr(image, "save"):
        image.save(target, format="PNG")
    else:
        raise TypeError(f"the image {name!r} is a {type(image).__name__}, no figure, PIL image or PNG bytes")
    return target.getvalue()
