"""Ctrl-C and SIGTERM as a wish to cancel: the run stops its kernels first and is cancelled then."""

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
    """Gets what somebody has asked elsewhere to stop; looks four times a second at most."""

    def __init__(self, look: Callable[[], CancelRequests]) -> None:
        self._look = look
        self._asked = CancelRequests()
        self._next = 0.0

    def __call__(self) -> CancelRequests:
        """Get what was asked so far."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LOOK_SECONDS
            self._asked = self._look()
        return self._asked


@contextmanager
def watch_signals() -> Iterator[Callable[[], bool]]:
    """Get a function that says whether a signal came; a second one breaks off at once."""
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
