"""The regions of a live card as HTML; each is sent only when it has changed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from nbpipe.errors import SourceLocation
from nbpipe.model import Artifact, ExecutionRecord, Failure, FailureKind, Status
from nbpipe.views.card_state import CardState, StepActivity, notes, remaining_seconds, waits_for
from nbpipe.views.dataset_card import description_html
from nbpipe.views.html import Html, element
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
    """The regions of a card; an empty one is not shown."""

    head: Html
    note: Html
    facts: Html
    error: Html
    progress: Html
    metrics: Html
    outputs: Html
    actions: Html


def card_html(state: CardState, chosen: str | None) -> CardHtml:
    """Return a card's regions; those below the head describe the chosen step, if any."""
    record = state.step(chosen)
    activity = state.activities.get(record.step, StepActivity()) if record is not None else StepActivity()
    return CardHtml(
        head=_head(state),
        note=Html.join(element("div", Html.line(note)) for note in notes(state)),
        facts=_facts(state, record),
        error=_error(state, record),
        progress=_progress(state, record, activity),
        metrics=_metrics(activity),
        outputs=_outputs(state, record),
        actions=_actions(state, record),
    )


# The head


def _head(state: CardState) -> Html:
    run = [element("span", f"run {state.run.number}", class_="nbpipe-run")] if state.run is not None else []
    name = state.focus or (state.run.notebook.rpartition("/")[2] if state.run is not None else "pipeline")
    return Html.join([_pill(state.status, _status_label(state)), _title(name), _clock(state), *run, _strip(state)])


def _pill(status: Status, label: str) -> Html:
    return element("span", icon(status), element("span", label), class_="nbpipe-pill", data_status=status.value)


def _title(name: str) -> Html:
    return element("span", Html.line(name), class_="nbpipe-title")


def _status_label(state: CardState) -> str:
    return "submitting" if state.run is None else state.status.value


def _clock(state: CardState) -> Html:
    """Return the time that was taken, or an element that counts up in the front end."""
    record = state.step(state.focus)
    if record is not None:
        return _step_clock(record)
    if state.focus is not None or state.run is None:
        return Html()
    if state.run.ended is None and state.live:
        return _ticking(state.run.started)
    seconds = state.run.seconds(state.now)
    return Html() if seconds is None else _took(seconds)


def _step_clock(record: ExecutionRecord) -> Html:
    if record.status is Status.RUNNING and record.started is not None:
        return _ticking(record.started)
    return _took(record.seconds) if record.is_timed else Html()


def _took(seconds: float) -> Html:
    return element("span", duration(seconds), class_="nbpipe-time")


def _ticking(since: float) -> Html:
    return element("time", class_="nbpipe-time", data_since=f"{since:.2f}")


def _strip(state: CardState) -> Html:
    """Return the numbers of steps by status as a coloured bar; the counter shows them in words."""
    if len(state.steps) < 2:
        return Html()
    counts = Counter(record.status for record in state.steps)
    parts = [
        element("i", data_status=status.value, style=f"flex-grow:{counts[status]}")
        for status in _STRIP
        if counts[status]
    ]
    return element("span", *parts, class_="nbpipe-strip", aria_hidden="true")


_STRIP = (
    Status.SUCCEEDED, Status.REUSED, Status.FAILED, Status.LOST, Status.CANCELLED, Status.SKIPPED, Status.RUNNING,
    Status.PREPARING, Status.QUEUED,
)  # fmt: skip


# The facts about the chosen step


def _facts(state: CardState, record: ExecutionRecord | None) -> Html:
    if record is None:
        return Html()
    lines = [*_why(state, record), *map(one_line, record.notes)]
    facts = [element("div", Html.line(line), class_="nbpipe-fact") for line in lines if line]
    return Html.join(facts if record.step == state.focus else [_own_head(record), *facts])


def _own_head(record: ExecutionRecord) -> Html:
    pill = _pill(record.status, record.status.value)
    return element("div", pill, _title(record.step), _step_clock(record), class_="nbpipe-chosen")


