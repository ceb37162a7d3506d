"""The state that a card under a running cell shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from nbpipe.model import ExecutionRecord, PipelineWarning, Preview, RunRecord, Status
from nbpipe.model.datasets import VersionDescription
from nbpipe.views.html import Html
from nbpipe.views.log_text import plain
from nbpipe.views.status_icons import MARKS
from nbpipe.views.terminal_text import fit, harmless, one_line
from nbpipe.views.wording import duration, step_explanation, warning_line

# Above this number of steps a card opens as a list; the graph is drawn on request.
GRAPH_STEPS = 60
LOG_LINES = 300
_LOG_COLUMNS = 1_000
_WHY_COLUMNS = 160
_WAITED_FOR = 4

_NONE: Mapping[str, tuple[tuple[float | None, float], ...]] = MappingProxyType({})
_NO_DATASETS: Mapping[str, VersionDescription] = MappingProxyType({})
_NO_COUNTS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StepActivity:
    """What a running step has told so far: the newest lines of its output, how far it is, its numbers by name.

    ``metrics`` are points of a curve; ``counts`` says of how many numbers each is, where that is more than its points.
    """

    tail: tuple[str, ...] = ()
    progress: tuple[float, float | None, str] | None = None
    metrics: Mapping[str, tuple[tuple[float | None, float], ...]] = field(default_factory=lambda: _NONE)
    counts: Mapping[str, int] = field(default_factory=lambda: _NO_COUNTS)

    def count(self, name: str) -> int:
        """Return how many numbers were logged under a name."""
        return max(self.counts.get(name, 0), len(self.metrics[name]))


@dataclass(frozen=True, slots=True)
class CardState:
    """Everything that a card shows, at the time ``now`` of the kernel's clock.

    ``run`` is None while it is being submitted. ``steps`` are in notebook order. ``focus`` is the step of this cell,
    or None for a whole run. ``previews`` have keys ``step.output``; ``numbers`` are run numbers by id.
    ``note`` is a sentence about the run, ``error_line`` the text of the failing line in the author's cell,
    ``displays`` the HTML that the step of this cell displayed, ``warnings`` those about the notebook. ``datasets`` are
    the versions that outputs are, by ``NAME@NUMBER``.
    """

    run: RunRecord | None
    steps: tuple[ExecutionRecord, ...]
    needs: Mapping[str, tuple[str, ...]]
    focus: str | None
    activities: Mapping[str, StepActivity]
    previews: Mapping[str, Preview]
    numbers: Mapping[str, int]
    now: float
    note: str = ""
    error_line: str = ""
    displays: tuple[Html, ...] = ()
    warnings: tuple[PipelineWarning, ...] = ()
    datasets: Mapping[str, VersionDescription] = field(default_factory=lambda: _NO_DATASETS)

    @property
    def is_awaited(self) -> bool:
        """Return whether something that is made after the run is still to come: the profile of an output."""
        return any(described.is_awaited for described in self.datasets.values())

    def step(self, name: str | None) -> ExecutionRecord | None:
        """Return the record of a step."""
        return next((record for record in self.steps if record.step == name), None)

    @property
    def status(self) -> Status:
        """The status of the card's subject: the cell's step, or the run."""
        focused = self.step(self.focus)
        if focused is not None:
            return focused.status
        return Status.QUEUED if self.run is None or self.focus is not None else self.run.status

    @property
    def live(self) -> bool:
        """Return whether the run is active."""
        return self.run is None or not self.run.status.terminal


# The details of a step: its label, the time taken or saved, its start if it is running, and its explanation.
Detail = tuple[str, str, float | None, str]


def notes(state: CardState) -> list[str]:
    """Return the sentences about the run and its notebook."""
    warnings = [f"warning: {warning_line(warning)}" for warning in state.warnings]
    return [*warnings, *([state.note] if state.note else [])]


def letters(steps: Sequence[ExecutionRecord]) -> str:
    """Return the statuses of steps as one letter each."""
    return "".join(MARKS[record.status].letter for record in steps)


def detail(record: ExecutionRecord, numbers: Mapping[str, int]) -> Detail:
    """Return what the list of steps shows about a step besides its status."""
    since = record.started if record.status is Status.RUNNING else None
    return label(record), _took(record), since, fit(step_explanation(record, numbers), _WHY_COLUMNS)


def label(record: ExecutionRecord) -> str:
    """Return the label under a step's name, e.g. ``succeeded 12 s``, ``saved 12 s``, ``queued``."""
    took = _took(record)
    return took if record.status is Status.REUSED and took else f"{record.status.value} {took}".rstrip()


def _took(record: ExecutionRecord) -> str:
    if record.status is Status.REUSED:
        return f"saved {duration(record.saved_seconds)}" if record.saved_seconds else ""
    return duration(record.seconds) if record.is_timed else ""


def counter(steps: Sequence[ExecutionRecord]) -> str:
    """Return a run's progress in words, e.g. ``3 of 5 steps done, 1 failed``; empty for a single step."""
    if len(steps) < 2:
        return ""
    counts = Counter(record.status for record in steps)
    done = sum(count for status, count in counts.items() if status.terminal)
    parts = [f"{counts[status]} {status.value}" for status in _COUNTED if counts[status]]
    saved = sum(record.saved_seconds for record in steps if record.status is Status.REUSED)
    return ", ".join([f"{done} of {len(steps)} steps done", *parts, *([f"saved {duration(saved)}"] if saved else [])])


_COUNTED = (Status.RUNNING, Status.REUSED, Status.FAILED, Status.SKIPPED, Status.CANCELLED, Status.LOST)


def waits_for(state: CardState, record: ExecutionRecord) -> str:
    """Return what a step that has not begun waits for, e.g. ``waits for prepare (running)``; empty when it need not."""
    if record.status is not Status.QUEUED:
        return ""
    records = {other.step: other.status for other in state.steps}
    missing = [need for need in state.needs.get(record.step, ()) if need in records and not records[need].terminal]
    if not missing:
        return "waits for a free slot" if state.run is not None else ""
    few = ", ".join(f"{one_line(need)} ({records[need].value})" for need in missing[:_WAITED_FOR])
    return f"waits for {few}" + (f" and {len(missing) - _WAITED_FOR} more" if len(missing) > _WAITED_FOR else "")


def log_lines(tail: Sequence[str]) -> list[str]:
    """Return the newest output as harmless lines without colours; of an overwritten line, only the last text."""
    lines = []
    for line in tail[-LOG_LINES:]:
        written = line.rstrip("\r\n").rpartition("\r")[2]
        lines.append(fit(harmless(plain(written).expandtabs(8)), _LOG_COLUMNS))
    return lines


def remaining_seconds(record: ExecutionRecord, progress: tuple[float, float | None, str], now: float) -> float | None:
    """Return the estimated time until a step is done, at its present pace; None if that is unknown."""
    done, total, _ = progress
    if not total or done <= 0 or done >= total or record.started is None or record.status is not Status.RUNNING:
        return None
    return (now - record.started) * (total - done) / done
