"""Datastores as authors configure them: objects under keys below one root, in a folder, a cloud or on a server."""
