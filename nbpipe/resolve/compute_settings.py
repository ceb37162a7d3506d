"""The table ``[compute]`` of ``nbpipe.toml``, checked: the compute targets by name, and which one is the default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nbpipe.compute.targets import default_target, machine_devices
from nbpipe.data.digests import bytes_digest, short_digest
from nbpipe.errors import BadUsage
from nbpipe.language.option_values import TARGET_NAME, bytes_in
from nbpipe.language.source_text import nearest
from nbpipe.model.compute import DEFAULT_TARGET, ComputeTarget
from nbpipe.resolve.workspace_layout import SETTINGS, WorkspaceLayout

LOCAL, LOCAL_GPU = "local", "local-gpu"
KINDS = (LOCAL, LOCAL_GPU)
_DEFAULT = "default"
_KEYS = ("use", "worker", "gpu")
_WORKER_KEYS = ("cpu", "memory", "gpu")
_SIMULATED = re.compile(r"simulate:([1-9]\d{0,2})")


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """A compute target as configured: what limits its worker (None: this machine), and how many GPUs are simulated."""

    name: str
    use: str = LOCAL
    cpu: int | None = None
    memory: int | None = None
    gpu: int | None = None
    simulated: int | None = None
    settings_file: Path | None = None

    def target(self) -> ComputeTarget:
        """Return the target, with what this machine has of it now."""
        machine = default_target(self.cpu)
        target = replace(machine, name=self.name, memory=self.memory or machine.memory)
        if self.simulated is not None:
            devices, pool = tuple(map(str, range(self.simulated))), self._simulated_pool()
        else:
            devices, pool = machine_devices()
        return replace(target, devices=devices[: self.gpu], pool=pool, simulated=self.simulated is not None)

    def _simulated_pool(self) -> str:
        identity = f"{self.settings_file}\0{self.name}".encode("utf-8", "surrogatepass")
        return f"simulated-{short_digest(bytes_digest(identity), 16)}"


@dataclass(frozen=True, slots=True)
class ComputeSettings:
    """The compute targets of a workspace by name, and the name of the default one."""

    default: str
    targets: Mapping[str, TargetSettings]


def compute_settings(layout: WorkspaceLayout) -> ComputeSettings:
    """Return the compute targets of a workspace; raise BadUsage if the settings are wrong."""
    where = f"[compute] in {layout.settings_file or Path(SETTINGS)}"
    targets = {DEFAULT_TARGET: TargetSettings(DEFAULT_TARGET)}
    for name, table in layout.compute.items():
        if name == _DEFAULT:
            continue
        if not TARGET_NAME.fullmatch(name):
            raise BadUsage(f"{where} has a target `{name}`", "A name has small letters, digits, `_` and `-`.")
        targets[name] = _target(name, table, layout)
    default = layout.compute.get(_DEFAULT, DEFAULT_TARGET)
    if default not in targets:
        hint = nearest(str(default), targets) or f"There are: {', '.join(targets)}."
        raise BadUsage(f"`default` of {where} is {default!r}, which is no compute target", hint)
    return ComputeSettings(str(default), targets)


def _target(name: str, table: object, layout: WorkspaceLayout) -> TargetSettings:
    where = f"[compute.{name}] in {layout.settings_file}"
    if not isinstance(table, Mapping):
        raise BadUsage(f"`{name}` of [compute] in {layout.settings_file} is {table!r}", f"Write [compute.{name}].")
    _require_known(table, _KEYS, where)
    use = table.get("use", LOCAL)
    if use not in KINDS:
        hint = nearest(str(use), KINDS) or f"It may be: {', '.join(KINDS)}."
        raise BadUsage(f"`use` of {where} is {use!r}", hint)
    worker = table.get("worker", {})
    if not isinstance(worker, Mapping):
        raise BadUsage(f"`worker` of {where} is {worker!r}", 'For example: worker = { cpu = 4, memory = "16GiB" }')
    _require_known(worker, _WORKER_KEYS, f"`worker` of {where}")
    return TargetSettings(
        name, use, _amount(worker, "cpu", where, 1), _memory(worker, where), _amount(worker, "gpu", where, 0),
        _simulated(table, where), layout.settings_file,
    )  # fmt: skip


def _require_known(table: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise BadUsage(f"{where} has the key `{key}`", nearest(key, keys) or f"It knows: {', '.join(keys)}.")


def _amount(worker: Mapping[str, object], key: str, where: str, least: int) -> int | None:
    value = worker.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise BadUsage(f"`{key}` in `worker` of {where} is {value!r}", f"It is a number from {least} on.")
    return value


def _memory(worker: Mapping[str, object], where: str) -> int | None:
    value = worker.get("memory")
    if value is None:
        return None
    amount = bytes_in(value) if isinstance(value, str) else None
    if not amount:
        raise BadUsage(f"`memory` in `worker` of {where} is {value!r}", 'It is a size, for example "16GiB".')
    return amount


def _simulated(table: Mapping[str, object], where: str) -> int | None:
    value = table.get("gpu")
    if value is None:
        return None
    match = _SIMULATED.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        hint = 'Write gpu = "simulate:2" for two that do not exist, or worker = { gpu = 2 } for two of this machine.'
        raise BadUsage(f"`gpu` of {where} is {value!r}", hint)
    return int(match[1])
