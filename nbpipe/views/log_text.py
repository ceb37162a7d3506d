"""The output of a step, from its executed notebook or its events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nbpipe.model import AttemptLog, StepEvent, StepEventKind
from nbpipe.views.terminal_text import one_line
from nbpipe.views.wording import run_name

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_OURS = frozenset({"setup", "inputs", "parameters"})


def text_of_log(log: AttemptLog) -> str:
    """Return the output of an attempt as plain text, harmless on a terminal."""
    return text_of(log.notebook_json) if log.notebook_json else text_of_events(log.events)


def origin_line(log: AttemptLog, step: str, numbers: Mapping[str, int]) -> str:
    """Return whose output a reused step shows; empty if it is its own."""
    if log.origin is None:
        return ""
    other = "" if log.origin.step == step else f", step {one_line(log.origin.step)}"
    return f"{one_line(step)} was reused: this is the output of {run_name(log.origin.run, numbers)}{other}"


def text_of(notebook: Mapping[str, Any]) -> str:
    """Return streams, results and errors of an executed one-step notebook as plain text, harmless on a terminal."""
    parts = [part for cell in notebook.get("cells", []) for part in _cell(cell)]
    return plain("".join(parts)).rstrip("\n")


def text_of_events(events: Iterable[StepEvent]) -> str:
    """Return the output in a running step's events, in the form of :func:`text_of`."""
    return plain("".join(part for event in events for part in _event_text(event))).rstrip("\n")


def _event_text(event: StepEvent) -> Iterator[str]:
    if event.kind is StepEventKind.STREAM:
        yield str(event.content["text"])
    elif event.kind in (StepEventKind.DISPLAY, StepEventKind.ERROR):
        yield f"{event.content['text']}\n"
    elif event.kind is StepEventKind.CUT:
        yield f"[nbpipe left out {event.content['count']:,} more pieces]\n"


def shown(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return what the author's cells printed and displayed as notebook outputs, without errors."""
    for cell in notebook.get("cells", []):
        if cell.get("metadata", {}).get("nbpipe", {}).get("role") == "step":
            yield from (output for output in cell.get("outputs", []) if output.get("output_type") != "error")


def plain(text: str) -> str:
    """Return text without terminal colours, control characters and bidirectional marks."""
    return _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n")))


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    role = cell.get("metadata", {}).get("nbpipe", {}).get("role")
    for output in cell.get("outputs", []):
        kind = output.get("output_type")
        if kind == "stream":
            yield str(joined(output.get("text", "")))
        elif kind == "error":
            yield "\n".join(output.get("traceback", [])) + "\n"
        elif kind in ("execute_result", "display_data") and role not in _OURS:
            yield str(joined(output.get("data", {}).get("text/plain", ""))) + "\n"


def joined(text: Any) -> Any:
    """Return text that a notebook file may store as a list of lines; anything else is returned unchanged."""
    return "".join(text) if isinstance(text, list) and all(isinstance(line, str) for line in text) else text
