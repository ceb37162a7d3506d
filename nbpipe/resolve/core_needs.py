"""Steps that need more cores than this machine has: they could never start."""

from __future__ import annotations

from collections.abc import Iterable

from nbpipe.compute.targets import ComputeTarget
from nbpipe.errors import BadPipeline, Refused
from nbpipe.model import Step


def core_errors(steps: Iterable[Step], target: ComputeTarget) -> list[Refused]:
    """Return an error for each step that needs more cores than there are on the target."""
    return [
        BadPipeline(
            f"step `{step.name}` needs {step.options.cpu} cores, and the compute target `{target.name}` has "
            f"{target.slots}",
            f"Write `cpu: {target.slots}` or less.", step.place_of("cpu"),
        )
        for step in steps if step.options.cpu > target.slots
    ]  # fmt: skip
