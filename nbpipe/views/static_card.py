"""The static card in a saved notebook: the same facts without scripts, style sheets, a kernel or a network.

Pictures are data URIs, because untrusted notebooks lose inline SVG. A table accompanies the graph and plain text the
HTML, so the card is readable in any theme, on a code host, in a diff and with a screen reader.
"""

from __future__ import annotations

from collections.abc import Iterator

from nbpipe.errors import SourceLocation
from nbpipe.model import ExecutionRecord, Status
from nbpipe.views import html_tables, text_tables
from nbpipe.views.card_html import error_title, metric_words, trace_lines
from nbpipe.views.card_state import GRAPH_STEPS, CardState, StepActivity, label, log_lines, notes
from nbpipe.views.dag_layout import layout
from nbpipe.views.dataset_card import description_html, description_lines
from nbpipe.views.graph_svg import alt_text, data_uri, still_svg
from nbpipe.views.html import Html, element
from nbpipe.views.preview_view import glimpse_html, glimpse_lines, title
from nbpipe.views.sparkline import Points, line
from nbpipe.views.status_icons import MARKS
from nbpipe.views.terminal_text import fit, one_line
from nbpipe.views.wording import duration, reasons, run_duration, run_name, status_words

_COLUMNS = 120
_TABLE_STEPS = 60
_LOG_LINES = 20
_TRACE_LINES = 20
_IMAGE_BYTES = 2_000_000

_HEAD = "margin:4px 0;font-weight:600"
_LINE = "margin:2px 0"
_ERROR = "margin:6px 0;padding:4px 0 4px 10px;border-left:3px solid #d9412f"
_IMAGE = "max-width:100%"
_TABLE = "border-collapse:collapse;color:inherit;background:none;margin:4px 0"
_CELL = "text-align:left;padding:2px 12px 2px 0;vertical-align:middle"
_SPARK = (140.0, 30.0)


def static_card(state: CardState) -> dict[str, str]:
    """Return the display data that replaces the card, by MIME type."""
    return {"text/html": static_card_html(state).text, "text/plain": static_card_text(state)}


def static_card_html(state: CardState) -> Html:
    """Return a card's last state as HTML with inline styles only."""
    record = state.step(state.focus)
    parts = [element("div", headline(state), style=_HEAD)]
    parts += [_line(sentence) for sentence in _sentences(state, record)]
    parts += _graph(state)
    parts += [_error(state, failed) for failed in _failed(state)]
    if record is not None:
        parts += _metrics(_activity(state, record))
        parts += [_line(display) for display in state.displays]
        parts += _outputs(state, record)
        parts += _log(state, record)
    return element("div", *parts, class_="nbpipe-twin")


def _line(*content: Html | str) -> Html:
    return element("div", *content, style=_LINE)


def static_card_text(state: CardState) -> str:
    """Return a card's last state as plain text with the same facts."""
    record = state.step(state.focus)
    lines = [headline(state), *_sentences(state, record)]
    if _shows_all_steps(state):
        lines += ["", *text_tables.step_lines(state.steps, _COLUMNS, state.numbers)]
    for failed in _failed(state):
        lines += ["", *_error_lines(state, failed)]
    if record is not None:
        lines += _detail_lines(state, record)
    return "\n".join(lines)


def headline(state: CardState) -> str:
    """Return the outcome in one line, e.g. ``✓ train succeeded in 12 s · run 14``."""
    record = state.step(state.focus)
    run = f" · run {state.run.number}" if state.run is not None else ""
    if record is None:
        name = state.focus or "pipeline"
        return f"{name}: {status_words(state.status)}{_run_time(state)}{run}" if state.focus else _run_headline(state)
    took = f" in {duration(record.seconds)}" if record.is_timed else ""
    symbol, status = status_words(record.status).split(" ", 1)
    return one_line(f"{symbol} {record.step} {status}{took}{run}")


def _run_headline(state: CardState) -> str:
    number = f" {state.run.number}" if state.run is not None else ""
    return f"run{number} {status_words(state.status)}{_run_time(state)}: {text_tables.steps_summary(state.steps)}"


def _run_time(state: CardState) -> str:
    if state.run is None or state.run.ended is None:
        return ""
    took = run_duration(state.run, state.now)
    return f" in {took}" if took else ""


def _sentences(state: CardState, record: ExecutionRecord | None) -> Iterator[str]:
    yield from map(one_line, notes(state))
    if record is None:
        return
    if record.status is Status.REUSED and record.origin is not None:
        yield f"from {run_name(record.origin.run, state.numbers)}, saved {duration(record.saved_seconds)}"
    why = reasons(record.reasons)
    if why:
        yield f"because: {why}"
    if record.attempts > 1:
        yield f"{record.attempts} attempts"
    yield from (f"note: {one_line(note)}" for note in record.notes)


def _graph(state: CardState) -> list[Html]:
    """Return the graph as a picture and the steps as a table; nothing for a single step, or while other steps run.

    Otherwise a saved file would show those steps as running forever.
    """
    if not _shows_all_steps(state):
        return []
    rows = text_tables.step_rows(state.steps[:_TABLE_STEPS], state.numbers)
    omitted = len(state.steps) - len(rows)
    caption = text_tables.steps_summary(state.steps) + (f"; the first {_TABLE_STEPS} are shown" if omitted else "")
    steps = html_tables.table_html(text_tables.STEP_HEADER, rows, caption)
    if len(state.steps) > GRAPH_STEPS:
        return [steps]
    names = [record.step for record in state.steps]
    statuses = {record.step: record.status for record in state.steps}
    labels = {record.step: label(record) for record in state.steps}
    svg = still_svg(layout(names, state.needs), statuses, labels)
    alt = f"graph of the steps: {alt_text(names, labels)}"
    return [_line(element("img", src=data_uri(svg), alt=alt, style=_IMAGE)), steps]


