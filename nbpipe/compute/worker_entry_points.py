"""The worker's entry points by name: only a worker imports ``nbpipe.execution``."""

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
    entry_point: Callable[..., Any] = getattr(import_module(module), function)
    return entry_point


def retire_kernels() -> None:
    """End the kernels that this process has started for later attempts, if any."""
    if RETIRE.partition(":")[0] in sys.modules:
        load_entry_point(RETIRE)()
