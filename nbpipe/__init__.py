"""nbpipe: pipelines written as notebook cells.

Importing the package loads no other module, so a completion or a request for the version does not wait for libraries.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Workspace",
    "__version__",
    "context",
    "load_ipython_extension",
    "log_image",
    "log_metric",
    "log_table",
    "progress",
    "unload_ipython_extension",
]

_LATE = {
    "Dataset": "nbpipe.workspace.dataset_object",
    "Workspace": "nbpipe.workspace",
    "context": "nbpipe.execution.kernel_runtime.step_api",
    "log_image": "nbpipe.execution.kernel_runtime.step_api",
    "log_metric": "nbpipe.execution.kernel_runtime.step_api",
    "log_table": "nbpipe.execution.kernel_runtime.step_api",
    "progress": "nbpipe.execution.kernel_runtime.step_api",
    "load_ipython_extension": "nbpipe.magics",
    "unload_ipython_extension": "nbpipe.magics",
}


def __getattr__(name: str) -> Any:
    """Return a public name, importing its module on first use."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    was_enabled = gc.isenabled()
    # What modules load stays: collections in between would only visit it again and again.
    gc.disable()
    try:
        return getattr(import_module(_LATE[name]), name)
    finally:
        if was_enabled:
            gc.enable()


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
