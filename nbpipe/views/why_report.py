"""Why a step runs or is reused: its verdict, the changes with a diff of the text, and the outcome of its last run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbpipe.model import ExecutionRecord, KeyComponent, Verdict
from nbpipe.views import html_tables, json_output
from nbpipe.views.html import Html
from nbpipe.views.listing_diff import is_listing, members_diff
from nbpipe.views.text_diff import component_diff
from nbpipe.views.wording import NO_NUMBERS, run_name, sentence, step_explanation, verdict_line


def why_lines(
    step: str,
    verdict: Verdict,
    now: Sequence[KeyComponent],
    before: ExecutionRecord | None,
    last: ExecutionRecord | None,
    *,
    numbers: Mapping[str, int] = NO_NUMBERS,
) -> list[str]:
    """Return the explanation as plain lines."""
    lines = [f"{step}: {verdict_line(verdict, numbers)}"]
    if before is not None:
        lines.append(f"compared with {run_name(before.run, numbers)}:")
    for reason in verdict.reasons:
        lines.append(f"  {sentence(reason)}")
        lines += [f"    {line}" for line in _diff(reason.component, before, now)]
    if last is not None:
        lines.append(_last(last, numbers))
    return lines


def why_object(
    step: str,
    verdict: Verdict,
    now: Sequence[KeyComponent],
    before: ExecutionRecord | None,
    last: ExecutionRecord | None,
    *,
    url_of: json_output.UrlOf,
) -> dict[str, Any]:
    """Return the explanation as JSON."""
    explanation = json_output.verdict_object(verdict)
    explanation["reasons"] = [
        {**reason, "diff": list(_diff(reason["component"], before, now))} for reason in explanation["reasons"]
    ]
    return {
        "step": step,
        **explanation,
        "compared_with": before.run if before else None,
        "last": json_output.step_object(last, url_of) if last else None,
    }


def why_html(
    step: str,
    verdict: Verdict,
    now: Sequence[KeyComponent],
    before: ExecutionRecord | None,
    last: ExecutionRecord | None,
    *,
    numbers: Mapping[str, int] = NO_NUMBERS,
) -> Html:
    """Return the explanation as HTML: a table of the changes, and a diff for each text."""
    rows = [(reason.component, reason.was or "", reason.now or "") for reason in verdict.reasons]
    caption = f"{step}: {verdict_line(verdict, numbers)}"
    if before is not None:
        caption += f" (compared with {run_name(before.run, numbers)})"
    parts = [html_tables.table_html(("what", "was", "now"), rows, caption)]
    for reason in verdict.reasons:
        lines = _diff(reason.component, before, now)
        if lines:
            parts.append(html_tables.lines_html(lines))
    if last is not None:
        parts.append(html_tables.lines_html([_last(last, numbers)]))
    return Html.join(parts)


def _last(last: ExecutionRecord, numbers: Mapping[str, int]) -> str:
    explained = step_explanation(last, numbers)
    return f"last run: {last.status.value}" + (f" ({explained})" if explained else "")


def _diff(name: str, before: ExecutionRecord | None, now: Sequence[KeyComponent]) -> tuple[str, ...]:
    was = next((item for item in before.components if item.name == name), None) if before else None
    is_ = next((item for item in now if item.name == name), None)
    if was is None or is_ is None:
        return ()
    return members_diff(was, is_) if is_listing(was) and is_listing(is_) else component_diff(was, is_)
