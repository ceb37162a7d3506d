"""Watching the runs of a workspace."""

from __future__ import annotations

from nbpipe.run.run_watcher import RunWatcher
from nbpipe.workspace.workspace import Workspace


def watch_run(workspace: Workspace, run: str) -> RunWatcher:
    """Return a watcher of a run, whichever process carries it out."""
    return RunWatcher(workspace.context.history, workspace.layout, run)