def _shows_all_steps(state: CardState) -> bool:
    return len(state.steps) > 1 and not (state.focus is not None and state.live)


# What went wrong


def _failed(state: CardState) -> list[ExecutionRecord]:
    """Return the failures to show: the one of the card's own step, else the first of the run."""
    record = state.step(state.focus)
    if record is not None and _has_failed(record):
        return [record]
    return [other for other in state.steps if _has_failed(other)][:3]


def _has_failed(record: ExecutionRecord) -> bool:
    return record.failure is not None and record.status is not Status.CANCELLED


def _where(record: ExecutionRecord) -> str:
    failure = record.failure
    return "" if failure is None else SourceLocation(cell=failure.cell, line=failure.line).describe()


def _code(state: CardState, record: ExecutionRecord) -> str:
    own = state.focus is None or record.step == state.focus
    return "" if not own else fit(one_line(state.error_line), _COLUMNS)


def _error(state: CardState, record: ExecutionRecord) -> Html:
    if record.failure is None:
        return Html()
    where, code = _where(record), _code(state, record)
    parts = [element("b", Html.line(f"{record.step}: {error_title(record.failure)}"))]
    if where:
        parts.append(_line(where))
    parts += [
        html_tables.lines_html(lines) for lines in ([code], trace_lines(record.failure, _TRACE_LINES)) if any(lines)
    ]
    return element("div", *parts, style=_ERROR)


def _error_lines(state: CardState, record: ExecutionRecord) -> list[str]:
    if record.failure is None:
        return []
    where, code = _where(record), _code(state, record)
    lines = [f"{one_line(record.step)}: {error_title(record.failure)}"]
    if where or code:
        lines.append(f"  {where}: {code}" if where and code else f"  {where or code}")
    return lines + [f"  {text}" for text in trace_lines(record.failure, _TRACE_LINES)]


# The step of this cell


def _activity(state: CardState, record: ExecutionRecord) -> StepActivity:
    return state.activities.get(record.step, StepActivity())


def _metrics(activity: StepActivity) -> list[Html]:
    rows = [
        element("tr", *(element("td", cell, style=_CELL) for cell in _metric_cells(name, points, activity.count(name))))
        for name, points in activity.metrics.items()
        if points
    ]
    return [element("table", element("tbody", *rows), style=_TABLE)] if rows else []


def _metric_cells(name: str, points: Points, count: int) -> tuple[Html, ...]:
    return Html.line(name), _spark(name, points), Html(metric_words(points, count))


def _spark(name: str, points: Points) -> Html:
    drawn, (width, height) = line(points, *_SPARK), _SPARK
    if drawn is None:
        return Html()
    colour = MARKS[Status.RUNNING].colour
    svg = element(
        "svg",
        element("polyline", points=drawn.corners, fill="none", stroke=colour, stroke_width="1.6"),
        element("circle", cx=f"{drawn.last[0]:.1f}", cy=f"{drawn.last[1]:.1f}", r="2.2", fill=colour),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}",
        height=f"{height:g}",
    )  # fmt: skip
    return element("img", src=data_uri(svg), alt=f"{name} over time", style="vertical-align:middle")


def _outputs(state: CardState, record: ExecutionRecord) -> Iterator[Html]:
    room = _IMAGE_BYTES
    for artifact in record.artifacts:
        preview = state.previews.get(f"{record.step}.{artifact.name}")
        yield _line(element("b", Html.line(artifact.name)), f": {title(artifact, preview)}")
        if preview is not None:
            room -= sum(len(picture.data) for picture in preview.pictures)
            if room >= 0 or not preview.pictures:
                yield glimpse_html(preview)
        described = state.datasets.get(artifact.dataset)
        if described is not None:
            yield description_html(described)


def _log(state: CardState, record: ExecutionRecord) -> list[Html]:
    lines = log_lines(_activity(state, record).tail)
    if not lines:
        return []
    cut = len(lines) > _LOG_LINES
    when = f" in {run_name(record.origin.run, state.numbers)}" if record.origin is not None else ""
    heading = f"the last {_LOG_LINES} lines printed{when}:" if cut else f"printed{when}:"
    return [_line(heading), html_tables.lines_html(lines[-_LOG_LINES:])]


def _detail_lines(state: CardState, record: ExecutionRecord) -> Iterator[str]:
    activity = _activity(state, record)
    for name, points in activity.metrics.items():
        if points:
            yield one_line(f"{name} = {metric_words(points, activity.count(name))}")
    for artifact in record.artifacts:
        preview = state.previews.get(f"{record.step}.{artifact.name}")
        yield one_line(f"{artifact.name}: {title(artifact, preview)}")
        if preview is not None:
            yield from (f"  {text}" for text in glimpse_lines(preview)[:12])
        described = state.datasets.get(artifact.dataset)
        if described is not None:
            yield from (f"  {text}" for text in description_lines(described))
    lines = log_lines(activity.tail)
    if lines:
        yield from ("", *lines[-_LOG_LINES:])
