"""The API of a running step: log metrics, tables, images and progress, and query the run. In its kernel.

``import nbpipe`` in a step provides these functions. Each call writes a record to the attempt's file of records, for
the run's history. The executed notebook shows some of them, as display data of nbpipe's own MIME type with a plain
text. Outside of a run, the functions do nothing.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbpipe.data.record_file import NAME, RecordWriter

MIME = "application/vnd.nbpipe.event+json"
_ROWS = 1000
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_CURRENT: dict[str, Any] = {}

VARIABLE = "NBPIPE_RECORDS"
"""The environment variable that tells processes which a step starts where its file of records is."""

_TABLE_BYTES = 4_000_000
# So many records are displayed of each name, and of all.
_SHOWN_OF_EACH = 100
_SHOWN = 1_000


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run that this code is part of; ``active`` is False outside of a run.

    ``datasets`` are the versions that inputs are bound to, by input, each as ``NAME@NUMBER``.
    """

    active: bool = False
    run: str = ""
    experiment: str = ""
    step: str = ""
    attempt: str = ""
    inputs: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    parameters: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    datasets: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


_OUTSIDE = RunContext()


def context() -> RunContext:
    """Return the run that this code is part of: run, experiment, step, inputs (paths by name), parameters, datasets."""
    here: RunContext = _CURRENT.get("here", _OUTSIDE)
    return here


def enter(here: RunContext, directory: Path | None) -> None:
    """Make this process part of a run; without an attempt's directory nothing is recorded."""
    _CURRENT.update(here=here, records=None)
    _DISPLAYS.process = os.getpid()
    os.environ.pop(VARIABLE, None)
    path = None if directory is None else directory / NAME
    if path is not None and path.exists():
        _CURRENT["records"] = RecordWriter(path)
        os.environ[VARIABLE] = str(path)


def log_metric(name: str, value: float, step: int | None = None) -> None:
    """Record a number under a name; ``step`` orders the values of one name, instead of their time."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        kind = type(value).__name__
        raise TypeError(f"the metric {name!r} is a {kind}; a metric is a number: float(value) makes one of most things")
    if step is not None and not (isinstance(step, int) and abs(step) < 1 << 63):
        raise TypeError(f"the step {step!r} of the metric {name!r} is not a whole number, or is too large")
    number, place = float(value), None if step is None else int(step)
    record = {"kind": "metric", "name": str(name), "value": number, "step": place, "time": time.time()}
    if _write(record):
        _DISPLAYS.show(record)


def log_table(name: str, table: Any) -> None:
    """Record a small table: a list of dicts, a dict of lists, or a DataFrame.

    Only the first 1,000 rows are kept, fewer of one that would take more than 4 MB.
    """
    columns, rows = _table(name, table)
    shown = rows[:_ROWS]
    while shown and len(json.dumps(shown)) > _TABLE_BYTES:
        shown = shown[: len(shown) // 2]
    record = {"kind": "table", "name": str(name), "columns": columns, "rows": shown, "count": len(rows)}
    if _write(record):
        _DISPLAYS.show(record)


def log_image(name: str, image: Any) -> None:
    """Record a picture: a matplotlib figure, a PIL image, or PNG bytes."""
    data = _png(name, image)
    record = {"kind": "image", "name": str(name), "bytes": len(data)}
    if _write(record):
        _DISPLAYS.show(record, data)


def progress(done: float, total: float | None = None, description: str = "") -> None:
    """Report the step's progress, with a description."""
    amount = None if total is None else float(total)
    _write({"kind": "progress", "done": float(done), "total": amount, "description": str(description)})


def show_newest() -> None:
    """Display the newest record of each name that has more than the notebook shows one by one."""
    _DISPLAYS.show_newest()


def _write(record: dict[str, Any]) -> bool:
    """Write a record for the run's history, and return whether the notebook may show it."""
    if "records" not in _CURRENT and (path := os.environ.get(VARIABLE)):
        # A process that the step has started.
        _CURRENT["records"] = RecordWriter(Path(path))
    writer = _CURRENT.get("records")
    if writer is not None:
        writer.write(record)
    return context().active


class _Displays:
    """What the notebook shows of records: the first ones of each name, and the newest once a cell has ended."""

    def __init__(self) -> None:
        # This module may have been loaded before this process was forked.
        self.process = 0
        self._total = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._newest: dict[tuple[str, str], tuple[dict[str, Any], bytes | None]] = {}

    def show(self, record: dict[str, Any], png: bytes | None = None) -> None:
        """Display a record now, or keep it as the newest of its name."""
        key = record["kind"], record["name"]
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if os.getpid() != self.process:
            # A forked process cannot display anything.
            return
        if count <= _SHOWN_OF_EACH and self._total < _SHOWN:
            self._total += 1
            _display(record, png)
        elif key in self._newest or len(self._newest) < _SHOWN:
            self._newest[key] = record, png

    def show_newest(self) -> None:
        """Display what is kept."""
        newest, self._newest = self._newest, {}
        for record, png in newest.values():
            _display(record, png)


_DISPLAYS = _Displays()


def _display(record: dict[str, Any], png: bytes | None) -> None:
    display = sys.modules.get("IPython.display")
    if display is None:
        return
    event = {name: _plain(value) if name == "value" else value for name, value in record.items() if name != "time"}
    bundle = {MIME: event, "text/plain": _text(record)}
    if png is not None:
        # Imported here: only needed for images.
        import base64

        bundle["image/png"] = base64.b64encode(png).decode("ascii")
    display.display(bundle, raw=True)


def _text(record: Mapping[str, Any]) -> str:
    name = record["name"]
    if record["kind"] == "metric":
        return f"{name} = {record['value']:g}" + ("" if record["step"] is None else f" (step {record['step']})")
    if record["kind"] == "table":
        return f"{name}: {record['count']} rows of {', '.join(record['columns'])}"
    return f"{name}: a picture of {record['bytes']:,} bytes"


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
