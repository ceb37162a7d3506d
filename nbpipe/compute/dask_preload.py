"""Setup and teardown of a worker process; Dask calls both functions in its main thread."""

from __future__ import annotations

import signal

from nbpipe.compute import worker_entry_points


def dask_setup(_worker: object) -> None:
    """Ignore Ctrl-C: a terminal sends it to every process of a command, but the driver cancels.

    With a handler, because child processes, kernels included, would inherit an ignored signal.
    """
    signal.signal(signal.SIGINT, lambda _number, _frame: None)


def dask_teardown(_worker: object) -> None:
    """End the kernels that were started for later attempts."""
    worker_entry_points.retire_kernels()
