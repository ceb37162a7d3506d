"""The content of files that nbpipe wrote: what stands in their place is not waited for.

Opening a named pipe waits for a writer, and a device may never end. It is shipped to steps' kernels and imports only
the standard library.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Return a file opened for reading; raise IsADirectoryError for a folder, OSError for anything else but a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def read_regular(path: Path) -> bytes:
    """Return the content of a file; raise as :func:`open_regular` does."""
    with open_regular(path) as file:
        return file.read()
