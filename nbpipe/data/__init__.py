"""Data: formats, content digests, datastores."""
