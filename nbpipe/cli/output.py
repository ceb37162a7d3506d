"""What the command line shows: tables and a progress bar on a terminal, plain lines elsewhere, JSON when asked."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from nbpipe.errors import NbpipeError, Refusals
from nbpipe.model import Metric, ReuseVerdict, RunRecord, Status, StepEvent, StepRecord, Warned
from nbpipe.planning.plan import Decision
from nbpipe.run.answers import Explained, Planned, Report
from nbpipe.run.situation import Request
from nbpipe.views import logs, table, why, wire
from nbpipe.views.words import duration, status_words, step_explanation


class Follower(Protocol):
    """Who is told of a run's steps while they change."""

    def begin(self, run: RunRecord, planned: Planned) -> None:
        """Hear that the run begins."""

    def step(self, record: StepRecord) -> None:
        """Hear that a step has changed."""


@dataclass(slots=True)
class Screen:
    """Standard output and error of one command."""

    as_json: bool
    _seen: dict[str, Status] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Get the width to write for; a file or a pipe takes long lines."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200

    def json(self, value: Mapping[str, Any]) -> None:
        """Print the one JSON object."""
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def lines(self, lines: Iterable[str]) -> None:
        """Print the result."""
        for line in lines:
            print(_printable(line, sys.stdout))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print something beside the result, on standard error."""
        print(_printable(text, sys.stderr), file=sys.stderr, flush=True)

    def warnings(self, warnings: Iterable[Warned]) -> None:
        """Print advice."""
        for warned in warnings:
            where = warned.place.words()
            self.note(f"warning: {where + ': ' if where else ''}{warned.message}. {warned.hint}".rstrip())

    def refused(self, error: NbpipeError) -> int:
        """Print what was refused, and get the exit code."""
        if self.as_json:
            self.json(wire.errors_object(error))
        for one in error.errors if isinstance(error, Refusals) else (error,):
            self.note(f"error: {one}")
        return error.exit_code

    @contextmanager
    def following(self) -> Iterator[Follower]:
        """Get who shows a run while it goes on: a progress bar on a terminal, plain lines elsewhere."""
        if sys.stderr.isatty():
            with bar(self) as follower:
                yield follower
        else:
            yield Lines(self)

    def report(self, report: Report, numbers: Mapping[str, int]) -> None:
        """Print how a run ended."""
        self.lines(table.step_lines(report.steps, self.columns, numbers))
        self.lines([f"run {report.run.number} {status_words(report.run.status)} in {duration(report.seconds)}"])
        for line in table.note_lines(report.steps):
            self.note(line)
        for step in report.steps:
            if step.failure is not None and step.failure.kind == "user":
                self.note(f"\nstep {step.step}:\n{step.failure.traceback.rstrip()}")

    def detached(self, run: RunRecord, steps: Sequence[StepRecord]) -> None:
        """Print that a run goes on by itself."""
        if self.as_json:
            self.json(wire.run_object(run, steps, 0.0))
        else:
            name = Path(run.notebook).name
            self.lines([f"run {run.number} goes on by itself: nbpipe status --follow {name}, nbpipe cancel {name}"])

    def run(
        self,
        run: RunRecord,
        steps: Sequence[StepRecord],
        numbers: Mapping[str, int],
        now: float,
        metrics: Sequence[Metric] = (),
    ) -> None:
        """Print a recorded run."""
        seconds = (run.ended if run.ended is not None else now) - run.started
        if self.as_json:
            self.json(wire.run_object(run, steps, seconds, metrics))
            return
        head = [f"run {run.number} ({run.id}) {status_words(run.status)}, {duration(seconds)}, {run.notebook}"]
        head += [f"  {name} = {value!r}" for name, value in run.parameters.items()]
        self.lines([*head, *table.step_lines(steps, self.columns, numbers), *table.metric_lines(metrics)])

    def changed(self, steps: Iterable[StepRecord]) -> None:
        """Print the steps whose status is another than when last told."""
        for step in steps:
            if self._seen.get(step.step) is not step.status:
                self._seen[step.step] = step.status
                self.note(step_line(step))

    def heard(self, step: str, events: Iterable[StepEvent]) -> None:
        """Print what a running step told."""
        for event in events:
            for line in table.event_lines(step, event):
                self.note(line)

    def explained(self, explained: Explained, numbers: Mapping[str, int]) -> None:
        """Print why a step runs or is reused, with diffs of code."""
        parts = (explained.step, explained.verdict, explained.now, explained.before, explained.last)
        if self.as_json:
            self.json(why.why_object(*parts))
        else:
            self.lines(why.why_lines(*parts, numbers=numbers))

    def log(self, step: str, found: Path | list[StepEvent]) -> None:
        """Print what the step cells of an executed notebook printed, or what a running step has told so far."""
        if isinstance(found, Path):
            text = logs.text_of(json.loads(found.read_text(encoding="utf-8")))
        else:
            text = logs.text_of_events(found)
        if self.as_json:
            self.json({"step": step, "notebook": str(found) if isinstance(found, Path) else None, "log": text})
        else:
            self.lines([text] if text else [])


class Lines:
    """Tells a run by plain lines on standard error: one as a step starts, one as it ends; reuse is in the table."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def begin(self, run: RunRecord, planned: Planned) -> None:
        """Tell that the run begins, and advice on its notebook."""
        self._screen.warnings(planned.warnings)
        self._screen.note(f"run {run.number} of {Path(run.notebook).name}")

    def step(self, record: StepRecord) -> None:
        """Tell that a step starts or has ended."""
        if record.status in (Status.RUNNING, *_ENDED) and record.status is not Status.REUSED:
            self._screen.note(step_line(record))


