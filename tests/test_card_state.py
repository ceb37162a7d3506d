"""What a card shows, live and kept: the right facts, nothing that could steer a page, and of changes only these."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import artifact_of

from nbpipe.model import ExecutionRecord, Failure, Preview, PreviewImage, Reason, ResultOrigin, RunRecord, Status
from nbpipe.model.datasets import (
    Column,
    ColumnProfile,
    DatasetContent,
    DatasetDifference,
    DatasetKind,
    DatasetMember,
    DatasetOrigin,
    DatasetRecipe,
    DatasetVersion,
    RecipeKind,
    TableProfile,
    VersionDescription,
)
from nbpipe.views.card_html import actions, amount, card_html
from nbpipe.views.card_state import CardState, StepActivity, counter, letters, log_lines, waits_for
from nbpipe.views.html import Html
from nbpipe.views.sparkline import line
from nbpipe.views.static_card import static_card, static_card_html, static_card_text
from nbpipe.views.status_icons import MARKS
from nbpipe.widget import CardWidget, _Details, _Log

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e\"'&</script>"


def record(step: str, status: Status, **changes: Any) -> ExecutionRecord:
    """Get a step's record."""
    executed = status in (Status.SUCCEEDED, Status.FAILED, Status.RUNNING)
    told: dict[str, Any] = {
        "id": f"e-{step}", "run": "r1", "position": 0, "attempts": int(executed), "seconds": 12.0 if executed else 0.0,
        "saved_seconds": 0.0, "reasons": (), "components": (), "key": None, "origin": None, "notebook": None,
        "artifacts": (), "failure": None, "started": 1000.0 if executed else None,
    }  # fmt: skip
    return ExecutionRecord(step=step, status=status, **(told | changes))


def run(status: Status = Status.RUNNING) -> RunRecord:
    """Get a run's record."""
    ended = None if status is Status.RUNNING else 1014.0
    return RunRecord("r1", 14, "p1", "/work/houses.ipynb", "houses", status, 1000.0, ended, {}, {}, None, "me")


TABLE = artifact_of("df", "arrow", size=2048)
SHOWN = Preview("table", "9 rows × 2 columns", "arrow", 2048, columns=(("a", "int64"), ("b", "")), rows=(("1", "x"),))
FAILURE = Failure("user", "ValueError", "no such column", "ValueError: no such column", 5, 6, "Traceback\n  line 6")
FOCUSED = {
    Status.SUCCEEDED: {"artifacts": (TABLE,), "notebook": "/n.ipynb", "reasons": (Reason("first run"),)},
    Status.REUSED: {"origin": ResultOrigin("r0", "train"), "saved_seconds": 95.0, "artifacts": (TABLE,)},
    Status.FAILED: {"failure": FAILURE, "notebook": "/n.ipynb"},
    Status.RUNNING: {"reasons": (Reason("parameter:rate", "0.1", "0.2"),), "seconds": 0.0},
    Status.SKIPPED: {"reasons": (Reason("upstream:load", None, "failed"),)},
}


def state(status: Status, *, live: bool | None = None, **changes: Any) -> CardState:
    """Get the state of a card whose step ``train`` has a status; ``load`` is done and ``report`` waits."""
    going = not status.terminal if live is None else live
    steps = (
        record("load", Status.SUCCEEDED),
        record("train", status, **FOCUSED.get(status, {})),
        record("report", Status.QUEUED),
    )
    overall = Status.RUNNING if going else Status.FAILED if status is Status.FAILED else Status.SUCCEEDED
    given: dict[str, Any] = {
        "run": run(overall), "steps": steps, "needs": {"train": ("load",), "report": ("train",)}, "focus": "train",
        "activities": {"train": StepActivity(("one", "two"), None, {"loss": ((0, 1.0), (1, 0.5))})},
        "previews": {"train.df": SHOWN}, "numbers": {"r0": 12}, "now": 1012.0,
    }  # fmt: skip
    return CardState(**(given | changes))


