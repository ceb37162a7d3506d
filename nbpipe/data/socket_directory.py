"""Folders for the sockets of kernels: only this user can enter them, and a socket's path still fits."""

from __future__ import annotations

import os
import tempfile

# A socket's path must fit in 107 bytes; a kernel's add some 30 to the directory's.
_LONGEST_DIRECTORY = 70


def make_socket_directory() -> str:
    """Make a folder that only this user can enter and whose path is short enough for a socket's."""
    here = tempfile.gettempdir()
    if len(os.fsencode(here)) > _LONGEST_DIRECTORY:
        here = "/tmp"  # noqa: S108  # the folder made in it is private
    return tempfile.mkdtemp(prefix=f"nbk{os.getpid()}-", dir=here)