@contextmanager
def bar(screen: Screen) -> Iterator[Follower]:
    """Get a progress bar over the run's steps."""
    # Imported here: only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(screen, progress)


class _Bar:
    def __init__(self, screen: Screen, progress: Any) -> None:
        self._screen, self._progress = screen, progress
        self._task = progress.add_task("planning", total=None)
        self._ended: set[str] = set()
        self._running: dict[str, None] = {}

    def begin(self, run: RunRecord, planned: Planned) -> None:
        self._screen.warnings(planned.warnings)
        self._progress.update(self._task, total=len(planned.needs), description=f"run {run.number}")

    def step(self, record: StepRecord) -> None:
        if record.status in _ENDED:
            self._ended.add(record.step)
            self._running.pop(record.step, None)
            if record.status is not Status.REUSED:
                self._progress.console.print(step_line(record), markup=False, highlight=False)
        elif record.status is Status.RUNNING:
            self._running[record.step] = None
        told = ", ".join(self._running) or "waiting"
        self._progress.update(self._task, completed=len(self._ended), description=told[:60])


_ENDED = tuple(status for status in Status if status.terminal)


def step_line(record: StepRecord) -> str:
    """Get one line about a step."""
    took = f" in {duration(record.seconds)}" if record.status in (Status.SUCCEEDED, Status.FAILED) else ""
    why = step_explanation(record)
    return f"{status_words(record.status)} {record.step}{took}" + (f": {why}" if why else "")


def origins(decisions: Iterable[Decision]) -> list[str]:
    """Get the runs whose results a plan reuses."""
    verdicts = [decision.verdict for decision in decisions]
    return [verdict.hit.origin.run for verdict in verdicts if isinstance(verdict, ReuseVerdict)]


def replace(request: Request, **changes: Any) -> Request:
    """Get a request with some of its wishes changed."""
    return dataclasses.replace(request, **changes)


def _printable(text: str, stream: TextIO) -> str:
    """Get text that the stream's encoding can hold: a plain C locale must not break a message."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding, "replace").replace(os.linesep, "\n")
