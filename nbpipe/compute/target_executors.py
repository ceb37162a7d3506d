"""Executors of compute targets."""

from __future__ import annotations

from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.compute.targets import ComputeTarget


def executor_of(target: ComputeTarget) -> DaskExecutor:
    """Return an executor for a target; nothing is started before the first attempt is submitted."""
    return DaskExecutor(target.slots)
