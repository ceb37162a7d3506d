"""Keeps Dask's log out of papermill's, which configures the root logger."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_dask_log() -> Iterator[None]:
    """Let no message of Dask reach the root logger, unless somebody has given Dask's logger a handler of its own."""
    log, nowhere = logging.getLogger("distributed"), logging.NullHandler()
    propagated = log.propagate
    log.propagate = False
    log.addHandler(nowhere)
    try:
        yield
    finally:
        log.removeHandler(nowhere)
        log.propagate = propagated