class Page(HTMLParser):
    """The elements of some HTML, with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def live_page(shown: CardState, chosen: str | None = "train") -> Page:
    found = card_html(shown, chosen)
    return Page("".join(getattr(found, field.name).text for field in dataclasses.fields(found)))


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_told_in_words_beside_its_shape(status):
    page = live_page(state(status))

    assert status.value in page.text
    assert MARKS[status].path in [attributes.get("d") for _, attributes in page.elements]
    assert status.value in static_card_text(state(status))
    assert status.value in Page(static_card_html(state(status)).text).text


def test_marks_differ_in_shape_and_letter():
    assert len({mark.letter for mark in MARKS.values()}) == len({mark.path for mark in MARKS.values()}) == len(Status)
    assert letters(state(Status.FAILED).steps) == "sfq"


def test_a_reused_step_tells_where_it_is_from_and_what_it_saved():
    for text in (live_page(state(Status.REUSED)).text, static_card_text(state(Status.REUSED))):
        assert "from run 12, saved 1 min 35 s" in text
        assert "9 rows × 2 columns · arrow · 2.0 kB" in text


def test_a_failed_step_shows_the_error_and_the_failing_line():
    failed = state(Status.FAILED, error_line="    x = df['colour']")
    for text in (live_page(failed).text, static_card_text(failed), Page(static_card_html(failed).text).text):
        assert "ValueError: no such column" in text
        assert "cell 5, line 6" in text
        assert "x = df['colour']" in text
        assert "Traceback" in text


def test_a_running_step_tells_how_far_it_is_and_how_long_it_takes_still():
    told = {"train": StepActivity((), (12.0, 40.0, "epochs"))}
    page = live_page(state(Status.RUNNING, activities=told))

    assert "epochs · 12 of 40 (30 %) · about 28 s left" in page.text
    assert ("parameter rate: 0.1 → 0.2") in page.text
    bar = next(attributes for tag, attributes in page.elements if attributes.get("role") == "progressbar")
    assert (bar["aria-valuenow"], bar["aria-label"]) == ("30", "epochs")
    since = [attributes["data-since"] for tag, attributes in page.elements if tag == "time"]
    assert since == ["1000.00"]


def test_what_has_no_known_end_has_a_bar_without_one():
    page = live_page(state(Status.RUNNING, activities={"train": StepActivity((), (12.5, None, ""))}))

    assert "12.5" in page.text
    assert any("data-endless" in attributes for _, attributes in page.elements)
    assert amount(3, 0) == "3"


@pytest.mark.parametrize("progress", [(math.nan, 2.0, ""), (1.0, math.inf, ""), (5.0, 2.0, ""), (-1.0, 2.0, "x")])
def test_progress_that_makes_no_sense_does_no_harm(progress):
    page = live_page(
        state(Status.RUNNING, activities={"train": StepActivity((), progress, {"m": ((0, math.nan), (1, math.inf))})})
    )

    widths = [attributes["style"] or "" for tag, attributes in page.elements if "style" in attributes and tag == "span"]
    assert all(re.fullmatch(r"width:(\d|\d\d|100)\.\d%", width) for width in widths)


def test_a_queued_step_says_what_it_waits_for():
    waiting = state(Status.RUNNING)

    assert waits_for(waiting, waiting.steps[2]) == "waits for train (running)"
    assert waits_for(state(Status.QUEUED), state(Status.QUEUED).steps[1]) == "waits for a free slot"
    assert "waits for train (running)" in live_page(waiting, "report").text


def test_the_counter_tells_how_far_the_run_is():
    assert counter(state(Status.RUNNING).steps) == "1 of 3 steps done, 1 running"
    assert counter(state(Status.REUSED).steps) == "2 of 3 steps done, 1 reused, saved 1 min 35 s"
    assert counter(state(Status.RUNNING).steps[:1]) == ""


OFFERED = {
    Status.RUNNING: ("cancel", "why"),
    Status.SUCCEEDED: ("rerun", "force", "why", "open"),
    Status.REUSED: ("rerun", "force", "why"),
    Status.FAILED: ("rerun", "debug", "why", "open"),
    Status.CANCELLED: ("rerun", "why"),
}


@pytest.mark.parametrize("status", OFFERED)
def test_only_what_makes_sense_is_offered(status):
    shown = state(status)

    assert actions(shown, shown.step("train")) == OFFERED[status]
    assert actions(dataclasses.replace(shown, run=None), None) == ()


def test_a_card_before_its_run_is_there_says_so():
    empty = state(Status.QUEUED, run=None, steps=(), note="waits for another run")
    page = live_page(empty)

    assert "submitting" in page.text
    assert "waits for another run" in page.text
    assert "train" in static_card_text(empty)


def test_the_view_of_a_run_has_its_number_and_time():
    whole = state(Status.FAILED, focus=None)

    assert "houses.ipynb" in live_page(whole, None).text
    assert static_card_text(whole).splitlines()[0] == "run 14 ✗ failed in 14 s: 1 queued, 1 succeeded, 1 failed"
    assert "ValueError: no such column" in static_card_text(whole)


def described(name: str, *, is_profiled: bool = True) -> VersionDescription:
    """Get a table's second version: a column and a file are new; texts of others are this name."""
    recipe = DatasetRecipe(RecipeKind.VALUE, "arrow")
    content = DatasetContent(
        DatasetKind.KEPT, "blake3:1", 2048, recipe, TABLE.reference, (Column(name, "int64"),), 9, skipped=2
    )
    before = DatasetVersion(name, 1, dataclasses.replace(content, rows=8), DatasetOrigin(1.0))
    now = DatasetVersion(name, 2, content, DatasetOrigin(2.0))
    member = DatasetMember("file:///x", name, 5, "blake3:2")
    difference = DatasetDifference(before, now, added=(member,), columns={name: (None, "int64")})
    column = ColumnProfile(name, name, 3, name, name, (1.0, 2.5, 4.0), 7, ((name, 4),))
    profile = TableProfile(9, 9, (column,)) if is_profiled else None
    return VersionDescription(now, profile, difference)


