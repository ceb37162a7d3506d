"""The compute targets of a workspace: what there is, and whether steps can run there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.errors import BadUsage, NbpipeError
from nbpipe.language.source_text import nearest
from nbpipe.model.compute import TargetDescription
from nbpipe.resolve.compute_settings import compute_settings
from nbpipe.resolve.workspace_layout import find_workspace


@dataclass(frozen=True, slots=True)
class TargetTest:
    """A trial of a compute target: the seconds until it could run steps, or why it cannot."""

    described: TargetDescription
    seconds: float
    error: NbpipeError | None = None


def compute_targets(folder: Path) -> list[TargetDescription]:
    """Return the compute targets for notebooks in a folder; raise BadUsage if the settings are wrong."""
    settings = compute_settings(find_workspace(folder))
    return [
        TargetDescription(
            each.target(), each.use, name == settings.default, str(each.settings_file or "")
        )
        for name, each in settings.targets.items()
    ]  # fmt: skip


def named(targets: Iterable[TargetDescription], names: Iterable[str]) -> list[TargetDescription]:
    """Return the targets of these names; raise BadUsage for one that there is not."""
    known = {each.target.name: each for each in targets}
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"There are: {', '.join(known)}."
            raise BadUsage(f"there is no compute target `{name}`", hint)
    return [known[name] for name in names]


def try_target(described: TargetDescription) -> TargetTest:
    """Start a target's cluster, and end it again."""
    began = time.monotonic()
    executor, error = DaskExecutor(described.target), None
    try:
        executor.start()
    except NbpipeError as failed:
        error = failed
    seconds = time.monotonic() - began
    executor.close()
    return TargetTest(described, seconds, error)
