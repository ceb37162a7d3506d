"""The progress of a transfer under the running cell: one line that is updated in place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from IPython.display import display

from nbpipe.views.terminal_text import harmless
from nbpipe.views.wording import size

# A transfer that is over before needs no line.
_FIRST_SECONDS = 0.5
_EACH_SECONDS = 0.25


@contextmanager
def transfer_line(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with the bytes that were transferred since the last call, by any thread."""
    line = _TransferLine(harmless(what), total)
    yield line.add
    line.end()


class _TransferLine:
    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._next = time.monotonic() + _FIRST_SECONDS
        self._handle: Any = None
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _EACH_SECONDS
                self._show()

    def end(self) -> None:
        if self._handle is not None:
            self._show()

    def _show(self) -> None:
        bundle = {"text/plain": f"{self._what}: {size(self._done)} of {size(self._total)}"}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)
