"""What a card shows of a step's output is what a terminal would, bounded, whatever pieces it comes in."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nbpipe.magics.step_log import StepLog
from nbpipe.model import MetricPoint, StepEvent, StepEventKind


def event(kind: str, **told: object) -> StepEvent:
    return StepEvent(1, 0.0, StepEventKind(kind), 1, told)


def point(name: str, value: float, at: int | None, ordinal: int = 0) -> MetricPoint:
    return MetricPoint(name, float(value), at, 0.0, ordinal or int(value) + 1)


def tail(*texts: tuple[str, str]) -> tuple[str, ...]:
    heard = StepLog()
    heard.take(event("stream", name=name, text=text) for name, text in texts)
    return heard.activity().tail


@given(st.lists(st.text("ab\n\r", max_size=8), max_size=8))
def test_the_pieces_make_no_difference(pieces):
    assert tail(*(("stdout", piece) for piece in pieces)) == tail(("stdout", "".join(pieces)))


def test_a_bar_is_written_over_and_stays_below_what_is_printed():
    bar = [("stderr", f"\r{n} of 3") for n in range(4)]
    printed = [("stdout", f"line {n}\n") for n in range(4)]
    mixed = [each for pair in zip(bar, printed, strict=True) for each in pair]
    assert tail(*mixed) == ("line 0", "line 1", "line 2", "line 3", "3 of 3")
    assert tail(("stdout", "over\r"), ("stdout", "new\n"), ("stdout", "open")) == ("new", "open")


def test_it_is_bounded():
    heard = StepLog()
    heard.take([event("stream", name="stdout", text="line\n" * 10_000 + "x" * 100_000)])
    heard.take(event("metric", points=[point("loss", n, n)]) for n in range(5_000))
    heard.take([event("metric", points=[point("seen", n, None) for n in range(3_000)])])
    told = heard.activity()
    assert len(told.tail) < 400
    assert max(map(len, told.tail)) < 5_000
    for name, count in (("loss", 5_000), ("seen", 3_000)):
        assert 400 < len(told.metrics[name]) <= 1_000
        assert told.metrics[name][-1][1] == count - 1
        assert told.metrics[name][0][1] == 0
        assert told.count(name) == count
    assert told.metrics["loss"][-1] == (4_999, 4_999.0)
    assert told.metrics["seen"][-1] == (3_000, 2_999.0)


@given(st.lists(st.floats(), min_size=1, max_size=40), st.integers(1, 200))
def test_a_curve_has_the_extremes_and_the_ends_of_what_was_logged(values, times):
    heard = StepLog()
    logged = [point("m", value, None, ordinal) for ordinal, value in enumerate(values * times, 1)]
    heard.take(event("metric", points=[each]) for each in logged)
    curve = [value for _, value in heard.activity().metrics["m"]]
    finite = [value for value in values if math.isfinite(value)]
    assert len(curve) <= 1_000
    assert (repr(curve[0]), repr(curve[-1])) == (repr(values[0]), repr(values[-1]))
    if finite:
        assert {min(finite), max(finite)} <= set(curve)


def test_what_has_a_place_of_its_own_is_not_among_the_lines():
    heard = StepLog()
    heard.take([event("display", text="<Figure>", rich=True), event("error", text="no"), event("display", text="41")])
    heard.take([event("progress", done=1, total=None, description="rows")])
    assert heard.activity().tail == ("41",)
    assert heard.activity().progress == (1.0, None, "rows")
