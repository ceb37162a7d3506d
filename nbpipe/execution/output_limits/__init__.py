"""Limits on what a step prints and shows, in its kernel and in its executed notebook."""
