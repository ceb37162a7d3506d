"""Compute targets: named places where steps run."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ComputeTarget:
    """A compute target: its name, and how many steps run there concurrently."""

    name: str
    slots: int


def default_target(slots: int | None = None) -> ComputeTarget:
    """Return the default target: this machine, with a slot for each available core."""
    return ComputeTarget("local", slots or len(os.sched_getaffinity(0)))
