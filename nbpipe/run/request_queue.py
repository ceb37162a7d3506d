"""The queue of a run: requested steps that other threads add to it, and whether it takes any more."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from nbpipe.run.requested_steps import RequestedSteps


@dataclass(slots=True)
class RequestQueue:
    """Requested steps on their way into a run. All methods may be called by any thread."""

    is_over: bool = False
    is_cancelled: bool = False
    _increments: deque[RequestedSteps] = field(default_factory=deque)
    _gesture: int = 0
    _is_held: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _woken: threading.Event = field(default_factory=threading.Event)

    def add(self, increment: RequestedSteps) -> bool:
        """Add an increment; return False if the run does not accept it.

        A run that is over accepts none; a cancelled run accepts only those of a gesture that was cancelled with it.
        """
        with self._lock:
            if self.is_over or (self.is_cancelled and increment.gesture > self._gesture):
                return False
            self._gesture = max(self._gesture, increment.gesture)
            self._increments.append(increment)
        self._woken.set()
        return True

    def take(self) -> RequestedSteps | None:
        """Return the next increment; None if there is none."""
        with self._lock:
            return self._increments.popleft() if self._increments else None

    @property
    def is_empty(self) -> bool:
        """Return whether no increment is waiting."""
        return not self._increments

    def hold(self) -> None:
        """Keep the run open when nothing is left to do in it."""
        with self._lock:
            self._is_held = True

    def release(self) -> None:
        """Let the run end when nothing is left to do in it."""
        with self._lock:
            self._is_held = False
        self._woken.set()

    def cancel(self) -> None:
        """Note that the run was cancelled: nothing holds it any more."""
        with self._lock:
            self.is_cancelled = True

    def close(self) -> bool:
        """Accept nothing more; return False, and stay open, if the run is held or an increment has just been added."""
        with self._lock:
            if self._increments or (self._is_held and not self.is_cancelled):
                return False
            self.is_over = True
            return True

    def abandon(self) -> None:
        """Accept nothing more, whatever is waiting."""
        with self._lock:
            self.is_over = True

    def wait(self, timeout: float) -> None:
        """Wait for an increment or the release of the run, up to ``timeout`` seconds."""
        self._woken.wait(timeout)
        self._woken.clear()
