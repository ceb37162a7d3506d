"""What a worker process does first and last; Dask calls both functions in its main thread."""

from __future__ import annotations

import signal

from nbpipe.compute import worker_entry_points


def dask_setup(_worker: object) -> None:
    """Let Ctrl-C pass: a terminal sends it to every process of a command, and cancelling is the driver's to do.

    A handler instead of ignoring, for what a process ignores its children ignore as well, kernels included.
    """
    signal.signal(signal.SIGINT, lambda _number, _frame: None)


def dask_teardown(_worker: object) -> None:
    """Leave nothing behind that was kept ready for later attempts."""
    worker_entry_points.retire_kernels()
