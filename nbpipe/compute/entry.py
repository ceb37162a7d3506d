"""The worker's entry points by name: this floor must not import the worker's wing, only a worker does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

RUN = "nbpipe.execution.job:run_attempt"
STOP = "nbpipe.execution.job:stop_attempt"
SHIP = "nbpipe.execution.shipping:ship"
RETIRE = "nbpipe.execution.spare:retire"


def load(name: str) -> Callable[..., Any]:
    """Get the function that ``MODULE:FUNCTION`` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def retire() -> None:
    """End what attempts of this process have left for later ones, if there ever was one."""
    if RETIRE.partition(":")[0] in sys.modules:
        load(RETIRE)()
