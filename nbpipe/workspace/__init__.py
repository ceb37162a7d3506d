"""The façade for all faces: an open workspace, with one service for each concern."""

from __future__ import annotations

from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.runs import ActiveRun
from nbpipe.workspace.workspace import AcceptedWorkspace, Workspace, request_for, request_in

__all__ = ["AcceptedWorkspace", "ActiveRun", "Workspace", "WorkspaceContext", "request_for", "request_in"]
