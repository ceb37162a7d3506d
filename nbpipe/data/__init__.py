"""Bytes and their meaning: formats, content, stores."""
