"""The compute targets that are this machine."""

from __future__ import annotations

import os

from nbpipe.compute import machine_capacity
from nbpipe.model.compute import DEFAULT_TARGET, ComputeTarget

# Shared by all steps of this user that have GPUs of this machine.
_POOL = "machine"


def default_target(slots: int | None = None) -> ComputeTarget:
    """Return the default target: this machine, with its cores or ``slots``."""
    devices, pool = machine_devices()
    return ComputeTarget(DEFAULT_TARGET, slots or machine_capacity.cores(), machine_capacity.memory(), devices, pool)


def machine_devices() -> tuple[tuple[str, ...], str]:
    """Return the ids of this machine's GPUs, and the pool that they are in."""
    return machine_capacity.gpus(os.environ), _POOL
