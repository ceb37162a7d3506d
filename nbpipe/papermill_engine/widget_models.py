"""The models of the widgets in a notebook's outputs: those of its own kernel, and those of the steps' kernels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_STATE = "application/vnd.jupyter.widget-state+json"
_VIEW = "application/vnd.jupyter.widget-view+json"


def add_models(notebook: Any, executed: Iterable[str]) -> None:
    """Add the models of executed notebooks to a notebook's metadata, if any of its outputs shows a widget."""
    if not any(_VIEW in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())):
        return
    merged: dict[str, Any] = {}
    for path in executed:
        for model, state in _models(path).items():
            merged.setdefault(model, state)
    own = notebook.metadata.get("widgets", {}).get(_STATE, {})
    states = {**merged, **own.get("state", {})}
    if states:
        content = {"version_major": 2, "version_minor": 0, **own, "state": states}
        notebook.metadata["widgets"] = {**notebook.metadata.get("widgets", {}), _STATE: content}


def _models(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    state: dict[str, Any] = content.get("metadata", {}).get("widgets", {}).get(_STATE, {}).get("state", {})
    return state
