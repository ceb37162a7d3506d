"""Submissions of runs to another process: the cells as they are now, and the request."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from nbpipe.model import Cell
from nbpipe.resolve.resolved_request import PipelineRequest


def new_run_id(now: float) -> str:
    """Return a unique run id; ids sort by the time ``now``."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run.

    ``run`` is the id for the run, empty for a new one. With ``attach``, steps that another run of the notebook is
    executing are awaited, and end with the same status.
    """

    keep_going: bool = False
    experiment: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    attach: bool = False


class Lifetime(StrEnum):
    """The lifetime of a run in a runner: what it depends on."""

    DETACHED = "detached"
    SUBMITTER = "submitter"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Submission:
    """Cells, the request, and the workspace ``root``; later edits of the notebook do not affect it.

    ``environ`` is the environment of the steps. While the run named by ``joins`` is active, the steps are added to it;
    otherwise they are a run of their own. ``gesture`` is the number of the user's gesture that they belong to. With
    ``holds``, the run stays open until the client releases it.
    After the client has disconnected, ``lifetime`` decides: a run of a kernel continues while the kernel's
    ``connection_file`` exists, which a kernel keeps when it is restarted and removes when it is shut down.
    """

    cells: tuple[Cell, ...]
    request: PipelineRequest
    run_options: RunOptions
    root: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    joins: str = ""
    gesture: int = 0
    lifetime: Lifetime = Lifetime.DETACHED
    connection_file: str = ""
    holds: bool = field(default=False, kw_only=True)

    def outlives_client(self) -> bool:
        """Return whether the run continues after its client has disconnected."""
        if self.lifetime is Lifetime.KERNEL:
            return bool(self.connection_file) and Path(self.connection_file).exists()
        return self.lifetime is Lifetime.DETACHED
