"""The heartbeat that renews the claims of a run while it is active."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from nbpipe.errors import OutOfReach
from nbpipe.history.store import History

LEASE = 30.0
_EVERY = 5.0
_LOG = logging.getLogger(__name__)


class Heartbeat:
    """A context manager with a thread that renews all claims of an owner."""

    def __init__(self, history: History, owner: str, clock: Callable[[], float]) -> None:
        self._history = history
        self._owner = owner
        self._clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="nbpipe-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(_EVERY):
            try:
                self._history.claims.renew(self._owner, now=self._clock(), lease=LEASE)
            except OutOfReach as error:
                # A lease outlives several missed renewals; if all fail, the token makes the commit fail.
                _LOG.warning("the claims of this run could not be renewed: %s", error)
