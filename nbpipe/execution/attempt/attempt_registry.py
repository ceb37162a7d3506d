"""The attempts that this process is carrying out, and stopping them from other threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol

from nbpipe.execution.attempt.device_leases import DeviceLease

_GRACE_SECONDS = 1.5


class StopReason(StrEnum):
    """Why an attempt was stopped."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class StoppableKernel(Protocol):
    """A kernel that can be interrupted and killed, even after it has ended."""

    def interrupt(self) -> None:
        """Request an interrupt, and return at once."""

    def kill(self) -> None:
        """End the kernel, and wait for that for a while."""


class ActiveAttempt:
    """One attempt: ``stopped`` is None, or the first reason for which it was stopped.

    ``devices`` are those that it has now.
    """

    def __init__(self, stopped: StopReason | None = None) -> None:
        self.stopped = stopped
        self.devices = DeviceLease()
        self._kernel: StoppableKernel | None = None
        self._sealed = False
        self._lock = threading.Lock()

    def runs_on(self, kernel: StoppableKernel) -> None:
        """Set the kernel that :meth:`stop` ends."""
        with self._lock:
            self._kernel = kernel

    def seal(self) -> None:
        """Ignore later stops: the results are published now, unless the attempt was stopped already."""
        with self._lock:
            self._sealed = True

    def stop(self, reason: StopReason) -> bool:
        """Interrupt the kernel, and kill it after a grace period; return at once, False if it is too late."""
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
    """All attempts of this process by name; one that is stopped before it starts does not start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here: dict[str, ActiveAttempt] = {}
        self._not_to_start: set[str] = set()

    @contextmanager
    def carrying(self, name: str) -> Iterator[ActiveAttempt]:
        """Register attempt ``name`` while it is carried out here."""
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
        """Stop attempt ``name``; return False if it is not being carried out here (then it will not start)."""
        with self._lock:
            attempt = self._here.get(name)
            if attempt is None:
                self._not_to_start.add(name)
        return attempt is not None and attempt.stop(StopReason.CANCELLED)
