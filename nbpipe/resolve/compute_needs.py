"""Where each step is to run, and what no worker there could ever give it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from nbpipe.errors import BadPipeline, Refused
from nbpipe.language.source_text import nearest
from nbpipe.model import Step
from nbpipe.model.compute import DEVICES, ComputeTarget, Needs, Placement
from nbpipe.resolve.compute_settings import LOCAL_GPU, ComputeSettings

_GIBIBYTE = 1 << 30


def placements_of(
    steps: Iterable[Step], settings: ComputeSettings
) -> tuple[dict[str, Placement], list[Refused]]:  # fmt: skip
    """Return where each step runs, by the step's name, and an error for each step that cannot run there."""
    placements: dict[str, Placement] = {}
    # Of this machine, which is looked at once for all steps.
    found = cache(lambda name: settings.targets[name].target())
    errors: list[Refused] = []
    for step in steps:
        name = step.options.compute or settings.default
        if name not in settings.targets:
            errors.append(_unknown(step, name, settings))
            continue
        target = found(name)
        placements[step.name] = Placement(target, target.possible(_needs(step)))
        if settings.targets[name].use == LOCAL_GPU and not target.devices:
            errors.append(BadPipeline(
                f"step `{step.name}` is to run on the compute target `{name}`, and no GPU was found on this machine",
                "See whether `nvidia-smi` lists one, and whether CUDA_VISIBLE_DEVICES hides it.",
                step.place_of("compute"),
            ))  # fmt: skip
        else:
            errors += _shortages(step, target, settings)
    return placements, errors


def _needs(step: Step) -> Needs:
    return Needs(step.options.cpu, step.options.memory or 0, step.options.gpu)


def _unknown(step: Step, name: str, settings: ComputeSettings) -> BadPipeline:
    there = ", ".join(settings.targets)
    hint = nearest(name, settings.targets) or f"There are: {there}. Others are declared as [compute.{name}]."
    return BadPipeline(f"step `{step.name}`: there is no compute target `{name}`", hint, step.place_of("compute"))


def _shortages(step: Step, target: ComputeTarget, settings: ComputeSettings) -> list[Refused]:
    """Return an error for each need of a step that exceeds what there is on the target."""
    options, where = step.options, f"the compute target `{target.name}` has"
    errors: list[Refused] = []
    if DEVICES in options.envvar:
        errors.append(BadPipeline(
            f"step `{step.name}` declares the environment variable {DEVICES}, which nbpipe sets",
            "Write `gpu: 1` for a step that needs a GPU.", step.place_of("envvar"),
        ))  # fmt: skip
    if options.cpu > target.cpu:
        errors.append(BadPipeline(
            f"step `{step.name}` needs {options.cpu} cores, and {where} {target.cpu}",
            f"Write `cpu: {target.cpu}` or less.", step.place_of("cpu"),
        ))  # fmt: skip
    if (options.memory or 0) > target.memory:
        has = f"{target.memory / _GIBIBYTE:.1f} GiB"
        errors.append(BadPipeline(
            f"step `{step.name}` needs {(options.memory or 0) / _GIBIBYTE:.1f} GiB of memory, and {where} {has}",
            f"Write `memory: {int(target.memory / (1 << 20))}MiB` or less, or leave it out.", step.place_of("memory"),
        ))  # fmt: skip
    if options.gpu > len(target.devices):
        found = str(len(target.devices)) if target.devices else "none"
        needed = f"{options.gpu} GPU{'s' if options.gpu > 1 else ''}"
        errors.append(BadPipeline(
            f"step `{step.name}` needs {needed}, and {where} {found}", _gpu_hint(options.gpu, target, settings),
            step.place_of("gpu"),
        ))  # fmt: skip
    return errors


def _gpu_hint(needed: int, target: ComputeTarget, settings: ComputeSettings) -> str:
    others = [
        name for name, other in settings.targets.items()
        if name != target.name and len(other.target().devices) >= needed
    ]  # fmt: skip
    if others:
        return f"Write `compute: {others[0]}`, which has them."
    if target.devices:
        return f"Write `gpu: {len(target.devices)}` or less."
    return "See whether `nvidia-smi` lists one, and whether CUDA_VISIBLE_DEVICES hides it, or leave `gpu` out."
