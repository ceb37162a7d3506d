"""The progress of a transfer: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.views.terminal_text import harmless
from nbpipe.views.wording import size

# A transfer that is over before needs no line.
_BAR_SECONDS = 0.5
_FIRST_SECONDS = 2.0
_EACH_SECONDS = 10.0


@contextmanager
def transfer_progress(screen: TerminalOutput, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with the bytes that were transferred since the last call, by any thread."""
    if screen.as_json:
        yield lambda _count: None
        return
    shown = _Bar(what, total) if sys.stderr.isatty() else _Lines(screen, what, total)
    try:
        yield shown.add
    finally:
        shown.end()


class _Transfer:
    """A transfer that is shown once it has taken some time, and again every few seconds."""

    def __init__(self, what: str, total: int, first: float, each: float) -> None:
        self._what, self._total, self._done = harmless(what), total, 0
        self._next, self._each = time.monotonic() + first, each
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + self._each
                self._show()

    def end(self) -> None:
        """Remove what is shown."""

    def _show(self) -> None:
        raise NotImplementedError


class _Lines(_Transfer):
    def __init__(self, screen: TerminalOutput, what: str, total: int) -> None:
        super().__init__(what, total, _FIRST_SECONDS, _EACH_SECONDS)
        self._screen = screen

    def _show(self) -> None:
        self._screen.note(f"{self._what}: {size(self._done)} of {size(self._total)}")


class _Bar(_Transfer):
    def __init__(self, what: str, total: int) -> None:
        super().__init__(what, total, _BAR_SECONDS, _BAR_SECONDS / 4)
        self._progress: Any = None
        self._task: Any = None

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _show(self) -> None:
        if self._progress is None:
            self._progress = _progress()
            self._task = self._progress.add_task(self._what[:60], total=self._total)
            self._progress.start()
        self._progress.update(self._task, completed=self._done)


def _progress() -> Any:
    # Imported here: only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), transient=True)
