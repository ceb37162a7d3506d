"""The progress of a run that a command carries out: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.model import ExecutionRecord, Status
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.views import text_tables
from nbpipe.views.terminal_text import harmless, harmless_lines
from nbpipe.workspace.run_execution import ActiveRun

_COLUMNS = 60
_ENDED = tuple(status for status in Status if status.terminal)


class RunListener(Protocol):
    """Shows a run while its steps change."""

    def begin(self, run: ActiveRun) -> None:
        """Show that the run has begun."""

    def updated(self, update: RunUpdate) -> None:
        """Show the changes in the run."""


@contextmanager
def run_progress(screen: TerminalOutput) -> Iterator[RunListener]:
    """Yield a listener that shows an active run: a progress bar on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        with bar(screen) as listener:
            yield listener
    else:
        yield PlainRunProgress(screen)


class PlainRunProgress:
    """Shows a run as plain lines on standard error: one when a step starts, one when it ends; not for reused steps."""

    def __init__(self, screen: TerminalOutput) -> None:
        self._screen = screen

    def begin(self, run: ActiveRun) -> None:
        """Print that the run has begun, and warnings about its notebook."""
        self._screen.warnings(run.warnings)
        self._screen.note(f"run {run.record.number} of {Path(run.record.notebook).name}")

    def updated(self, update: RunUpdate) -> None:
        """Print a line for each step that starts or has ended, and for each failed attempt."""
        shown = [
            record for record in update.executions
            if record.status in (Status.RUNNING, *_ENDED) and record.status is not Status.REUSED
        ]  # fmt: skip
        for line in text_tables.update_lines(shown, update.named_attempts):
            self._screen.note(line)
        if not self._screen.as_json:
            for line in text_tables.transfer_lines(update.executions):
                self._screen.note(line)


@contextmanager
def bar(screen: TerminalOutput) -> Iterator[RunListener]:
    """Yield a progress bar over the run's steps."""
    # Imported here: only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(screen, progress)


class _Bar:
    def __init__(self, screen: TerminalOutput, progress: Any) -> None:
        self._screen, self._progress = screen, progress
        self._task = progress.add_task("planning", total=None)
        self._ended: set[str] = set()
        self._running: dict[str, None] = {}

    def begin(self, run: ActiveRun) -> None:
        self._screen.warnings(run.warnings)
        self._progress.update(self._task, total=run.steps, description=f"run {run.record.number}")

    def updated(self, update: RunUpdate) -> None:
        ended = frozenset(_ENDED) - {Status.REUSED}
        executed = [record for record in update.executions if record.status in ended]
        for line in text_tables.update_lines(executed, update.named_attempts):
            self._progress.console.print(harmless_lines(line), markup=False, highlight=False)
        for record in update.executions:
            self._step(record)

    def _step(self, record: ExecutionRecord) -> None:
        if record.status in _ENDED:
            self._ended.add(record.step)
            self._running.pop(record.step, None)
        elif record.status is Status.RUNNING:
            self._running[record.step] = None
        transfer = next(iter(text_tables.transfer_lines([record])), "")
        description = transfer or ", ".join(self._running) or "waiting"
        self._progress.update(self._task, completed=len(self._ended), description=harmless(description[:_COLUMNS]))
