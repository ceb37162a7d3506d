"""Transfers of inputs for a run, beside its loop: each in a thread of its own, stopped at its next piece."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from nbpipe.errors import NbpipeError
from nbpipe.model.amounts import size_text

# A change of the progress is told after a second, if it is a twentieth of the whole; and after some seconds anyway.
_SOONEST, _LATEST, _SHARE = 1.0, 10.0, 0.05

Progress = Callable[[int], None]


class TransferStopped(Exception):
    """The transfer is no longer wanted."""


@dataclass(slots=True)
class InputTransfer:
    """A transfer for one execution, which is ``doing`` something; ``total`` are its bytes, negative if unknown.

    ``error`` says how it failed; ``resume`` is called in the run's loop once it is done.
    """

    execution: str
    doing: str
    total: int
    resume: Callable[[], None]
    done: int = 0
    stopped: bool = False
    error: NbpipeError | OSError | None = None
    _told: tuple[float, int] = (0.0, -1)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Note that so many more bytes have arrived; raise TransferStopped if they are not wanted."""
        with self._lock:
            self.done += count
        if self.stopped:
            raise TransferStopped

    @property
    def note(self) -> str:
        """Return how far it is, in words."""
        total = f" of {size_text(self.total)}" if self.total >= 0 else ""
        return f"{self.doing}: {size_text(self.done)}{total}"

    def has_news(self, now: float) -> bool:
        """Return whether enough has arrived since this was last true, or for some time nothing was told."""
        at, told = self._told
        share = self.total > 0 and self.done - told >= _SHARE * self.total
        if told >= 0 and not (now - at >= _SOONEST and (share or (now - at >= _LATEST and self.done > told))):
            return False
        self._told = (now, self.done)
        return True


class InputTransfers:
    """The transfers that go on, by execution."""

    def __init__(self) -> None:
        self._active: dict[str, tuple[InputTransfer, threading.Thread]] = {}

    def __contains__(self, execution: str) -> bool:
        return execution in self._active

    @property
    def active(self) -> list[InputTransfer]:
        """Return those that go on."""
        return [transfer for transfer, _ in self._active.values()]

    def start(self, transfer: InputTransfer, work: Callable[[Progress], None]) -> None:
        """Begin a transfer; ``work`` is given what tells its progress."""

        def carry_out() -> None:
            try:
                work(transfer.add)
            except TransferStopped:
                return
            except (NbpipeError, OSError) as error:
                transfer.error = error

        # A process that is ended does not wait for what it no longer needs.
        thread = threading.Thread(target=carry_out, name="nbpipe-transfer", daemon=True)
        self._active[transfer.execution] = (transfer, thread)
        thread.start()

    def ended(self) -> list[InputTransfer]:
        """Return those that have ended since the last call."""
        over = [transfer for transfer, thread in self._active.values() if not thread.is_alive()]
        for transfer in over:
            del self._active[transfer.execution]
        return over

    def stop_all(self) -> None:
        """End all transfers."""
        for execution in self._active:
            self.stop(execution)

    def stop(self, execution: str) -> None:
        """End a transfer at its next piece, if there is one of this execution."""
        if execution in self._active:
            self._active[execution][0].stopped = True
