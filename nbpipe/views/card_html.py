"""The regions of a live card as HTML: each is sent when it differs from what was sent before."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from html import escape

from nbpipe.errors import SourceLocation
from nbpipe.model import ExecutionRecord, Failure, FailureKind, Status
from nbpipe.views.card_state import CardState, StepActivity, left_seconds, waits_for
from nbpipe.views.log_text import plain
from nbpipe.views.preview_view import glimpse_html, title
from nbpipe.views.sparkline import Points, line
from nbpipe.views.status_icons import icon
from nbpipe.views.terminal_text import fit, harmless, one_line
from nbpipe.views.wording import duration, reasons, run_name

_METRICS = 12
_SPARK = (140.0, 30.0)
_TRACE_LINES = 40
_TRACE_COLUMNS = 400


@dataclass(frozen=True, slots=True)
class CardHtml:
    """A card in pieces of HTML; an empty one is not shown."""

    head: str
    note: str
    facts: str
    error: str
    progress: str
    metrics: str
    outputs: str
    actions: str


def card_html(state: CardState, chosen: str | None) -> CardHtml:
    """Get a card's regions; below the head they tell of the chosen step, if any."""
    record = state.step(chosen)
    told = state.told.get(record.step, StepActivity()) if record is not None else StepActivity()
    return CardHtml(
        head=_head(state),
        note=_text(state.note),
        facts=_facts(state, record),
        error=_error(state, record),
        progress=_progress(state, record, told),
        metrics=_metrics(told),
        outputs=_outputs(state, record),
        actions=_actions(state, record),
    )


# The head


def _head(state: CardState) -> str:
    status = state.status
    run = f'<span class="nbpipe-run">run {state.run.number}</span>' if state.run is not None else ""
    name = state.focus or (state.run.notebook.rpartition("/")[2] if state.run is not None else "pipeline")
    return (
        f'<span class="nbpipe-pill" data-status="{status.value}">{icon(status)}<span>{_word(state)}</span></span>'
        f'<span class="nbpipe-title">{_text(name)}</span>{_clock(state)}{run}{_strip(state)}'
    )


def _word(state: CardState) -> str:
    return "submitting" if state.run is None else state.status.value


def _clock(state: CardState) -> str:
    """Get the time that it took, or an element that counts by itself."""
    record = state.step(state.focus)
    if record is not None:
        if record.status is Status.RUNNING and record.started is not None:
            return _ticking(record.started, state.now)
        return f'<span class="nbpipe-time">{duration(record.seconds)}</span>' if record.attempts else ""
    if state.focus is not None or state.run is None:
        return ""
    if state.run.ended is None and state.live:
        return _ticking(state.run.started, state.now)
    return f'<span class="nbpipe-time">{duration((state.run.ended or state.now) - state.run.started)}</span>'


def _ticking(since: float, _now: float) -> str:
    return f'<time class="nbpipe-time" data-since="{since:.2f}"></time>'


def _strip(state: CardState) -> str:
    """Get how many steps stand how, as a line of coloured parts; what it says is in the counter's words too."""
    if len(state.steps) < 2:
        return ""
    counts = Counter(record.status for record in state.steps)
    parts = "".join(
        f'<i data-status="{status.value}" style="flex-grow:{counts[status]}"></i>'
        for status in _STRIP
        if counts[status]
    )
    return f'<span class="nbpipe-strip" aria-hidden="true">{parts}</span>'


_STRIP = (
    Status.SUCCEEDED, Status.REUSED, Status.FAILED, Status.LOST, Status.CANCELLED, Status.SKIPPED, Status.RUNNING,
    Status.PREPARING, Status.QUEUED,
)  # fmt: skip


# What is known of the chosen step


def _facts(state: CardState, record: ExecutionRecord | None) -> str:
    if record is None:
        return ""
    lines = [*_why(state, record), *map(one_line, record.notes)]
    own = "" if record.step == state.focus else _own_head(state, record)
    return own + "".join(f'<div class="nbpipe-fact">{_text(line)}</div>' for line in lines if line)


