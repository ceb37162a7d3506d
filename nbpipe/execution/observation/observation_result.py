"""The observations of a step, evaluated by its worker."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbpipe.data.digests import NoDigestCache
from nbpipe.data.installed_packages import InstalledPackages
from nbpipe.data.observations import (
    EnvironmentProbe,
    changed_input_note,
    content_of,
    relative_path,
    settle_observations,
)
from nbpipe.execution.attempt.attempt_directory import AttemptDirectory
from nbpipe.model import Job, Observation

_UNTOLD = "what the step read could not be recorded"


def observation_result(
    job: Job, directory: AttemptDirectory
) -> tuple[tuple[Observation, ...], tuple[str, ...], tuple[str, ...]]:
    """Return what a step used undeclared, what it wrote beside its outputs, and why its result is doubtful."""
    report: Mapping[str, Any] = directory.observed()
    if not report:
        return (), (), (_UNTOLD,)
    folders = tuple(report["site"])
    around = EnvironmentProbe(
        Path(job.cwd), tuple(map(Path, job.roots)), NoDigestCache(), _packages(folders, _ages(folders))
    )
    observations, doubts = settle_observations(report, around, _project(job))
    written = dict.fromkeys(relative_path(name, Path(job.cwd)) for name in report["written"])
    return observations, tuple(written), doubts


def input_notes(directory: AttemptDirectory) -> tuple[str, ...]:
    """Return a note on each input that the step has changed in place."""
    return tuple(changed_input_note(name) for name in directory.observed().get("changed", ()))


def _project(job: Job) -> Path:
    """Return the folder that moves with the workspace: the workspace's parent, if it contains the notebook."""
    notebook, beside = Path(job.cwd), Path(job.store).parent.parent
    return beside if notebook.is_relative_to(beside) else notebook


@lru_cache(maxsize=8)
def _packages(folders: tuple[str, ...], _ages: tuple[int, ...]) -> InstalledPackages:
    """Return the installed packages, cached from one step to the next."""
    return InstalledPackages(folders, lambda path: content_of(path, NoDigestCache()))


def _ages(folders: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(Path(folder).stat().st_mtime_ns for folder in folders)
