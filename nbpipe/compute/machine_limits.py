"""Limits of this machine that keep a cluster from starting: raised where that is allowed, and named."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator

from nbpipe.errors import ClusterOutOfReach

_OPEN_FILES = 1024
# Dask, the worker and the first kernels take some sixty; each step that runs takes a few more.
_FEWEST_OPEN_FILES = 128
# With less, threads of Dask and the worker cannot begin, and some wait for others for ever.
_LEAST_ADDRESS_SPACE = 1 << 30
_SEMAPHORES = "/dev/shm"  # noqa: S108  # where the system has them; nothing is written there by name
_OF_SEMAPHORES = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOSYS)


def raise_open_files() -> None:
    """Let this process and the ones that it starts open some more files; raise ClusterOutOfReach if they may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    allowed = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if allowed < _FEWEST_OPEN_FILES:
        raise ClusterOutOfReach(
            f"a process may open only {allowed} files here, and running steps takes {_FEWEST_OPEN_FILES} or more",
            f"Raise the limit: ulimit -n {_OPEN_FILES}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def require_address_space() -> None:
    """Raise ClusterOutOfReach if a process may have too little address space for the threads of a cluster."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < _LEAST_ADDRESS_SPACE:
        raise ClusterOutOfReach(
            f"a process may have only {soft >> 20} MiB of address space here, and running steps takes "
            f"{_LEAST_ADDRESS_SPACE >> 20} MiB or more",
            "Raise the limit: ulimit -v unlimited. To limit a step, use `memory: 2GiB`.",
        )


def limit_behind(error: BaseException) -> ClusterOutOfReach | None:
    """Return the error about a limit that is behind another error; None if it has another cause.

    An error of the operating system without a file comes from a semaphore, which lies in /dev/shm.
    """
    for cause in _chain(error):
        if not isinstance(cause, OSError):
            continue
        reason = (cause.strerror or str(cause)).lower()
        if cause.errno in (errno.EMFILE, errno.ENFILE):
            return _cannot_start(reason, f"Raise the limit of open files: ulimit -n {_OPEN_FILES}")
        if cause.errno == errno.EAGAIN:
            return _cannot_start("no more processes may be started", "End some, or raise the limit: ulimit -u")
        if cause.errno == errno.ENOMEM:
            return _cannot_start("there is no memory left", "End other programs.")
        if cause.filename is None and cause.errno in _OF_SEMAPHORES:
            return _cannot_start(
                f"{reason}: {_SEMAPHORES}", f"See to {_SEMAPHORES}: it must have space, and be writable."
            )
        if cause.filename is not None and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return _cannot_start(f"{reason}: {cause.filename}", "Free space there, or set TMPDIR to another folder.")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it, the innermost last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cannot_start(reason: str, hint: str) -> ClusterOutOfReach:
    return ClusterOutOfReach(f"the local Dask cluster could not be started: {reason}", hint)
