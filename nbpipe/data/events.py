"""The events of an attempt as a file that grows: written by its worker, followed by whoever wants to see.

A file, and not messages: it is ordered and complete whoever comes late, dies or starts anew, and needs no connection.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nbpipe.model import Event, Metric

NAME = "events.jsonl"
# A flood of output is for the executed notebook to cut short; the screen needs no more than this of it.
_MOST_BYTES = 4 << 20
_MOST_TEXT = 64 << 10
_PAUSE = 0.05
_LARGEST = 1e308


class EventFile:
    """Writes one attempt's events; what comes within a twentieth of a second is joined and written together."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = (directory / NAME).open("ab", buffering=0)
        self._clock = clock
        self._number = 0
        self._written = 0
        self._left_out = 0
        self._waiting: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_often, name="nbpipe-events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._write()
        if self._left_out:
            self._put({"kind": "cut", "cell": None, "told": {"count": self._left_out}})
        self._file.close()

    def tell(self, kind: str, cell: int | None, told: Mapping[str, Any]) -> None:
        """Add an event; text of one stream that follows on itself is one event."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if kind == "stream" and last and _continues(last, cell, told):
                last["told"] = {**told, "text": last["told"]["text"] + told["text"]}
                return
            self._waiting.append({"kind": kind, "cell": cell, "told": dict(told)})

    def _write_often(self) -> None:
        while not self._over.wait(_PAUSE):
            self._write()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for event in waiting:
            if self._written > _MOST_BYTES and event["kind"] in ("stream", "display"):
                self._left_out += 1
            else:
                self._put(event)

    def _put(self, event: dict[str, Any]) -> None:
        self._number += 1
        text = event["told"].get("text")
        if isinstance(text, str) and len(text) > _MOST_TEXT:
            event["told"]["text"] = f"{text[: _MOST_TEXT // 2]}\n…\n{text[-_MOST_TEXT // 2 :]}"
        line = json.dumps({"number": self._number, "time": self._clock(), **event}, ensure_ascii=True).encode() + b"\n"
        self._written += len(line)
        self._file.write(line)


def _continues(last: Mapping[str, Any], cell: int | None, told: Mapping[str, Any]) -> bool:
    same = last["kind"] == "stream" and last["cell"] == cell and last["told"]["name"] == told["name"]
    return same and len(last["told"]["text"]) < _MOST_TEXT


class Tail:
    """Reads one attempt's events as they come."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._place = 0

    @property
    def begun(self) -> bool:
        """Say whether the attempt has begun."""
        return self._path.exists()

    def read(self) -> list[Event]:
        """Get the events that have come since the last time; a line that is not whole yet comes later."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size <= self._place:
                    return []
                file.seek(self._place)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._place += len(whole) + len(newline)
        return [_event(line) for line in whole.splitlines() if line]


def metrics_of(events: Iterable[Event], run: str, step: str, attempt: str) -> list[Metric]:
    """Get the numbers among some events of an attempt."""
    return [
        Metric(run, step, attempt, e.number, e.told["name"], float(e.told["value"]), e.told.get("step"), e.time)
        for e in events
        if e.kind == "metric"
    ]


def event_in(data: object) -> tuple[str, dict[str, Any]] | None:
    """Get the kind and content of an event that a step's kernel displayed; None for what is none of ours.

    The kernel runs the author's code, which may display anything under any name.
    """
    if not isinstance(data, Mapping):
        return None
    told = {str(name): value for name, value in data.items() if name != "kind"}
    kind = data.get("kind")
    checks = _KINDS.get(kind) if isinstance(kind, str) else None
    if checks is None or not all(check(told.get(name)) for name, check in checks.items()):
        return None
    return str(kind), told


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_place(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63)


def _is_name(value: object) -> bool:
    return isinstance(value, str)


_KINDS: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    "metric": {"name": _is_name, "value": _is_number, "step": _is_place},
    "progress": {
        "done": _is_number,
        "total": lambda value: value is None or _is_number(value),
        "description": lambda value: value is None or _is_name(value),
    },
    "table": {"name": _is_name, "columns": lambda value: isinstance(value, list)},
    "image": {"name": _is_name},
}


def _event(line: bytes) -> Event:
    told = json.loads(line)
    return Event(told["number"], told["time"], told["kind"], told["cell"], told["told"])
