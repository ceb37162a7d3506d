"""The context that the services of a workspace share: its folders, history, store, clock and environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.data.materializer import Materializer
from nbpipe.history.store import History
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.process_identity import is_alive
from nbpipe.run.recovery import recover_runs


@dataclass(slots=True)
class WorkspaceContext:
    """An open workspace without its services; ``clock`` returns seconds since the epoch."""

    layout: WorkspaceLayout
    history: History
    materializer: Materializer
    digests: PersistentDigestCache
    clock: Callable[[], float] = time.time
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def recover(self) -> None:
        """End the runs that dead processes have left behind."""
        recover_runs(self.layout, self.history, self.digests, alive=is_alive, now=self.clock())
