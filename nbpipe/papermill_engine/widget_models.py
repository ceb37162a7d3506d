"""The models of the widgets in a notebook's outputs: those of its own kernel, and those of the steps' kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STATE = "application/vnd.jupyter.widget-state+json"
_VIEW = "application/vnd.jupyter.widget-view+json"


def add_models(notebook: Any, models: Mapping[str, Any]) -> None:
    """Add models by their ids to a notebook's metadata, if any of its outputs shows a widget."""
    if not any(_VIEW in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())):
        return
    own = notebook.metadata.get("widgets", {}).get(_STATE, {})
    states = {**models, **own.get("state", {})}
    if states:
        content = {"version_major": 2, "version_minor": 0, **own, "state": states}
        notebook.metadata["widgets"] = {**notebook.metadata.get("widgets", {}), _STATE: content}


def models_in(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models in the metadata of an executed notebook, by their ids."""
    models: dict[str, Any] = notebook.get("metadata", {}).get("widgets", {}).get(_STATE, {}).get("state", {})
    return models
