"""The workspace for a notebook, with what is to be said against it: found and asked once for a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbpipe.errors import WorkspaceUntrusted
from nbpipe.resolve.workspace_layout import WorkspaceLayout, find_workspace
from nbpipe.resolve.workspace_trust import TrustObjection, objections, trust_hint, untrusted_words


@dataclass(frozen=True, slots=True)
class FoundWorkspace:
    """A workspace's folders, and why it is not to be used; it may have to be made yet."""

    layout: WorkspaceLayout
    distrust: tuple[TrustObjection, ...]

    def require_trust(self) -> None:
        """Raise WorkspaceUntrusted if the workspace is not to be used."""
        if self.distrust:
            root = self.layout.root
            raise WorkspaceUntrusted(untrusted_words(root, self.distrust), trust_hint(root))


def look_up_workspace(near: Path, named: Path | None = None) -> FoundWorkspace:
    """Return the workspace ``named``, else the nearest one upward from ``near``, else a new one in ``near``."""
    layout = find_workspace(near, named)
    return FoundWorkspace(layout, objections(layout.root))
