"""The worker's entry points by name: this floor must not import the worker's wing, only a worker does."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

RUN = "nbpipe.execution.job:run_attempt"
STOP = "nbpipe.execution.job:stop_attempt"
SHIP = "nbpipe.execution.shipping:ship"


def load(name: str) -> Callable[..., Any]:
    """Get the function that ``MODULE:FUNCTION`` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