def _own_head(state: CardState, record: ExecutionRecord) -> str:
    took = _ticking(record.started, state.now) if record.status is Status.RUNNING and record.started else ""
    took = took or (f'<span class="nbpipe-time">{duration(record.seconds)}</span>' if record.attempts else "")
    return (
        f'<div class="nbpipe-chosen"><span class="nbpipe-pill" data-status="{record.status.value}">'
        f"{icon(record.status)}<span>{record.status.value}</span></span>"
        f'<span class="nbpipe-title">{_text(record.step)}</span>{took}</div>'
    )


def _why(state: CardState, record: ExecutionRecord) -> list[str]:
    if record.status is Status.REUSED and record.origin is not None:
        told = f"reused from {run_name(record.origin.run, state.numbers)}, saved {duration(record.saved_seconds)}"
        why = reasons(record.reasons)
        return [f"{told}: {why}" if why else told]
    waits = waits_for(state, record)
    why = reasons(record.reasons)
    executed = record.status in (Status.RUNNING, Status.SUCCEEDED, Status.FAILED)
    tries = [f"attempt {record.attempts}"] if record.attempts > 1 else []
    return [waits, f"because: {why}" if why and executed else why, *tries]


def _error(state: CardState, record: ExecutionRecord | None) -> str:
    if record is None or record.failure is None:
        return ""
    failure = record.failure
    code = state.error_line if state.focus is None or record.step == state.focus else ""
    where = SourceLocation(cell=failure.cell, line=failure.line).words()
    line_number = "" if failure.line is None else f"<b>{failure.line}</b>"
    shown = f'<pre class="nbpipe-code">{line_number}<span>{_text_line(code)}</span></pre>' if code.strip() else ""
    return (
        f'<div class="nbpipe-said">{_text(error_title(failure))}</div>'
        f'<div class="nbpipe-where">{_text(where)}</div>{shown}{_trace(failure)}'
    )


def error_title(failure: Failure) -> str:
    """Get what was raised, or what else went wrong, in one line."""
    raised = f"{failure.ename}: {failure.evalue}" if failure.evalue else failure.ename
    return one_line(raised if failure.kind == FailureKind.USER else failure.message or raised)


def trace_lines(failure: Failure, most: int = _TRACE_LINES) -> list[str]:
    """Get the end of a traceback as harmless lines."""
    lines = [fit(harmless(line.expandtabs(4)), _TRACE_COLUMNS) for line in plain(failure.traceback).splitlines()]
    return [*(["…"] if len(lines) > most else []), *lines[-most:]]


def _trace(failure: Failure) -> str:
    lines = trace_lines(failure)
    if not lines:
        return ""
    told = escape("\n".join(lines), quote=True)
    return f'<details data-key="trace"><summary>traceback</summary><pre class="nbpipe-trace">{told}</pre></details>'


# How far it is, and its numbers


def _progress(state: CardState, record: ExecutionRecord | None, told: StepActivity) -> str:
    if record is None or told.progress is None or record.status is not Status.RUNNING:
        return ""
    done, total, name = told.progress
    if not math.isfinite(done) or (total is not None and not math.isfinite(total)):
        return ""
    left = left_seconds(record, told.progress, state.now)
    words = " · ".join(filter(None, [one_line(name), amount(done, total), _left(left)]))
    if not total:
        bar = '<div class="nbpipe-bar" data-endless role="progressbar"><span></span></div>'
    else:
        share = min(max(done / total, 0.0), 1.0) * 100
        bar = (
            f'<div class="nbpipe-bar" role="progressbar" aria-label="{_text(name or record.step)}" aria-valuemin="0"'
            f' aria-valuemax="100" aria-valuenow="{share:.0f}"><span style="width:{share:.1f}%"></span></div>'
        )
    return f'{bar}<div class="nbpipe-words">{_text(words)}</div>'


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {duration(round(seconds))} left"


def amount(done: float, total: float | None) -> str:
    """Get how far something is, e.g. ``12 of 40 (30 %)``."""
    return f"{_count(done)} of {_count(total)} ({done / total:.0%})".replace("%)", " %)") if total else _count(done)


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) and abs(number) < 1e15 else f"{number:.4g}"


