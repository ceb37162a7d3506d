"""The models of the widgets in a notebook's outputs: those of its own kernel, and those of the steps' kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbpipe.data.notebook_widgets import STATE, cell_outputs, models_in, show_widgets


def add_models(notebook: Any, models: Mapping[str, Any]) -> None:
    """Add models by their ids to a notebook's metadata, if any of its outputs shows a widget."""
    if not show_widgets(cell_outputs(notebook)):
        return
    states = {**models, **models_in(notebook)}
    if states:
        widgets = notebook.metadata.get("widgets", {})
        content = {"version_major": 2, "version_minor": 0, **widgets.get(STATE, {}), "state": states}
        notebook.metadata["widgets"] = {**widgets, STATE: content}