def _why(state: CardState, record: ExecutionRecord) -> list[str]:
    if record.status is Status.REUSED and record.origin is not None:
        reused = f"reused from {run_name(record.origin.run, state.numbers)}, saved {duration(record.saved_seconds)}"
        why = reasons(record.reasons)
        return [f"{reused}: {why}" if why else reused]
    waits = waits_for(state, record)
    why = reasons(record.reasons)
    executed = record.status in (Status.RUNNING, Status.SUCCEEDED, Status.FAILED)
    tries = [f"attempt {record.attempts}"] if record.attempts > 1 else []
    return [waits, f"because: {why}" if why and executed else why, *tries]


def _error(state: CardState, record: ExecutionRecord | None) -> Html:
    if record is None or record.failure is None:
        return Html()
    failure = record.failure
    code = state.error_line if state.focus is None or record.step == state.focus else ""
    where = SourceLocation(cell=failure.cell, line=failure.line).describe()
    parts = [
        element("div", Html.line(error_title(failure)), class_="nbpipe-said"),
        element("div", where, class_="nbpipe-where"),
    ]
    if code.strip():
        number = [] if failure.line is None else [element("b", str(failure.line))]
        parts.append(element("pre", *number, element("span", _code_line(code)), class_="nbpipe-code"))
    return Html.join([*parts, _trace(failure)])


def error_title(failure: Failure) -> str:
    """Return the exception, or another reason for the failure, in one line."""
    raised = f"{failure.ename}: {failure.evalue}" if failure.evalue else failure.ename
    return one_line(raised if failure.kind == FailureKind.USER else failure.message or raised)


def trace_lines(failure: Failure, most: int = _TRACE_LINES) -> list[str]:
    """Return the end of a traceback as harmless lines."""
    lines = [fit(harmless(line.expandtabs(4)), _TRACE_COLUMNS) for line in plain(failure.traceback).splitlines()]
    return [*(["…"] if len(lines) > most else []), *lines[-most:]]


def _trace(failure: Failure) -> Html:
    lines = trace_lines(failure)
    if not lines:
        return Html()
    trace = element("pre", "\n".join(lines), class_="nbpipe-trace")
    return element("details", element("summary", "traceback"), trace, data_key="trace")


# Progress and metrics


def _progress(state: CardState, record: ExecutionRecord | None, activity: StepActivity) -> Html:
    if record is None or activity.progress is None or record.status is not Status.RUNNING:
        return Html()
    done, total, name = activity.progress
    if not math.isfinite(done) or (total is not None and not math.isfinite(total)):
        return Html()
    remaining = remaining_seconds(record, activity.progress, state.now)
    caption = " · ".join(filter(None, [one_line(name), amount(done, total), _remaining_time(remaining)]))
    bar = _bar(name or record.step, done / total) if total else _endless_bar()
    return Html.join([bar, element("div", caption, class_="nbpipe-words")])


def _bar(name: str, share: float) -> Html:
    percent = min(max(share, 0.0), 1.0) * 100
    return element(
        "div", element("span", style=f"width:{percent:.1f}%"), class_="nbpipe-bar", role="progressbar", aria_label=name,
        aria_valuemin="0", aria_valuemax="100", aria_valuenow=f"{percent:.0f}",
    )  # fmt: skip


def _endless_bar() -> Html:
    return element("div", element("span"), class_="nbpipe-bar", data_endless="", role="progressbar")


def _remaining_time(seconds: float | None) -> str:
    return "" if seconds is None else f"about {duration(round(seconds))} left"


def amount(done: float, total: float | None) -> str:
    """Return the progress in words, e.g. ``12 of 40 (30 %)``."""
    return f"{_count(done)} of {_count(total)} ({done / total:.0%})".replace("%)", " %)") if total else _count(done)


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) and abs(number) < 1e15 else f"{number:.4g}"


