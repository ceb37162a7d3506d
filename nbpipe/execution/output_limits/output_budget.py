"""Limits a step's output in its executed notebook to its beginning and end, with a note of how much was left out.

A cell keeps the first and the last 250,000 characters of text; displayed outputs (tables, images) may take 4 MB each; a
whole notebook keeps 8 MB of all these, and as much of what it shows of the step's records. So its file stays below
20 MB, and the worker's memory is limited.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import nbformat

from nbpipe.execution.output_limits.output_limiter import left_out

_HEAD = 250_000
_TAIL = 250_000
_SHOWN = 4_000_000
ALL = 8_000_000
RECORDS = 8_000_000
_ERROR = 50_000
# The size of a line and of an output in a notebook's file, without their text.
_LINE = 12
_OUTPUT = 200
_LEFT_OUT = re.compile(r"\n\[nbpipe left out ([\d,]+) lines \(([\d,]+) characters\)\]\n")


class OutputBudget:
    """The remaining budget of a notebook; ``shown`` is the current size of each output that can be updated."""

    def __init__(self, size: int = ALL) -> None:
        self.left = size
        self.shown: dict[str, int] = {}


class CellOutputs:
    """The outputs kept of one cell; ``outputs`` is the cell's own list."""

    def __init__(self, outputs: list[Any], budget: OutputBudget) -> None:
        self._outputs = outputs
        self._budget = budget
        self._head = _HEAD
        self._tail: deque[tuple[str, str]] = deque()
        self._length = 0
        self._lines = 0
        self._characters = 0

    def say(self, name: str, text: str) -> None:
        """Add text of the stream ``name``."""
        if self._head > 0 and not self._tail:
            first = text[: self._head]
            self._head -= len(first)
            text = text[len(first) :]
            self._keep(name, first)
        if text:
            self._head = 0
            self._tail.append((name, text))
            self._length += len(text)
            while self._length - len(self._tail[0][1]) >= _TAIL:
                self._drop(self._tail.popleft()[1])

    def settle(self) -> None:
        """Add the end that was held back to the outputs, after a note of how much was left out."""
        while self._tail and self._length > _TAIL:
            name, text = self._tail.popleft()
            over = self._length - _TAIL
            self._tail.appendleft((name, text[over:]))
            self._drop(text[:over])
        if self._characters:
            self._outputs.append(_stream("stdout", left_out(self._lines, self._characters)))
        for name, text in self._tail:
            self._keep(name, text)
        self._tail.clear()
        self._length = self._lines = self._characters = 0

    def forget(self) -> None:
        """Reset: the cell has cleared its output."""
        self._tail.clear()
        self._head = _HEAD
        self._length = self._lines = self._characters = 0

    def _drop(self, text: str) -> None:
        self._length -= len(text)
        self._lines += text.count("\n")
        self._characters += len(text)
        for match in _LEFT_OUT.finditer(text):
            lines, characters = (int(number.replace(",", "")) for number in match.groups())
            self._lines += lines - 2
            self._characters += characters - len(match[0])

    def _keep(self, name: str, text: str) -> None:
        joins = bool(self._outputs) and self._outputs[-1].get("name") == name
        weight = _weight(text) + (0 if joins else _OUTPUT)
        if weight > self._budget.left:
            self._lines += text.count("\n")
            self._characters += len(text)
            return
        self._budget.left -= weight
        if joins:
            self._outputs[-1]["text"] += text
        else:
            self._outputs.append(_stream(name, text))


def _stream(name: str, text: str) -> Any:
    return nbformat.v4.new_output("stream", name=name, text=text)  # type: ignore[no-untyped-call]  # theirs


def _weight(text: str) -> int:
    return len(json.dumps(text)) + _LINE * text.count("\n")


def shown(content: Mapping[str, Any], budget: OutputBudget) -> dict[str, Any] | None:
    """Return displayed content within the budget: unchanged, a line with its size, or None."""
    display = (content.get("transient") or {}).get("display_id")
    before = budget.shown.get(display, 0) if display else 0
    data = content["data"]
    weight = len(json.dumps(data)) + _OUTPUT
    if weight > min(_SHOWN, budget.left + before):
        message = f"[nbpipe left out {', '.join(sorted(data))}: {weight:,} bytes]"
        data, weight = {"text/plain": message}, len(message) + _OUTPUT
    if weight > budget.left + before:
        return None
    budget.left += before - weight
    if display:
        budget.shown[display] = weight
    return {**content, "data": data}


def fits(state: object) -> bool:
    """Return whether the state of all widgets is within the limit."""
    return len(json.dumps(state, default=str)) < _SHOWN


def error(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an error with the middle of a long text or traceback left out."""
    lines = [_shortened(line, _ERROR // 10) for line in content["traceback"]]
    if len(lines) > 100:
        lines = [*lines[:50], left_out(len(lines) - 100, sum(map(len, lines[50:-50]))), *lines[-50:]]
    return {**content, "evalue": _shortened(content["evalue"], _ERROR), "traceback": lines}


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    middle = text[most // 2 : -most // 2]
    return text[: most // 2] + left_out(middle.count("\n"), len(middle)) + text[-most // 2 :]
