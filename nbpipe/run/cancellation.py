"""Cancellation by Ctrl-C, SIGTERM or another process: the run first stops its kernels and is then cancelled."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from nbpipe.history.runs import CancelRequests

_LOOK_SECONDS = 0.25


class CancellationPoller:
    """Polls for cancellations that were requested elsewhere, four times a second at most."""

    def __init__(self, look: Callable[[], CancelRequests]) -> None:
        self._look = look
        self._requests = CancelRequests()
        self._next = 0.0

    def __call__(self) -> CancelRequests:
        """Return the requests so far."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LOOK_SECONDS
            self._requests = self._look()
        return self._requests


@contextmanager
def watch_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal was received; a second signal raises KeyboardInterrupt."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
