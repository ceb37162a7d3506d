"""Values become words, tables, HTML and diffs: bounded, harmless, and the same for every face."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import artifact_of

from nbpipe.errors import SourceLocation
from nbpipe.model import (
    AttemptRecord,
    CachedResult,
    DependsVerdict,
    ExecutionRecord,
    Failure,
    KeyComponent,
    PipelineWarning,
    Reason,
    ResultOrigin,
    ReuseVerdict,
    RunRecord,
    RunVerdict,
    SkipVerdict,
    Status,
    StepEvent,
    StepEventKind,
)
from nbpipe.model.compute import ComputeTarget, Needs, Placement
from nbpipe.views.html import Html
from nbpipe.views.html_tables import plan_html, run_html, runs_html, table_html
from nbpipe.views.json_output import plan_object, run_object
from nbpipe.views.terminal_text import fit, one_line, pad, width
from nbpipe.views.text_diff import component_diff
from nbpipe.views.text_tables import (
    PlanRow,
    lines,
    plan_lines,
    plan_summary,
    run_lines,
    run_rows,
    step_lines,
    step_rows,
    steps_summary,
    update_lines,
    without_empty,
)
from nbpipe.views.wording import (
    SYMBOLS,
    VERDICTS,
    duration,
    explanation,
    reasons,
    run_name,
    sentence,
    size,
    status_words,
    step_explanation,
    verdict_line,
    warning_line,
)

HIT = CachedResult("blake3:00", "a1", ResultOrigin("5f0e7c9a11", "train"), 12.2, "notebook.ipynb", ())
PLAN = (
    PlanRow("prepare", ReuseVerdict(HIT, ()), ()),
    PlanRow("train", RunVerdict((Reason("parameter:learning_rate", "0.1", "0.2"),)), ("prepare",)),
    PlanRow("compare", DependsVerdict((Reason("upstream:train"),)), ("prepare", "train")),
)
RUN = RunRecord(
    "5f0e7c9a11", 3, "p1", "quickstart.ipynb", "housing", Status.PARTIAL, 1000.0, 1012.2, {}, {}, None, "me"
)


ACCEPTED = "accepted by ada on 2026-11-28 03:43 although changed: module:cleaning, definition:rmse, parameter:rate"


def step(name: str = "train", status: Status = Status.SUCCEEDED, **changes: object) -> ExecutionRecord:
    """Make a step's record."""
    told = {
        "attempts": 1, "seconds": 3.2, "saved_seconds": 0.0, "reasons": (), "components": (), "key": None,
        "origin": None, "notebook": None, "artifacts": (), "failure": None,
    }  # fmt: skip
    return ExecutionRecord(f"e-{name}", "5f0e7c9a11", name, 0, status, **{**told, **changes})


def test_a_warning_about_the_whole_notebook_names_no_place():
    assert warning_line(PipelineWarning("notebook", "c.ipynb is a copy", "")) == "c.ipynb is a copy."
    placed = PipelineWarning("unused", "`x` is not used", "Leave it out.", SourceLocation(3))
    assert warning_line(placed) == "cell 3: `x` is not used. Leave it out."


@pytest.mark.parametrize(
    "reason, said",
    [
        (Reason("first run"), "first run"),
        (Reason("forced"), "forced"),
        (Reason("policy", None, "reuse: never"), "declared `reuse: never`"),
        (Reason("code"), "the step's code changed"),
        (Reason("code", "12 lines", "12 lines"), "the step's code changed"),
        (Reason("definition:rmse", "def rmse", None), "the definition of rmse was removed: def rmse"),
        (Reason("module:cleaning", None, "cleaning.py"), "the local module cleaning is new: cleaning.py"),
        (Reason("parameter:learning_rate", "0.1", "0.2"), "parameter learning_rate: 0.1 → 0.2"),
        (Reason("input:raw", "1.4 MB", "1.5 MB"), "input raw: 1.4 MB → 1.5 MB"),
        (Reason("outputs", "model", "model, report:json"), "the declared outputs: model → model, report:json"),
        (Reason("python", "3.11.7", "3.12.1"), "Python: 3.11.7 → 3.12.1"),
        (Reason("envvar:TZ", "", "UTC"), "the environment variable TZ: empty → UTC"),
        (Reason("salt", "a", "b"), "the salt: a → b"),
        (Reason("hash:conf/a:b.yml"), "the hashed file conf/a:b.yml changed"),
        (Reason("artifact:model"), "the stored output model is missing or damaged"),
        (Reason("artifact:model", None, "has 3 bytes, not 5"), "the stored output model has 3 bytes, not 5"),
        (Reason("accepted", None, ACCEPTED), ACCEPTED),
        (Reason("when", None, "size > 3"), "its condition is false: size > 3"),
        (Reason("upstream:prepare"), "known when prepare is done"),
        (Reason("upstream:prepare", None, "failed"), "prepare failed"),
        (Reason("upstream:prepare", None, "skipped"), "prepare was skipped"),
        (Reason("weather", "rain", "sun"), "weather: rain → sun"),
    ],
)
def test_every_component_has_its_sentence(reason, said):
    """A reason reads as a person would say it."""
    assert sentence(reason) == said


