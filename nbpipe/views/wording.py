"""The wording of statuses, reasons, verdicts, durations and sizes, shared by all faces."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nbpipe.errors import SourceLocation
from nbpipe.model import (
    CachedResult,
    ComponentKind,
    DependsVerdict,
    ExecutionRecord,
    Failure,
    PipelineWarning,
    Reason,
    ReuseVerdict,
    RunRecord,
    RunVerdict,
    SkipVerdict,
    Status,
    Verdict,
)
from nbpipe.model.amounts import size_text
from nbpipe.views.terminal_text import fit, one_line

SYMBOLS: Mapping[Status, str] = MappingProxyType(
    {
        Status.QUEUED: "·",
        Status.PREPARING: "○",
        Status.RUNNING: "▸",
        Status.SUCCEEDED: "✓",
        Status.REUSED: "↺",
        Status.FAILED: "✗",
        Status.CANCELLED: "■",
        Status.SKIPPED: "–",
        Status.LOST: "?",
        Status.PARTIAL: "◐",
    }
)

VERDICTS: Mapping[type[Verdict], tuple[str, str]] = MappingProxyType(
    {
        RunVerdict: ("▸", "run"),
        ReuseVerdict: ("↺", "reuse"),
        SkipVerdict: ("–", "skip"),
        DependsVerdict: ("?", "depends"),
    }
)

# What a plan shows in place of a verdict for a step that an error concerns.
REFUSED_WORDS = "✗ refused"

# Summaries are cut to this width in sentences.
SUMMARY_COLUMNS = 60

NO_NUMBERS: Mapping[str, int] = MappingProxyType({})

# Components that are described by a fixed phrase.
_FIXED: Mapping[ComponentKind, str] = MappingProxyType(
    {
        ComponentKind.FIRST_RUN: "first run",
        ComponentKind.FORCED: "forced",
        ComponentKind.UNCHANGED: "nothing changed",
    }
)

# Components whose present summary is a sentence of its own.
_SENTENCES = frozenset({ComponentKind.STOPPED, ComponentKind.RESULT, ComponentKind.ACCEPTED, ComponentKind.DISPLAY})

_SUBJECTS: Mapping[ComponentKind, str] = MappingProxyType(
    {
        ComponentKind.CODE: "the step's code",
        ComponentKind.OUTPUTS: "the declared outputs",
        ComponentKind.PYTHON: "Python",
        ComponentKind.KERNEL: "the kernel's command line",
        ComponentKind.SALT: "the salt",
        ComponentKind.SHOWS: "`shows`",
        ComponentKind.SOURCES: "code around the notebook",
        ComponentKind.PACKAGES: "the installed packages",
    }
)

_NAMED: Mapping[ComponentKind, str] = MappingProxyType(
    {
        ComponentKind.DEFINITION: "the definition of",
        ComponentKind.SETTING: "the setting",
        ComponentKind.MODULE: "the local module",
        ComponentKind.PARAMETER: "parameter",
        ComponentKind.INPUT: "input",
        ComponentKind.ENVVAR: "the environment variable",
        ComponentKind.HASH: "the hashed file",
        ComponentKind.READ: "the undeclared file",
        ComponentKind.LISTED: "the undeclared folder",
        ComponentKind.PROBED: "the path",
        ComponentKind.PACKAGE: "the package",
        ComponentKind.MISSING: "the module",
    }
)

_ENDED_BADLY = frozenset({"failed", "cancelled", "lost", "skipped"})


def status_words(status: Status) -> str:
    """Return a status as symbol and word, e.g. ``✓ succeeded``, so that it is readable without colour."""
    return f"{SYMBOLS[status]} {status.value}"


def duration(seconds: float) -> str:
    """Return a length of time, e.g. ``0.4 s``, ``12 s``, ``2 min 5 s``, ``1 h 3 min``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    for size, unit, small, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if total >= size:
            remainder = total % size // small
            return f"{total // size} {unit}" + (f" {remainder} {small_unit}" if remainder else "")
    raise AssertionError(total)


def size(count: int) -> str:
    """Return a number of bytes, e.g. ``1 byte``, ``512 bytes``, ``1.4 MB``."""
    return size_text(count)


def sentence(reason: Reason) -> str:
    """Return one reason in words, e.g. ``parameter learning_rate: 0.1 → 0.2``."""
    return one_line(_sentence(reason))


