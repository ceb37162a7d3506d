"""Ctrl-C and SIGTERM as a wish to cancel: the run stops its kernels first and is cancelled then."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_LOOK_SECONDS = 0.5


class Asked:
    """Says whether somebody has asked elsewhere; looks twice a second at most, and asks no more once it is so."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._asked = False
        self._next = 0.0

    def __call__(self) -> bool:
        """Say whether it is so."""
        if not self._asked and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LOOK_SECONDS
            self._asked = self._look()
        return self._asked


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
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