@given(st.builds(Reason, st.text(), st.none() | st.text(), st.none() | st.text()))
def test_a_sentence_is_one_printable_line(reason):
    """Whatever a component's name and summaries hold, they cannot break or steer a line."""
    said = sentence(Reason(reason.component[:40], reason.was, reason.now))

    assert said == one_line(said)
    assert width(said) < 300


@pytest.mark.parametrize(
    "seconds, said",
    [
        (-3, "0.0 s"), (0, "0.0 s"), (0.449, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"),
        (59.6, "1 min"), (125, "2 min 5 s"), (3599.7, "1 h"), (3780, "1 h 3 min"), (86_400, "1 d"), (93_600, "1 d 2 h"),
    ],
)  # fmt: skip
def test_durations_are_rounded_for_people(seconds, said):
    """Two units at most, and never 60 of the smaller one."""
    assert duration(seconds) == said


@pytest.mark.parametrize(
    "count, said",
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_000, "1.0 kB"), (999_960, "1.0 MB"), (10**16, "10.0 PB")],
)
def test_sizes_are_rounded_for_people(count, said):
    """Decimal units, never 1,000 of the smaller one."""
    assert size(count) == said


def test_every_status_and_verdict_has_a_word_and_a_symbol():
    """Nothing is told by colour alone."""
    assert set(SYMBOLS) == set(Status)
    assert len(set(SYMBOLS.values())) == len(Status)
    assert set(VERDICTS) == {RunVerdict, ReuseVerdict, SkipVerdict, DependsVerdict}
    assert status_words(Status.FAILED) == "✗ failed"


@pytest.mark.parametrize(
    "verdict, said",
    [
        (PLAN[0].verdict, "reused from run 3, saves 12 s"),
        (PLAN[1].verdict, "run: parameter learning_rate: 0.1 → 0.2"),
        (PLAN[2].verdict, "depends: known when train is done"),
        (SkipVerdict((Reason("upstream:train", None, "failed"),)), "skip: train failed"),
        (ReuseVerdict(HIT, (Reason("python", "3.11", "3.12"),)), "reused from run 3, saves 12 s (Python: 3.11 → 3.12)"),
        (RunVerdict(()), "run"),
    ],
)
def test_a_verdict_is_one_line(verdict, said):
    """The verdict, and everything that decided it."""
    assert verdict_line(verdict, {"5f0e7c9a11": 3}) == said


def test_a_run_without_a_known_number_is_called_by_its_id():
    """The reader can always find the run."""
    assert run_name("5f0e7c9a11") == "run 5f0e7c9a"
    assert explanation(PLAN[0].verdict) == "from run 5f0e7c9a, saves 12 s"


def test_several_reasons_are_joined():
    """No reason is dropped."""
    assert reasons((Reason("forced"), Reason("code"))) == "forced; the step's code changed"


def test_a_plan_as_plain_lines():
    """Columns line up, the summary comes last."""
    assert plan_lines(PLAN, 100, {"5f0e7c9a11": 3}) == [
        "step     verdict    needs           why",
        "prepare  ↺ reuse                    from run 3, saves 12 s",
        "train    ▸ run      prepare         parameter learning_rate: 0.1 → 0.2",
        "compare  ? depends  prepare, train  known when train is done",
        "1 run, 1 reuse, 1 depends (saves 12 s)",
    ]


