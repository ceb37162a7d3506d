"""HTML as a type: texts are escaped, strings are not HTML, and no text of others becomes markup in any page."""

from __future__ import annotations

import dataclasses
import operator
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import artifact_of

from nbpipe.model import (
    CachedResult,
    DependsVerdict,
    ExecutionRecord,
    Failure,
    KeyComponent,
    Metric,
    Preview,
    PreviewImage,
    Reason,
    ResultOrigin,
    ReuseVerdict,
    RunRecord,
    RunVerdict,
    Status,
)
from nbpipe.views.card_html import card_html
from nbpipe.views.card_state import CardState, StepActivity
from nbpipe.views.dag_layout import layout
from nbpipe.views.graph_svg import live_svg, still_svg
from nbpipe.views.html import Html, element
from nbpipe.views.html_tables import lines_html, plan_html, run_html, runs_html, table_html
from nbpipe.views.preview_view import glimpse_html
from nbpipe.views.rich_outputs import rich_outputs
from nbpipe.views.run_comparison import ComparedRun, comparison_html
from nbpipe.views.static_card import static_card_html
from nbpipe.views.terminal_text import harmless
from nbpipe.views.text_tables import PlanRow
from nbpipe.views.why_report import why_html

MARKUP = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"' onclick=alert(1) x='",
    "--></pre></td>",
    "&lt;b&gt;",
)
texts = st.builds("{}{}{}".format, st.text(max_size=8), st.sampled_from(MARKUP), st.text(max_size=8))
TAGS = {
    "b", "br", "button", "caption", "circle", "details", "div", "g", "i", "img", "path", "polyline", "pre", "rect",
    "span", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "time", "title", "tr",
}  # fmt: skip


class Page(HTMLParser):
    """The elements and the attributes of some HTML, and its text."""

    def __init__(self, html: Html) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, str] = {}
        self.words = ""
        self.feed(html.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.words += data


@given(st.text())
def test_a_text_is_read_as_it_was_written(text):
    page = Page(element("pre", text))

    assert page.tags == {"pre"}
    assert page.words == "\n".join(map(harmless, text.split("\n")))


@given(st.text())
def test_an_attribute_stays_within_its_quotes(text):
    page = Page(element("div", title=text))

    assert page.tags == {"div"}
    assert set(page.attributes) == {"title"}


def test_elements_are_written_as_html_and_svg_want_them():
    assert element("br").text == "<br>"
    assert element("path", d="M0 0", stroke_width="2", class_=None).text == '<path d="M0 0" stroke-width="2"/>'
    assert element("td", "a<b", Html.trusted("<i>x</i>"), class_="c").text == '<td class="c">a&lt;b<i>x</i></td>'
    assert Html.join([Html.line(" a \n b"), element("b", "c")]).text == "a b<b>c</b>"


def test_html_is_no_string():
    html = element("b", "text")

    with pytest.raises(TypeError):
        str(html)
    with pytest.raises(TypeError):
        f"{html}"
    with pytest.raises(TypeError):
        html + "<i>"
    with pytest.raises(TypeError):
        operator.concat("<i>", html)
    with pytest.raises(AttributeError):
        Html.join(["<i>"])


def test_the_type_checker_refuses_a_string_where_html_is_wanted(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from nbpipe.views.html import Html, element\n"
        "def fragment() -> Html:\n"
        "    return '<b>text</b>'\n"
        "Html.join(['<i>'])\n"
        "shown: str = element('b', 'text')\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(wrong)],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False,
    )  # fmt: skip

    assert [int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error:" in line] == [3, 4, 5]


def execution(name: str, status: Status, text: str) -> ExecutionRecord:
    return ExecutionRecord(
        f"e-{name}", "r1", name, 0, status, attempts=2, seconds=1.0, started=1.0,
        reasons=(Reason(f"parameter:{text}", text, text), Reason(text)), notes=(text,), notebook=text,
        components=(KeyComponent("code", text, text, text), KeyComponent(f"input:{text}", text, text, f"{text}\t1")),
        artifacts=(dataclasses.replace(artifact_of("df", "arrow"), name=text, format=text),),
        failure=Failure("user", text, text, text, 1, 2, text),
        origin=ResultOrigin(text, text) if status is Status.REUSED else None,
    )  # fmt: skip


def run_of(text: str) -> RunRecord:
    return RunRecord("r1", 3, "p1", text, text, Status.FAILED, 1.0, 2.0, {text: text}, {text: text}, None, text)


def preview_of(text: str) -> Preview:
    return Preview(
        "table", text, text, 1, ((text, text),), ((text,),), text,
        (PreviewImage(text, "image/png", b"x"), PreviewImage(text, text, b"x")), ((text, 1),),
    )  # fmt: skip


def card_of(text: str, status: Status) -> CardState:
    steps = (
        execution("train", status, text),
        execution(text, Status.FAILED, text),
        execution("b", Status.QUEUED, text),
    )
    activity = StepActivity((text,), (1.0, 2.0, text), {text: ((0, 1.0), (1, 2.0))})
    return CardState(
        run_of(text), steps, {"b": ("train", text)}, "train", {"train": activity}, {f"train.{text}": preview_of(text)},
        {text: 1}, 3.0, text, text,
    )  # fmt: skip


def pages_of(text: str, status: Status) -> list[Html]:
    """Get every page that can be made, of texts that others write."""
    card, run = card_of(text, status), run_of(text)
    regions = card_html(card, "train")
    hit = CachedResult(text, text, ResultOrigin(text, text), 1.0, text, ())
    verdict = RunVerdict((Reason(f"parameter:{text}", text, text), Reason("code", text, text)))
    plan = [
        PlanRow(text, verdict, (text,)),
        PlanRow("b", ReuseVerdict(hit, ())),
        PlanRow("c", DependsVerdict((Reason(text),))),
    ]
    steps, changed = list(card.steps), [execution("train", status, f"{text}!")]
    metric = Metric("r1", "train", "a", 1, text, 1.0, None, 0.0)
    compared = ComparedRun(run, steps, [metric]), ComparedRun(run_of(f"{text}!"), changed, [])
    names = [record.step for record in steps]
    graph = layout(names, card.needs)
    notebook = {"cells": [{"metadata": {"nbpipe": {"role": "step"}}, "outputs": [{"data": {"text/markdown": text}}]}]}
    return [
        *(getattr(regions, field.name) for field in dataclasses.fields(regions)),
        static_card_html(card), live_svg(graph), still_svg(graph, {}, dict.fromkeys(names, text)),
        plan_html(plan, {text: 1}), run_html(run, steps), runs_html([run], 3.0, {"r1": [text]}),
        table_html((text, "b"), [(text, text)], text), lines_html([text]), glimpse_html(preview_of(text)),
        why_html(text, verdict, steps[0].components, changed[0], steps[1], numbers={text: 1}),
        comparison_html(*compared), *rich_outputs(notebook),
    ]  # fmt: skip


@given(texts, st.sampled_from([Status.RUNNING, Status.FAILED, Status.REUSED, Status.SUCCEEDED]))
def test_no_text_of_others_is_markup_in_any_page(text, status):
    for html in pages_of(text, status):
        page = Page(html)
        assert page.tags <= TAGS
        assert not [name for name in page.attributes if name.startswith("on") or name == "x='"]
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html.text)


def test_what_the_author_displays_is_the_authors_own():
    cell = {"metadata": {"nbpipe": {"role": "step"}}, "outputs": [{"data": {"text/html": "<table>own</table>"}}]}

    assert rich_outputs({"cells": [cell]}) == (Html.trusted("<table>own</table>"),)
