"""Opens the models of a step's widgets in this kernel's notebook, so that their views can be drawn and saved there."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import comm

from nbpipe.data.notebook_widgets import cell_outputs, models_in, show_widgets

_TARGET = "jupyter.widget"
_PROTOCOL = "2.1.0"


def open_models(notebook: Mapping[str, Any]) -> None:
    """Open the models in an executed notebook's metadata, each once, if an output of the notebook shows a widget."""
    if not show_widgets(cell_outputs(notebook)):
        return
    manager, models = comm.get_comm_manager(), models_in(notebook)
    # A model's references to others are resolved when it is opened: those that others refer to come first.
    for model, content in sorted(models.items(), key=lambda item: str(item[1]["state"]).count("IPY_MODEL_")):
        if model not in manager.comms:
            buffers = [b64decode(buffer["data"]) for buffer in content.get("buffers", ())]
            comm.create_comm(
                target_name=_TARGET, comm_id=model, data=_opening(content), metadata={"version": _PROTOCOL},
                buffers=buffers,
            )  # fmt: skip


def _opening(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved model as the content of the message that opens it."""
    paths = [buffer["path"] for buffer in content.get("buffers", ())]
    kind = {
        f"_{name}": content[name] for name in ("model_name", "model_module", "model_module_version") if name in content
    }
    return {"state": {**kind, **content["state"]}, "buffer_paths": paths}