def hostile() -> CardState:
    """Get a state in which every text that others write is hostile."""
    artifact = dataclasses.replace(TABLE, name=HOSTILE, format=HOSTILE)
    artifact = dataclasses.replace(artifact, dataset=HOSTILE)
    preview = Preview(
        "table", HOSTILE, HOSTILE, 1, ((HOSTILE, HOSTILE),), ((HOSTILE,),), HOSTILE,
        (PreviewImage(HOSTILE, "image/png", b"x"), PreviewImage(HOSTILE, HOSTILE, b"x")), ((HOSTILE, 1),),
    )  # fmt: skip
    failure = Failure("user", HOSTILE, HOSTILE, HOSTILE, 1, 2, HOSTILE)
    bad = record(
        HOSTILE, Status.FAILED, failure=failure, artifacts=(artifact,), notes=(HOSTILE,), notebook=HOSTILE,
        reasons=(Reason(f"parameter:{HOSTILE}", HOSTILE, HOSTILE),),
    )  # fmt: skip
    told = StepActivity((HOSTILE,), (1.0, 2.0, HOSTILE), {HOSTILE: ((0, 1.0), (1, 2.0))})
    steps = (bad, record("b", Status.QUEUED), dataclasses.replace(bad, step=HOSTILE + "2", status=Status.RUNNING))
    return CardState(
        run(Status.FAILED), steps, {"b": (HOSTILE,)}, HOSTILE, {HOSTILE: told}, {f"{HOSTILE}.{HOSTILE}": preview}, {},
        1.0, HOSTILE, HOSTILE, datasets={HOSTILE: described(HOSTILE)},
    )  # fmt: skip


ALLOWED = {
    "b", "br", "button", "caption", "circle", "details", "div", "g", "i", "img", "path", "polyline", "pre", "rect",
    "span", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "time", "title", "tr",
}  # fmt: skip


def test_no_text_of_others_becomes_markup():
    shown = hostile()
    card = CardWidget(lambda *_: None)
    card.update(shown)
    pages = [live_page(shown, shown.focus), Page(static_card_html(shown).text), Page(card._model.graph["svg"])]

    for page in pages:
        assert {tag for tag, _ in page.elements} <= ALLOWED
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")]
            if tag == "img":
                assert re.match(r"data:image/(png|svg\+xml);base64,[\w+/=]+$", attributes["src"] or "")
        assert "\x1b" not in page.text
        assert "\u202e" not in page.text
    assert "\x1b" not in static_card_text(shown)
    card.end(shown)


def test_what_is_kept_needs_nothing_around_it():
    html = static_card_html(state(Status.SUCCEEDED)).text

    assert {tag for tag, _ in Page(html).elements} <= ALLOWED - {"button", "time", "svg"}
    assert set(static_card(state(Status.SUCCEEDED))) == {"text/html", "text/plain"}
    alt = next(attributes["alt"] for tag, attributes in Page(html).elements if tag == "img")
    assert alt == "graph of the steps: load: succeeded 12 s; train: succeeded 12 s; report: queued"


