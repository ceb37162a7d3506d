"""The attempts that this process is carrying out, and how one of them is stopped from another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol

_GRACE_SECONDS = 1.5


class StopReason(StrEnum):
    """Why an attempt was stopped."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class StoppableKernel(Protocol):
    """What can be interrupted, and killed; both may come late."""

    def interrupt(self) -> None:
        """Ask for an end, and return at once."""

    def kill(self) -> None:
        """Bring about an end, and wait for it a while."""


class ActiveAttempt:
    """One attempt: ``stopped`` is None, or the first reason for which it was stopped."""

    def __init__(self, stopped: StopReason | None = None) -> None:
        self.stopped = stopped
        self._kernel: StoppableKernel | None = None
        self._sealed = False
        self._lock = threading.Lock()

    def runs_on(self, kernel: StoppableKernel) -> None:
        """Name the kernel that a stop has to end."""
        with self._lock:
            self._kernel = kernel

    def seal(self) -> None:
        """Close the attempt to later stops: its results become visible now, unless it was stopped already."""
        with self._lock:
            self._sealed = True

    def stop(self, reason: StopReason) -> bool:
        """Interrupt the kernel now and kill it after a grace; returns at once, False when there is nothing to stop."""
        with self._lock:
            if self._sealed or self.stopped is not None:
                return self.stopped is not None
            self.stopped = reason
            kernel = self._kernel
        if kernel is not None:
            kernel.interrupt()
            killer = threading.Timer(_GRACE_SECONDS, kernel.kill)
            killer.daemon = True
            killer.start()
        return True


class AttemptRegistry:
    """All attempts of this process by name; one that is stopped before it comes is stopped when it comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here: dict[str, ActiveAttempt] = {}
        self._not_to_start: set[str] = set()

    @contextmanager
    def carrying(self, name: str) -> Iterator[ActiveAttempt]:
        """Hold attempt ``name`` for as long as it is carried out here."""
        with self._lock:
            attempt = ActiveAttempt(StopReason.CANCELLED if name in self._not_to_start else None)
            self._not_to_start.discard(name)
            self._here[name] = attempt
        try:
            yield attempt
        finally:
            with self._lock:
                del self._here[name]

    def stop(self, name: str) -> bool:
        """Stop attempt ``name``; False when it is not being carried out here (and then it will not start)."""
        with self._lock:
            attempt = self._here.get(name)
            if attempt is None:
                self._not_to_start.add(name)
        return attempt is not None and attempt.stop(StopReason.CANCELLED)
