"""What was around a step when it ran, as its worker sees it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbpipe.data.digests import Forgetful
from nbpipe.data.observations import Surroundings, content_of, settle
from nbpipe.data.packages import Packages
from nbpipe.execution.desk import Desk
from nbpipe.model import Job, Observed

_UNTOLD = "what the step read could not be recorded"


def observed(job: Job, desk: Desk) -> tuple[tuple[Observed, ...], tuple[str, ...], tuple[str, ...]]:
    """Get what a step used without declaring it, what it wrote beside its outputs, and why its result is doubtful."""
    told: Mapping[str, Any] = desk.observed()
    if not told:
        return (), (), (_UNTOLD,)
    folders = tuple(told["site"])
    around = Surroundings(Path(job.cwd), tuple(map(Path, job.roots)), Forgetful(), _packages(folders, _ages(folders)))
    found, doubts = settle(told, around)
    return found, tuple(told["written"]), doubts


@lru_cache(maxsize=8)
def _packages(folders: tuple[str, ...], _ages: tuple[int, ...]) -> Packages:
    """Get what is installed; who owns which module is worth keeping from one step to the next."""
    return Packages(folders, lambda path: content_of(path, Forgetful()))


def _ages(folders: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(Path(folder).stat().st_mtime_ns for folder in folders)