def test_a_run_as_plain_lines():
    """A failure shows its cell and line, a reuse its origin; the unneeded column of tries is left out."""
    failure = Failure("user", "ValueError", "no", "ValueError: no such column", cell=3, line=2)
    steps = (
        step("prepare", Status.REUSED, attempts=0, saved_seconds=12.2, origin=ResultOrigin("5f0e7c9a11", "prepare")),
        step("train", Status.FAILED, failure=failure),
        step("compare", Status.SKIPPED, attempts=0, reasons=(Reason("upstream:train", None, "failed"),)),
    )

    assert step_lines(steps, 100, {"5f0e7c9a11": 3}) == [
        "step     status     time   why",
        "prepare  ↺ reused          from run 3, saved 12 s",
        "train    ✗ failed   3.2 s  cell 3, line 2: ValueError: no such column",
        "compare  – skipped         train failed",
        "1 reused, 1 failed, 1 skipped (saved 12 s)",
    ]


def test_steps_of_several_runs_name_their_runs():
    """The latest state of each step may be of another run than the newest."""
    steps = (step("prepare"), dataclasses.replace(step("train"), run="r2"))

    assert step_lines(steps, 100, {"5f0e7c9a11": 3, "r2": 7}) == [
        "step     status       time   run",
        "prepare  ✓ succeeded  3.2 s  run 3",
        "train    ✓ succeeded  3.2 s  run 7",
        "2 succeeded",
    ]


FIRST_TRY = AttemptRecord(
    "a1", "r1", "e-train", 1, Status.FAILED, "runs/r1/train/a1", seconds=4.0,
    failure=Failure("user", "ValueError", "no", "ValueError: no", cell=2, line=1),
)  # fmt: skip
SECOND_TRY = AttemptRecord("a2", "r1", "e-train", 2, Status.SUCCEEDED, "runs/r1/train/a2", seconds=3.2)


def printed(text: str) -> tuple[StepEvent, ...]:
    """Make what an attempt printed."""
    return (StepEvent(1, 0.0, StepEventKind.STREAM, 2, {"name": "stdout", "text": text}),)


def test_both_attempts_of_a_retried_step_are_told_in_their_order():
    """Also where all of it is read at once: the run may be long over."""
    told = [("train", FIRST_TRY, printed("one\n")), ("train", SECOND_TRY, printed("two\n"))]

    assert update_lines([step(attempts=2)], [("train", FIRST_TRY), ("train", SECOND_TRY)], told) == [
        "train | one",
        "✗ failed train (attempt 1) in 4.0 s: cell 2, line 1: ValueError: no",
        "train | two",
        "✓ succeeded train (attempt 2) in 3.2 s",
    ]


def test_a_followed_attempt_begins_before_it_prints():
    """Also for a reader that comes while it runs; the failure of the attempt before it is older."""
    told = [("train", FIRST_TRY, printed("one\n")), ("train", SECOND_TRY, printed("two\n"))]
    running = step(status=Status.RUNNING, attempts=2)

    assert update_lines([running], [("train", FIRST_TRY), ("train", SECOND_TRY)], told) == [
        "train | one",
        "✗ failed train (attempt 1) in 4.0 s: cell 2, line 1: ValueError: no",
        "▸ running train (attempt 2)",
        "train | two",
    ]


def test_nobody_knows_how_long_something_lost_took():
    """It ends when somebody finds it, which may be days later."""
    assert dataclasses.replace(RUN, ended=RUN.started - 60).seconds(2000.0) == 0.0
    run, lost = dataclasses.replace(RUN, status=Status.LOST), step(status=Status.LOST, seconds=0.0)

    assert run_rows([run], 2000.0)[0][2] == ""
    assert step_rows([lost])[0][2] == ""
    shown = run_object(run, [lost], run.seconds(2000.0), lambda reference: reference.basename)
    assert (shown["seconds"], shown["steps"][0]["seconds"]) == (None, None)


def test_a_running_step_has_no_time_yet():
    assert step_rows([step(status=Status.RUNNING, seconds=0.0)])[0][2] == ""