def registered(*, is_profiled: bool) -> CardState:
    """Get the state of a card whose output is a version of a dataset."""
    base = state(Status.SUCCEEDED, datasets={"sales@2": described("sales", is_profiled=is_profiled)})
    version = dataclasses.replace(TABLE, dataset="sales@2")
    steps = tuple(dataclasses.replace(s, artifacts=(version,)) if s.step == "train" else s for s in base.steps)
    return dataclasses.replace(base, steps=steps)


def test_an_output_that_is_a_version_shows_what_changed_and_its_profile():
    shown = registered(is_profiled=True)
    said = [live_page(shown, shown.focus).text, Page(static_card_html(shown).text).text, static_card_text(shown)]

    for text in said:
        assert "sales@2: kept, arrow, 2.0 kB, 9 rows, 2 rows left out" in text
        assert "sales@1 → sales@2" in text
        assert "added   sales (5 bytes)" in text or "added sales (5 bytes)" in text
        assert "rows: 8 → 9" in text
        assert "sales … sales" in text
        assert "1, 2.5, 4" in text
        assert "sales (4)" in text
    assert not shown.is_awaited
    assert registered(is_profiled=False).is_awaited


def test_what_becomes_known_after_the_end_is_shown_on_the_ended_card():
    card = CardWidget(lambda *_: None)
    card.update(registered(is_profiled=False))
    card.end(registered(is_profiled=False))
    assert "Profile" not in card._model.outputs
    card._handle = handle = _Handle()
    card.complete(registered(is_profiled=True))

    assert "Profile" in handle.shown["text/html"]
    assert "Profile" in card._model.outputs


class _Handle:
    """A display that can be shown anew."""

    shown: Any = None

    def update(self, bundle: Any, *, raw: bool) -> None:
        """Keep what is shown."""
        assert raw
        self.shown = bundle


def test_pictures_in_what_is_kept_are_bounded():
    picture = PreviewImage("p", "image/png", b"x" * 1_400_000)
    artifacts = tuple(dataclasses.replace(TABLE, name=f"p{n}") for n in range(5))
    base = state(Status.SUCCEEDED)
    steps = tuple(dataclasses.replace(s, artifacts=artifacts) if s.step == "train" else s for s in base.steps)
    previews = {f"train.p{n}": Preview("image", "", "png", 1, pictures=(picture,)) for n in range(5)}
    html = static_card_html(dataclasses.replace(base, steps=steps, previews=previews)).text

    assert len(html) < 3_000_000
    assert "p4" in html


@pytest.mark.parametrize(
    "told, shown",
    [
        ("  5%|#   | 1/20\r 50%|##  | 10/20\r100%|####| 20/20\n", "100%|####| 20/20"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\tb", "a       b"),
    ],
)
def test_output_is_shown_as_a_terminal_would_leave_it(told, shown):
    assert log_lines((told,)) == [shown]


@pytest.mark.parametrize("points", [(), ((0, 1.0),), ((0, math.nan), (1, math.inf))])
def test_too_few_numbers_are_no_line(points):
    assert line(points, 100, 20) is None


def test_a_line_of_very_many_numbers_has_few_corners_and_the_last_one():
    drawn = line([(float(n), float(n)) for n in range(100_000)], 100, 20)

    assert drawn is not None
    assert len(drawn.corners.split()) <= 122
    assert drawn.last == (97.0, 3.0)


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(points=st.lists(st.tuples(st.none() | numbers, numbers), max_size=400))
def test_a_line_stays_in_its_picture(points):
    drawn = line(points, 100, 20)
    if drawn is None:
        return
    corners = [tuple(map(float, corner.split(","))) for corner in drawn.corners.split()]
    assert len(corners) <= 122
    assert all(0 <= x <= 100 and 0 <= y <= 20 for x, y in corners)


def follow(messages: list[dict[str, Any]]) -> list[str]:
    """Get the lines that a front end shows after some messages, as card.js keeps them."""
    lines: list[str] = []
    for told in messages:
        kept = [] if told["whole"] else lines[told["drop"] : told["drop"] + told["keep"]]
        lines = kept + told["add"]
    return lines


@given(
    turns=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=5),  # lines that come
            st.integers(0, 6),  # how many of the newest are kept
            st.booleans(),  # whether the last is written over
        ),
        min_size=1,
        max_size=8,
    )
)
def test_differences_of_the_log_add_up_to_the_log(turns):
    log, messages = _Log(), []
    tail: tuple[str, ...] = ()
    for coming, room, over in turns:
        tail = (*tail[:-1], "over") if over and tail else tail
        tail = (*tail, *coming)[-room:] if room else ()
        changes = log.changes("train", tail, whole=False)
        messages += [changes] if changes else []
        assert follow(messages) == log_lines(tail)
    assert log.changes("train", tail, whole=False) == {}


