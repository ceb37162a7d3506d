"""Compute targets and what steps need of them."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TARGET = "local"
# The environment variable with the ids of the GPUs that a process sees.
DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Needs:
    """What one execution occupies while it runs: cores, bytes of memory (0 where none are declared), and GPUs."""

    cpu: int = 1
    memory: int = 0
    gpu: int = 0


@dataclass(frozen=True, slots=True)
class ComputeTarget:
    """A named place where steps run, and what there is: cores, bytes of memory, and GPUs.

    ``devices`` are the ids of the GPUs. They are shared by all who name the same ``pool``; those of a ``simulated``
    target do not exist, and are assigned all the same.
    """

    name: str
    cpu: int
    memory: int
    devices: tuple[str, ...] = ()
    pool: str = ""
    simulated: bool = False

    def possible(self, needs: Needs) -> Needs:
        """Return needs that do not exceed what there is: the plan may have been made on a larger machine."""
        return Needs(
            min(needs.cpu, self.cpu), min(needs.memory, self.memory), min(needs.gpu, len(self.devices))
        )  # fmt: skip

    def concurrent(self, needs: Needs) -> int:
        """Return how many executions with the same needs run at a time, at least one."""
        limits = [self.cpu // max(needs.cpu, 1)]
        if needs.memory:
            limits.append(self.memory // needs.memory)
        if needs.gpu:
            limits.append(len(self.devices) // needs.gpu)
        return max(1, min(limits))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a step runs, and what each of its executions occupies there."""

    target: ComputeTarget
    needs: Needs


@dataclass(frozen=True, slots=True)
class TargetDescription:
    """A compute target as its settings describe it: ``use`` is its kind, ``file`` where it is declared, if it is."""

    target: ComputeTarget
    use: str
    is_default: bool
    file: str = ""
