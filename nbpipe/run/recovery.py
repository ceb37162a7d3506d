"""Recovery of runs that broke off: they are ended, and the results of their attempts are kept."""

from __future__ import annotations

from collections.abc import Callable

from nbpipe.data.file_pinning import DigestCache
from nbpipe.data.materializer import Materializer
from nbpipe.entry_points import load_entry_point
from nbpipe.history.store import History
from nbpipe.resolve.workspace_layout import WorkspaceLayout

# Loaded by its name: each opening looks for runs that broke off, and hardly one finds an attempt.
_ADOPT = "nbpipe.run.result_recovery:adopt_results"


def recover_runs(
    layout: WorkspaceLayout,
    history: History,
    digests: DigestCache,
    materializer: Materializer,
    *,
    alive: Callable[[str], bool],
    now: float,
) -> list[str]:
    """End the runs whose owner is dead and return them, after adopting the results that their attempts had finished."""
    abandoned = history.lost_runs.abandoned(alive=alive)
    if abandoned:
        load_entry_point(_ADOPT)(layout, history, digests, materializer, abandoned, now=now)
    return history.lost_runs.mark_lost(alive=alive, now=now, interrupted={attempt.run for attempt in abandoned})
