"""A run as one process hands it to another: the cells as they are now, and what was asked of them."""

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
    """Get an id that no other run has, sorted by the time ``now``."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run shall be carried out.

    ``run`` is the id that the run shall have, empty for any. With ``attach`` what another run of the notebook is busy
    with is waited for, and ends here as it ends there.
    """

    keep_going: bool = False
    experiment: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    attach: bool = False


class Lifetime(StrEnum):
    """What a run that goes on in a runner depends on."""

    DETACHED = "detached"
    SUBMITTER = "submitter"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Submission:
    """Cells, what is asked of them, and the workspace ``root``; later edits of the notebook change nothing in it.

    ``environ`` is the environment that the steps see. While the run that ``joins`` names goes on, the steps are added
    to it; else they are a run of their own. ``gesture`` numbers the gesture of the user that they belong to; with
    ``holds`` the run goes on until the client tells that no more will come for now.
    When the client is gone, ``lifetime`` decides: a run of a kernel goes on while the kernel's ``connection_file`` is
    there, which a kernel keeps when it is restarted and removes when it is shut down.
    """

    cells: tuple[Cell, ...]
    asked: PipelineRequest
    run_options: RunOptions
    root: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    joins: str = ""
    gesture: int = 0
    lifetime: Lifetime = Lifetime.DETACHED
    connection_file: str = ""
    holds: bool = field(default=False, kw_only=True)

    def outlives_client(self) -> bool:
        """Return whether the run goes on although its client has closed the connection."""
        if self.lifetime is Lifetime.KERNEL:
            return bool(self.connection_file) and Path(self.connection_file).exists()
        return self.lifetime is Lifetime.DETACHED