def test_a_followed_run_names_the_runs_that_it_reuses_by_their_numbers():
    reused = step(status=Status.REUSED, attempts=0, origin=ResultOrigin("20261128-x", "train"), saved_seconds=2.0)

    assert update_lines([reused], [], numbers={"20261128-x": 1}) == ["↺ reused train: from run 1, saved 2.0 s"]


def test_the_failure_of_the_last_attempt_is_told_once():
    """It is the step's own."""
    failed = step(status=Status.FAILED, failure=FIRST_TRY.failure)

    assert update_lines([failed], [("train", FIRST_TRY)]) == ["✗ failed train in 3.2 s: cell 2, line 1: ValueError: no"]
    assert len(update_lines([step(status=Status.RUNNING)], [("train", FIRST_TRY)])) == 2


def test_the_json_objects_have_the_names_of_the_contract():
    """Other programs read them."""
    artifact = artifact_of("df", "arrow")
    steps = [step(artifacts=(artifact,), failure=FIRST_TRY.failure), dataclasses.replace(step("old"), run="r0")]
    shown = run_object(RUN, steps, 3.0, lambda reference: f"file:///{reference.basename}")
    verdicts = {row.name: row.verdict for row in PLAN if row.verdict}
    needs = {row.name: row.needs for row in PLAN}
    placements = dict.fromkeys(verdicts, Placement(ComputeTarget("local", 4, 8 << 30), Needs()))
    planned = plan_object("/n.ipynb", verdicts, needs, (), placements, refused={"wrong": "has an error"})

    assert {"run", "status", "seconds", "saved_seconds", "steps"} <= shown.keys()
    first, old = shown["steps"]
    assert (first["run"], old["run"]) == ("5f0e7c9a11", "r0")
    assert {
        "name", "status", "attempts", "seconds", "reasons", "origin", "notebook", "items", "outputs", "error",
    } <= first.keys()  # fmt: skip
    assert first["outputs"]["df"].keys() == {"uri", "format", "digest", "bytes", "dataset"}
    assert {"ename", "evalue", "cell", "line", "message"} <= first["error"].keys()
    assert {"notebook", "steps"} <= planned.keys()
    assert planned["steps"][0].keys() == {
        "name", "verdict", "reasons", "needs", "origin", "target", "environment", "saved_seconds",
    }  # fmt: skip


def test_a_waiting_step_says_what_it_waits_for():
    waiting = step(status=Status.QUEUED, notes=("waiting for 1 GPU: 2 of 2 taken by fit (3 min)",))
    assert step_explanation(waiting) == "waiting for 1 GPU: 2 of 2 taken by fit (3 min)"


def test_runs_as_plain_lines():
    """Times are told from the given now."""
    assert run_lines((RUN,), 100, now=1130.0) == [
        "run  status     time  started         experiment  notebook",
        "3    ◐ partial  12 s  2 min 10 s ago  housing     quickstart.ipynb",
    ]


def test_runs_tell_the_steps_that_ran():
    """The steps come last, where a narrow line may cut them."""
    assert run_lines((RUN,), 100, now=1130.0, ran={RUN.id: ["clean", "train"]}) == [
        "run  status     time  started         experiment  notebook          ran",
        "3    ◐ partial  12 s  2 min 10 s ago  housing     quickstart.ipynb  clean, train",
    ]


def test_empty_tables_have_their_header_and_summary():
    """Nothing to show is shown as nothing."""
    assert plan_lines((), 80) == ["step  verdict  needs  why", "no steps"]
    assert (plan_summary(()), steps_summary(())) == ("no steps", "no steps")


CELL = st.text(max_size=60).map(one_line)


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=5), st.integers(min_value=20, max_value=120))
def test_no_line_is_wider_than_the_terminal(rows, columns):
    """Wide characters, marks and long names included, and each line is one line."""
    table = lines(("a", "b", "c"), rows, columns)

    assert len(table) == len(rows) + 1
    assert all(width(line) <= columns and "\n" not in line for line in table)


@given(st.text(), st.integers(min_value=0, max_value=40))
def test_fitting_keeps_the_width(text, columns):
    """``fit`` never exceeds, ``pad`` is exact, and what fits stays whole."""
    line = one_line(text)

    assert width(fit(line, columns)) <= columns
    assert width(pad(line, columns)) == columns
    assert fit(line, width(line)) == line