def test_a_log_that_goes_on_sends_only_what_is_new():
    log = _Log()
    log.changes("train", tuple(f"line {n}" for n in range(200)), whole=False)
    told = log.changes("train", tuple(f"line {n}" for n in range(3, 203)), whole=False)

    assert (told["drop"], told["add"]) == (3, ["line 200", "line 201", "line 202"])


def test_words_about_steps_are_sent_when_they_change():
    details = _Details()
    steps = state(Status.RUNNING).steps
    assert set(details.changes(steps, {}, whole=False)["set"]) == {"0", "1", "2"}
    assert details.changes(steps, {}, whole=False) == {}
    told = details.changes(state(Status.FAILED).steps, {}, whole=False)
    assert set(told["set"]) == {"1"}
    assert (told["number"], told["whole"]) == (2, False)


class Listener:
    """Hears which traits of a card are sent."""

    def __init__(self, card: CardWidget) -> None:
        self.names: list[str] = []
        card._model.observe(lambda change: self.names.append(change["name"]))

    def heard(self) -> set[str]:
        found, self.names = set(self.names), []
        return found


def test_an_update_sends_only_what_differs():
    card = CardWidget(lambda *_: None)
    card.update(state(Status.RUNNING))
    listener = Listener(card)

    card.update(state(Status.RUNNING))
    assert listener.heard() == set()
    told = {"train": StepActivity(("one", "two", "three"), None, {"loss": ((0, 1.0), (1, 0.5))})}
    card.update(state(Status.RUNNING, activities=told))
    assert listener.heard() == {"log"}
    card.update(state(Status.SUCCEEDED, activities=told))
    assert {"statuses", "details", "head", "actions", "count"} <= listener.heard()
    assert card._model.graph["names"] == ["load", "train", "report"]
    card.end(state(Status.SUCCEEDED))


def test_a_card_ends_once_and_is_silent_afterwards():
    asked: list[tuple[str, str]] = []
    card = CardWidget(lambda *what: asked.append(what))
    card.update(state(Status.RUNNING))
    card._model._handle_custom_msg({"ask": "cancel", "step": "train"}, [])
    card.end(state(Status.FAILED))
    listener = Listener(card)
    card.end(state(Status.FAILED))
    card.update(state(Status.RUNNING))
    card.tell(Html("late"))
    card._model._handle_custom_msg({"ask": "cancel", "step": "train"}, [])

    assert asked == [("cancel", "train")]
    assert listener.heard() == set()


@pytest.mark.parametrize("content", [None, [], {}, {"ask": 1}, {"ask": "rm"}, {"ask": "why"}, {"ask": "choose"}])
def test_what_a_front_end_sends_may_be_anything(content):
    asked: list[tuple[str, str]] = []
    card = CardWidget(lambda *what: asked.append(what))
    card.update(state(Status.RUNNING))
    card._model._handle_custom_msg(content, [])
    assert asked == []
    card.end(state(Status.RUNNING))


def test_another_step_can_be_chosen_and_all_be_asked_for():
    card = CardWidget(lambda *_: None)
    card.update(state(Status.RUNNING))
    card._model._handle_custom_msg({"ask": "choose", "step": "report"}, [])
    assert card._model.chosen == 2
    assert "waits for train" in card._model.facts
    card._model._handle_custom_msg({"ask": "all"}, [])
    assert card._model.details["whole"] is True
    assert set(card._model.details["set"]) == {"0", "1", "2"}
    card.end(state(Status.RUNNING))


def test_the_graph_of_very_many_steps_is_drawn_when_asked_for():
    steps = tuple(record(f"s{n}", Status.QUEUED) for n in range(300))
    many = dataclasses.replace(state(Status.RUNNING), steps=steps, needs={}, focus="s1")
    card = CardWidget(lambda *_: None)
    card.update(many)
    assert (card._model.graph["list"], card._model.graph["svg"]) == (True, "")
    card._model._handle_custom_msg({"ask": "graph"}, [])
    assert card._model.graph["svg"].count("nbpipe-node") == 300
    card.end(many)