def _metrics(told: StepActivity) -> str:
    shown = list(told.metrics.items())[:_METRICS]
    more = len(told.metrics) - len(shown)
    rest = f'<div class="nbpipe-metric">and {more} more</div>' if more > 0 else ""
    return "".join(_metric(name, points) for name, points in shown if points) + rest


def _metric(name: str, points: Points) -> str:
    last = f"{points[-1][1]:.4g}"
    return (
        f'<div class="nbpipe-metric"><span class="nbpipe-label">{_text(name)}</span>'
        f'<span class="nbpipe-value">{last}</span>'
        f"{_spark(points, f'{name}: {last}, the last of {len(points)} values')}</div>"
    )


def _spark(points: Points, said: str) -> str:
    drawn, (width, height) = line(points, *_SPARK), _SPARK
    if drawn is None:
        return ""
    return (
        f'<svg class="nbpipe-spark" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        f' role="img" aria-label="{_text(said)}"><polyline points="{drawn.corners}"/>'
        f'<circle cx="{drawn.last[0]:.1f}" cy="{drawn.last[1]:.1f}" r="2.2"/></svg>'
    )


def metric_words(points: Points) -> str:
    """Get a number's last value and how it came there in words, e.g. ``0.12 (40 values, 0.12 to 1.9)``."""
    last, finite = f"{points[-1][1]:.4g}", [value for _, value in points if math.isfinite(value)]
    if len(points) < 2 or not finite:
        return last
    return f"{last} ({len(points)} values, {min(finite):.4g} to {max(finite):.4g})"


# What it made, and what can be done


def _outputs(state: CardState, record: ExecutionRecord | None) -> str:
    if record is None:
        return ""
    parts = []
    for artifact in record.artifacts:
        preview = state.previews.get(f"{record.step}.{artifact.name}")
        body = glimpse_html(preview) if preview is not None else ""
        name = f'<b>{_text(artifact.name)}</b> <span class="nbpipe-shape-of">{_text(title(artifact, preview))}</span>'
        parts.append(
            f'<details data-key="output:{_text(artifact.name)}" open><summary>{name}</summary>'
            f'<div class="nbpipe-glimpse">{body}</div></details>'
            if body
            else f'<div class="nbpipe-output">{name}</div>'
        )
    return "".join(parts)


_LABELS = {
    "cancel": ("Cancel", "Stop the run; what is done is kept"),
    "rerun": ("Run again", "Run this step again; what is up to date is reused"),
    "force": ("Force", "Run this step even though nothing changed"),
    "debug": ("Debug", "Load this step's inputs and code into this notebook's kernel"),
    "why": ("Why?", "What changed since the nearest earlier result"),
    "open": ("Executed notebook", "Open the notebook of this step's execution"),
}


def actions(state: CardState, record: ExecutionRecord | None) -> tuple[str, ...]:
    """Get what makes sense to do now."""
    found = ["cancel"] if state.live and state.run is not None else []
    if not state.live and (record is None or record.status.terminal):
        found.append("rerun")
    if record is None:
        return tuple(found)
    if not state.live and record.status in (Status.SUCCEEDED, Status.REUSED):
        found.append("force")
    if record.status is Status.FAILED:
        found.append("debug")
    return (*found, "why", *(["open"] if record.notebook is not None else []))


def _actions(state: CardState, record: ExecutionRecord | None) -> str:
    step = _text(record.step if record is not None else state.focus or "")
    return "".join(
        f'<button type="button" class="nbpipe-action" data-action="{action}" data-for="{step}"'
        f' title="{_LABELS[action][1]}">{_LABELS[action][0]}</button>'
        for action in actions(state, record)
    )


def _text(text: str) -> str:
    return escape(one_line(text), quote=True)


def _text_line(text: str) -> str:
    return escape(fit(harmless(plain(text.strip("\r\n")).expandtabs(4)), _TRACE_COLUMNS), quote=True)