def test_wide_and_combining_characters_count_as_a_terminal_shows_them():
    """A Chinese character takes two columns, an accent none."""
    assert [width(text) for text in ("ab", "数据", "e\u0301", "a\u200bb")] == [2, 4, 1, 3]
    assert fit("数据数据", 5) == "数据…"


@pytest.mark.parametrize("hostile", ["a\x1b[31mb", "a\u202eb", "a\rb\nc", "a\x07", "a\u2066b"])
def test_names_cannot_steer_a_terminal(hostile):
    """Escape sequences, bidirectional overrides and line breaks are made visible or joined."""
    shown = one_line(hostile)

    assert shown.startswith("a")
    assert not re.search("[\x00-\x1f\x7f\u202e\u2066]", shown)


class Seen(HTMLParser):
    """The tags, attributes and text of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        """Note a tag and what it carries."""
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_data(self, data) -> None:
        """Note text."""
        self.cells[-1] += data


def seen(html: Html) -> Seen:
    """Read a fragment as a browser would."""
    parser = Seen()
    parser.feed(html.text)
    parser.close()
    return parser


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4), st.text())
def test_html_says_every_text_and_obeys_none(rows, caption):
    """Whatever a name holds is text in its cell: no tag and no attribute of its own."""
    page = seen(table_html(("<a>", "b&c"), rows, caption))

    told = [(caption,), *without_empty(("<a>", "b&c"), rows)]
    assert page.cells == [one_line(text) for row in told for text in row]
    assert {text for row in rows for text in row if text} <= {text for row in told for text in row}
    assert set(page.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert page.attributes <= {"style", "scope"}


def test_html_shows_what_the_text_shows():
    """The static twin of a plan, a run and a list of runs has the same words."""
    plan = seen(plan_html(PLAN, {"5f0e7c9a11": 3})).cells
    run = seen(run_html(RUN, (step(),))).cells
    runs = seen(runs_html((RUN,), 1130.0)).cells

    assert plan[0] == "Plan: 1 run, 1 reuse, 1 depends (saves 12 s)"
    assert plan[5:9] == ["prepare", "↺ reuse", "", "from run 3, saves 12 s"]
    assert run[0] == "Run 3 ◐ partial: 1 succeeded"
    assert runs[-6:] == ["3", "◐ partial", "12 s", "2 min 10 s ago", "housing", "quickstart.ipynb"]


def test_html_fits_light_and_dark_themes():
    """No colour of our own, neither text nor background."""
    html = plan_html(PLAN).text

    assert not re.search(r"#[0-9a-fA-F]{3,6}|rgb|background:(?!none)", html)


def test_a_diff_shows_what_changed():
    """Unified, indentation kept, headed by before and now."""
    was = KeyComponent("code", "blake3:1", "2 lines", "def f(x):\n\treturn  x\n")
    now = KeyComponent("code", "blake3:2", "2 lines", "def f(x):\n\treturn  x + 1\n")

    assert component_diff(was, now) == (
        "--- before", "+++ now", "@@ -1,2 +1,2 @@", " def f(x):", "-    return  x", "+    return  x + 1",
    )  # fmt: skip
    assert component_diff(was, was) == ()
    assert component_diff(None, None) == ()
    assert component_diff(None, now)[3:] == ("+def f(x):", "+    return  x + 1")


@given(st.text(), st.text())
def test_a_diff_is_bounded_and_harmless(before, after):
    """Any two texts give few, short, printable lines."""
    changed = component_diff(
        KeyComponent("code", "", "", before), KeyComponent("code", "", "", after), max_lines=5, columns=30
    )

    assert len(changed) <= 6
    assert all(width(line) <= 30 and "\x1b" not in line for line in changed[:5])


def test_a_diff_of_huge_texts_ends():
    """What is beyond the compared lines is said, not compared."""
    texts = ["\n".join(str(line) for line in range(first, first + 50_000)) for first in (0, 7)]
    changed = component_diff(*(KeyComponent("input:x", "", "", text) for text in texts))

    assert changed[-1] == "… lines after 2000 are not compared"
