"""Folders for the sockets of kernels: private to this user, and short enough for a socket's path."""

from __future__ import annotations

import os
import tempfile

# A socket's path is limited to 107 bytes; a kernel adds some 30 to the directory's path.
_LONGEST_DIRECTORY = 70


def make_socket_directory() -> str:
    """Create a folder that only this user can enter, with a path short enough for sockets."""
    here = tempfile.gettempdir()
    if len(os.fsencode(here)) > _LONGEST_DIRECTORY:
        here = "/tmp"  # noqa: S108  # the folder made in it is private
    return tempfile.mkdtemp(prefix=f"nbk{os.getpid()}-", dir=here)
