"""The façade for all faces: an open workspace, with a service for each concern.

What only some callers need has a module of its own: executing, launching and watching runs, verification, trust.
"""

from __future__ import annotations

from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.workspace import Workspace, request_for, request_in

__all__ = ["Workspace", "WorkspaceContext", "request_for", "request_in"]
