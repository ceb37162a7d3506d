"""The progress of a transfer: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nbpipe.views.terminal_text import harmless


@contextmanager
def transfer_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with the bytes that were transferred since the last call, by any thread."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    # Imported here: only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(harmless(what)[:60], total=total)
        yield lambda count: progress.update(task, advance=count)
