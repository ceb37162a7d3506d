"""The worker's entry points by name: this floor must not import the worker's wing, only a worker does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

RUN = "nbpipe.execution.attempt.attempt_runner:run_attempt"
STOP = "nbpipe.execution.attempt.attempt_runner:stop_attempt"
SHIP = "nbpipe.execution.attempt.runtime_bundle:write_bundle"
RETIRE = "nbpipe.execution.kernels.standby_kernel:retire_kernels"


def load_entry_point(name: str) -> Callable[..., Any]:
    """Return the function that ``MODULE:FUNCTION`` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def retire_kernels() -> None:
    """End what attempts of this process have left for later ones, if there ever was one."""
    if RETIRE.partition(":")[0] in sys.modules:
        load_entry_point(RETIRE)()
