"""Resolves a request: the workspace's layout, pinned files and parameters, earlier results."""
