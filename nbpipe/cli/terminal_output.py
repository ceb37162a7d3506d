"""The output of the command line: tables and a progress bar on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nbpipe.cli.printed_text import encodable, print_lines, printable
from nbpipe.errors import NbpipeError, Refusals
from nbpipe.model import ExecutionRecord, PipelineWarning, Status
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.views import json_output, text_tables
from nbpipe.views.terminal_text import harmless, harmless_json, harmless_lines
from nbpipe.views.wording import warning_line
from nbpipe.workspace.run_execution import ActiveRun


class RunListener(Protocol):
    """Shows a run while its steps change."""

    def begin(self, run: ActiveRun) -> None:
        """Show that the run has begun."""

    def updated(self, update: RunUpdate) -> None:
        """Show the changes in the run."""


@dataclass(slots=True)
class TerminalOutput:
    """Standard output and error of one command."""

    as_json: bool

    @property
    def columns(self) -> int:
        """Return the output width; files and pipes get long lines."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200

    def json(self, value: Mapping[str, Any]) -> None:
        """Print a JSON object on one line."""
        text = harmless_json(json.dumps(value, ensure_ascii=False))
        print(text if text == encodable(text, sys.stdout) else json.dumps(value), flush=True)

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines on standard output."""
        print_lines(lines)

    def note(self, text: str) -> None:
        """Print a message on standard error."""
        print(printable(text, sys.stderr), file=sys.stderr, flush=True)

    def warnings(self, warnings: Iterable[PipelineWarning]) -> None:
        """Print warnings."""
        for warned in warnings:
            self.note(f"warning: {warning_line(warned)}")

    def refused(self, error: NbpipeError) -> int:
        """Print an error, and return the exit code."""
        if self.as_json:
            self.json(json_output.errors_object(error))
        for one in error.errors if isinstance(error, Refusals) else (error,):
            self.note(f"error: {one}")
        return error.exit_code

    @contextmanager
    def following(self) -> Iterator[RunListener]:
        """Yield a listener that shows an active run: a progress bar on a terminal, plain lines elsewhere."""
        if sys.stderr.isatty():
            with bar(self) as follower:
                yield follower
        else:
            yield PlainRunProgress(self)

    def updated(self, update: RunUpdate, numbers: Mapping[str, int]) -> None:
        """Print the changes in a run: the output of its steps, failed attempts, new statuses."""
        for line in text_tables.update_lines(update.executions, update.named_attempts, update.outputs, numbers):
            self.note(line)


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
        description = ", ".join(self._running) or "waiting"
        self._progress.update(self._task, completed=len(self._ended), description=harmless(description[:60]))


_ENDED = tuple(status for status in Status if status.terminal)
