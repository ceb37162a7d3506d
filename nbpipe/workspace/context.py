"""What the services of a workspace share: its folders, its history, its store, and the world around it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nbpipe.data.materializer import Materializer
from nbpipe.data.snapshot import DigestMemory
from nbpipe.history.store import History
from nbpipe.run.owner import is_alive
from nbpipe.run.place import Place
from nbpipe.run.recovery import recover


@dataclass(slots=True)
class WorkspaceContext:
    """An open workspace, without its services. ``clock`` gives seconds since the epoch."""

    layout: Place
    history: History
    materializer: Materializer
    digests: DigestMemory
    clock: Callable[[], float] = time.time
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def recover(self) -> None:
        """Bring to an end what dead processes have left behind."""
        recover(self.layout, self.history, self.digests, alive=is_alive, now=self.clock())
