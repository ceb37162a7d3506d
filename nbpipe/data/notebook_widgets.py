"""The widgets in a notebook: outputs that show them, and their models in the notebook's metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"


def cell_outputs(notebook: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the outputs of all cells, in order."""
    return [output for cell in notebook.get("cells", ()) for output in cell.get("outputs", ())]


def show_widgets(outputs: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether any of these outputs shows a widget."""
    return any(VIEW in output.get("data", {}) for output in outputs)


def models_in(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models in a notebook's metadata, by their ids."""
    models: dict[str, Any] = notebook.get("metadata", {}).get("widgets", {}).get(STATE, {}).get("state", {})
    return models
