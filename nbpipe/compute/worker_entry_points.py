"""The worker's entry points by name: only a worker imports ``nbpipe.execution``."""

from __future__ import annotations

import sys

from nbpipe.entry_points import load_entry_point

RUN = "nbpipe.execution.attempt.attempt_runner:run_attempt"
STOP = "nbpipe.execution.attempt.attempt_runner:stop_attempt"
SHIP = "nbpipe.execution.attempt.runtime_bundle:write_bundle"
REFERENCE_RUN = "nbpipe.execution.reference_run:run_plainly"
RETIRE = "nbpipe.execution.kernels.standby_kernel:retire_kernels"


def retire_kernels() -> None:
    """End the kernels that this process has started for later attempts, if any."""
    if RETIRE.partition(":")[0] in sys.modules:
        load_entry_point(RETIRE)()