def _sentence(reason: Reason) -> str:
    kind, name = reason.kind, reason.subject
    was, now = _summary(reason.was), _summary(reason.now)
    if kind is not None and kind in _FIXED:
        return _FIXED[kind]
    if kind in _SENTENCES and reason.now:
        return reason.now
    if kind is ComponentKind.POLICY:
        return f"declared `{now}`" if now else "declared so"
    if kind is ComponentKind.ARTIFACT:
        return f"the stored output {name} " + (now or "is missing or damaged")
    if kind is ComponentKind.UNREAD:
        return now or "the content of an input is not read yet"
    if kind is ComponentKind.WHEN:
        return f"its condition is false: {now or was}" if now or was else "its condition is false"
    if kind is ComponentKind.UPSTREAM:
        return f"{name} {_was(now)}" if now in _ENDED_BADLY else f"known when {name} is done"
    return _change(_subject(reason), was, now)


def _summary(text: str | None) -> str | None:
    return None if text is None else fit(one_line(text), SUMMARY_COLUMNS)


def _was(ending: str) -> str:
    return ending if ending == "failed" else f"was {ending}"


def _subject(reason: Reason) -> str:
    kind, name = reason.kind, reason.subject
    if kind is None or (name and kind not in _NAMED):
        return reason.component.replace(":", " ", 1)
    return f"{_NAMED[kind]} {name}" if name else _SUBJECTS.get(kind, kind.value)


def _change(subject: str, was: str | None, now: str | None) -> str:
    if was is None and now is None:
        return f"{subject} changed"
    if was is None:
        return f"{subject} is new" + (f": {now}" if now else "")
    if now is None:
        return f"{subject} was removed" + (f": {was}" if was else "")
    return f"{subject} changed" if was == now else f"{subject}: {was or 'empty'} → {now or 'empty'}"


def reasons(several: tuple[Reason, ...]) -> str:
    """Return several reasons in one line, joined by semicolons."""
    return "; ".join(map(sentence, several))


def run_name(run: str, numbers: Mapping[str, int] = NO_NUMBERS) -> str:
    """Return the name of a run, e.g. ``run 3``, or the beginning of its id if its number is unknown."""
    return f"run {numbers[run]}" if run in numbers else f"run {one_line(run)[:8]}"


def run_duration(run: RunRecord, now: float) -> str:
    """Return how long a run took, or has taken so far; empty if nobody knows."""
    seconds = run.seconds(now)
    return "" if seconds is None else duration(seconds)


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict as symbol and word, e.g. ``↺ reuse``."""
    return " ".join(VERDICTS[type(verdict)])


def explanation(verdict: Verdict, numbers: Mapping[str, int] = NO_NUMBERS) -> str:
    """Return the reasons for a verdict without its name, e.g. ``from run 3, saves 12 s``."""
    why = reasons(verdict.reasons)
    if not isinstance(verdict, ReuseVerdict):
        return why
    hit = verdict.hit
    origin = f"from {run_name(hit.origin.run, numbers)}, saves {duration(hit.seconds)}"
    return f"{origin} ({why})" if why else origin


def verdict_line(verdict: Verdict, numbers: Mapping[str, int] = NO_NUMBERS) -> str:
    """Return a verdict with its reasons in one line, e.g. ``run: parameter learning_rate: 0.1 → 0.2``."""
    why = explanation(verdict, numbers)
    if isinstance(verdict, ReuseVerdict):
        return f"reused {why}"
    word = VERDICTS[type(verdict)][1]
    return f"{word}: {why}" if why else word


def accepted_line(
    step: str, hit: CachedResult, why: tuple[Reason, ...], numbers: Mapping[str, int] = NO_NUMBERS
) -> str:
    """Return an accepted result in one line."""
    return f"the result of {run_name(hit.origin.run, numbers)} is accepted for {step}, although: {reasons(why)}"


def failure_line(failure: Failure) -> str:
    """Return a failure in one line, e.g. ``cell 3, line 2: ValueError: no such column``."""
    where = SourceLocation(cell=failure.cell, line=failure.line).describe()
    message = one_line(failure.message) or one_line(f"{failure.ename}: {failure.evalue}")
    return f"{where}: {message}" if where else message


def warning_line(warning: PipelineWarning) -> str:
    """Return a warning in one line, e.g. ``cell 3: the input `x` is not used. Leave it out.``."""
    where = warning.place.describe()
    return one_line(f"{where + ': ' if where else ''}{warning.message}. {warning.hint}")


def step_explanation(record: ExecutionRecord, numbers: Mapping[str, int] = NO_NUMBERS) -> str:
    """Return an explanation of a step of a run: its failure, its origin if reused, what it awaits, or why it runs."""
    if record.failure is not None:
        return failure_line(record.failure)
    if record.notes and record.status in (Status.QUEUED, Status.PREPARING):
        return one_line("; ".join(record.notes))
    why = reasons(record.reasons)
    if record.status is not Status.REUSED or record.origin is None:
        return why
    origin = f"from {run_name(record.origin.run, numbers)}, saved {duration(record.saved_seconds)}"
    return f"{origin} ({why})" if why else origin
