"""What a step displayed and printed, as a stored object of its result: what a reused step shows again.

It has the form of an executed notebook with only the step's cells and their outputs. It keeps the last 100,000
characters of printed text, and displays of up to 8 MB; a line says how much was left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbpipe.data.artifacts import check
from nbpipe.data.digests import NoDigestCache
from nbpipe.data.executed_notebook import damage_of_document
from nbpipe.data.materializer import Materializer
from nbpipe.data.notebook_widgets import show_widgets
from nbpipe.data.regular_file import read_regular
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import DISPLAY, Artifact

BASENAME = f"{DISPLAY}.json"
PRINTED = 100_000
DISPLAYED = 8_000_000
_DISPLAYS = ("display_data", "execute_result")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def display_text(notebook: Mapping[str, Any]) -> str | None:
    """Return what the step's cells of an executed notebook displayed and printed, as JSON text; None if nothing."""
    outputs = [[_plain(output) for output in cell.get("outputs", [])] for cell in _step_cells(notebook)]
    if not any(outputs):
        return None
    _cut_printed([output for of_cell in outputs for output in of_cell if output["output_type"] == "stream"])
    _cut_displayed([output for of_cell in outputs for output in of_cell if output["output_type"] in _DISPLAYS])
    return _text(outputs, _widgets(notebook, outputs))


def empty_display_text(notebook: Mapping[str, Any]) -> str:
    """Return the JSON text for a step that displayed nothing."""
    return _text([[] for _ in _step_cells(notebook)])


def read_display(materializer: Materializer, artifact: Artifact) -> dict[str, Any]:
    """Return a stored display; raise StoreOutOfReach if it is missing or damaged."""
    damage = check(materializer, artifact, NoDigestCache())
    if damage is not None:
        raise StoreOutOfReach(damage, "--force runs the step again.")
    try:
        document: dict[str, Any] = json.loads(read_regular(Path(materializer.path(artifact))))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreOutOfReach(f"what the step displayed cannot be read: {error}") from error
    damage = damage_of_document(document)
    if damage is not None:
        raise StoreOutOfReach(f"what the step displayed {damage}")
    return document


def _step_cells(notebook: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["metadata"].get("nbpipe", {}).get("role") == "step"]


def _widgets(notebook: Mapping[str, Any], outputs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the notebook's metadata of the widgets that the outputs show; none beyond the limit for displays."""
    widgets: dict[str, Any] = notebook.get("metadata", {}).get("widgets", {})
    is_shown = show_widgets(output for of_cell in outputs for output in of_cell)
    return {"widgets": widgets} if widgets and is_shown and len(json.dumps(widgets)) <= DISPLAYED else {}


def _text(outputs: list[list[dict[str, Any]]], about: Mapping[str, Any] = _NOTHING) -> str:
    metadata = {"nbpipe": {"role": "step"}}
    cells = [
        {"cell_type": "code", "metadata": metadata, "source": "", "execution_count": None, "outputs": each}
        for each in outputs
    ]
    return json.dumps({"cells": cells, "metadata": dict(about)} if about else {"cells": cells}, sort_keys=True)


def _plain(output: Mapping[str, Any]) -> dict[str, Any]:
    """Return an output without the counter of its cell, which says nothing about the result."""
    return {**output, "execution_count": None} if output["output_type"] == "execute_result" else dict(output)


def _cut_printed(streams: list[dict[str, Any]]) -> None:
    """Drop printed text from the beginning until the rest is within the limit, and say how much that was."""
    characters = surplus = sum(len(stream["text"]) for stream in streams) - PRINTED
    lines = 0
    for stream in streams:
        if surplus <= 0:
            return
        dropped, kept = stream["text"][:surplus], stream["text"][surplus:]
        surplus -= len(dropped)
        lines += dropped.count("\n")
        note = "" if surplus else f"[nbpipe left out {lines:,} lines ({characters:,} characters)]\n"
        stream["text"] = note + kept


def _cut_displayed(displays: list[dict[str, Any]]) -> None:
    """Replace the displays that are beyond the limit by lines with their sizes."""
    room = DISPLAYED
    for display in displays:
        size = len(json.dumps(display["data"]))
        if size <= room:
            room -= size
            continue
        message = f"[nbpipe left out {', '.join(sorted(display['data']))}: {size:,} bytes]"
        display["data"] = {"text/plain": message}
