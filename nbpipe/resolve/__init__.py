"""From a request to everything pinned: the workspace's layout, files, parameters, earlier results."""