def _metrics(activity: StepActivity) -> Html:
    shown = list(activity.metrics.items())[:_METRICS]
    more = len(activity.metrics) - len(shown)
    rest = [element("div", f"and {more} more", class_="nbpipe-metric")] if more > 0 else []
    return Html.join([*(_metric(name, points, activity.count(name)) for name, points in shown if points), *rest])


def _metric(name: str, points: Points, count: int) -> Html:
    last = f"{points[-1][1]:.4g}"
    return element(
        "div",
        element("span", Html.line(name), class_="nbpipe-label"),
        element("span", last, class_="nbpipe-value"),
        _spark(points, f"{name}: {last}, the last of {count:,} values"),
        class_="nbpipe-metric",
    )


def _spark(points: Points, label: str) -> Html:
    drawn, (width, height) = line(points, *_SPARK), _SPARK
    if drawn is None:
        return Html()
    return element(
        "svg",
        element("polyline", points=drawn.corners),
        element("circle", cx=f"{drawn.last[0]:.1f}", cy=f"{drawn.last[1]:.1f}", r="2.2"),
        class_="nbpipe-spark", viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}",
        role="img", aria_label=label,
    )  # fmt: skip


def metric_words(points: Points, count: int) -> str:
    """Return a number's last value and its history in words, e.g. ``0.12 (40 values, 0.12 to 1.9)``.

    ``count`` is how many numbers the points stand for.
    """
    last, finite = f"{points[-1][1]:.4g}", [value for _, value in points if math.isfinite(value)]
    if len(points) < 2 or not finite:
        return last
    return f"{last} ({count:,} values, {min(finite):.4g} to {max(finite):.4g})"


# Outputs and actions


def _outputs(state: CardState, record: ExecutionRecord | None) -> Html:
    return Html() if record is None else Html.join(_output(state, record, artifact) for artifact in record.artifacts)


def _output(state: CardState, record: ExecutionRecord, artifact: Artifact) -> Html:
    preview = state.previews.get(f"{record.step}.{artifact.name}")
    shape = element("span", title(artifact, preview), class_="nbpipe-shape-of")
    name = Html.join([element("b", Html.line(artifact.name)), Html(" "), shape])
    described = state.datasets.get(artifact.dataset)
    parts = [] if preview is None else [glimpse_html(preview)]
    body = Html.join([*parts, *([] if described is None else [description_html(described)])])
    if not body:
        return element("div", name, class_="nbpipe-output")
    glimpse = element("div", body, class_="nbpipe-glimpse")
    return element("details", element("summary", name), glimpse, data_key=f"output:{artifact.name}", open="")


_LABELS = {
    "cancel": ("Cancel", "Stop the run; finished results are kept"),
    "rerun": ("Run again", "Run this step again; up-to-date results are reused"),
    "force": ("Force", "Run this step even though nothing changed"),
    "debug": ("Debug", "Load this step's inputs and code into this notebook's kernel"),
    "why": ("Why?", "What changed since the nearest earlier result"),
    "open": ("Executed notebook", "Open the notebook of this step's execution"),
}


def actions(state: CardState, record: ExecutionRecord | None) -> tuple[str, ...]:
    """Return the actions that apply to the current state."""
    offered = ["cancel"] if state.live and state.run is not None else []
    if not state.live and (record is None or record.status.terminal):
        offered.append("rerun")
    if record is None:
        return tuple(offered)
    if not state.live and record.status in (Status.SUCCEEDED, Status.REUSED):
        offered.append("force")
    if record.status is Status.FAILED:
        offered.append("debug")
    return (*offered, "why", *(["open"] if record.notebook is not None else []))


def _actions(state: CardState, record: ExecutionRecord | None) -> Html:
    step = record.step if record is not None else state.focus or ""
    return Html.join(_button(action, step) for action in actions(state, record))


def _button(action: str, step: str) -> Html:
    label, hint = _LABELS[action]
    return element(
        "button", label, type="button", class_="nbpipe-action", data_action=action, data_for=step, title=hint
    )


def _code_line(text: str) -> str:
    return fit(harmless(plain(text.strip("\r\n")).expandtabs(4)), _TRACE_COLUMNS)
