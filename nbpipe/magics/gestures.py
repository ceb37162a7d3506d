"""The gestures of a kernel: cells that follow each other at once, as in Run All, belong to the same one."""

from __future__ import annotations

import threading
from collections.abc import Callable

# After this idle time, a cell begins a new gesture.
_IDLE_SECONDS = 0.3


class Gestures:
    """Counts gestures, and calls ``ended`` in a thread of its own after each."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self.number = 0
        self._ended = ended
        self._is_busy = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(_IDLE_SECONDS, self._end)

    def begin_cell(self) -> None:
        """Note that a cell begins."""
        with self._lock:
            self._is_busy = True
            self._timer.cancel()

    def end_cell(self) -> None:
        """Note that a cell has ended: unless another one follows at once, the gesture ends."""
        with self._lock:
            self._is_busy = False
            self._restart()

    def extend(self) -> None:
        """Let the idle time begin anew, unless a cell is running."""
        with self._lock:
            if not self._is_busy:
                self._restart()

    def close(self) -> None:
        """Stop counting."""
        with self._lock:
            self._timer.cancel()

    def _restart(self) -> None:
        self._timer.cancel()
        self._timer = threading.Timer(_IDLE_SECONDS, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        with self._lock:
            if self._is_busy:
                return
            self.number += 1
        self._ended()
