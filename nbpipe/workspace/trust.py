"""Trust in a workspace that was neither made nor accepted by this user."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from nbpipe.errors import BadUsage, HistoryOutOfReach
from nbpipe.resolve.workspace_layout import find_workspace, require_writable
from nbpipe.resolve.workspace_trust import accept, reason_words
from nbpipe.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class AcceptedWorkspace:
    """A workspace that its user trusts from now on: what was to be said against it, and what it holds, in words."""

    root: Path
    reasons: str
    holds: str


def trust_workspace(near: Path, named: Path | None = None) -> AcceptedWorkspace:
    """Have this user trust a workspace from now on, whatever is to be said against it."""
    layout = find_workspace(near, named)
    if not layout.root.is_dir():
        raise BadUsage(f"there is no workspace {layout.root}", "The first run makes one, which needs no trust.")
    require_writable(layout)
    with contextlib.suppress(HistoryOutOfReach), Workspace.read(near, named) as opened:
        newest = opened.context.history.runs.last()
        outputs = {artifact for _, _, artifact in opened.context.history.results.stored()}
        holds = f"{newest.number if newest else 0} runs, {len(outputs)} stored outputs"
        return AcceptedWorkspace(layout.root, reason_words(layout.root, accept(layout.root)), holds)
    return AcceptedWorkspace(layout.root, reason_words(layout.root, accept(layout.root)), "an unreadable history")
