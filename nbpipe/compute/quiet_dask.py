"""Dask's log stays quiet while any cluster of this process is there, and speaks as before afterwards.

Dask restores it when a cluster ends, also if others are still there.
"""

from __future__ import annotations

import contextlib
import logging
import threading

_LOCK = threading.Lock()
_clusters = 0
_restore = contextlib.ExitStack()


def begin() -> None:
    """Silence Dask's log for one more cluster."""
    global _clusters  # noqa: PLW0603 - of the process, as Dask's log is
    # Half a second that only a run in which something is executed must pay.
    from distributed.utils import silence_logging_cmgr

    with _LOCK:
        if not _clusters:
            _restore.enter_context(silence_logging_cmgr(logging.CRITICAL))
        _clusters += 1


def end() -> None:
    """Let Dask's log speak again, if this was the last cluster."""
    global _clusters  # noqa: PLW0603 - of the process, as Dask's log is
    with _LOCK:
        _clusters -= 1
        if not _clusters:
            _restore.close()
