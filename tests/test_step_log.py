"""What a card shows of a step's output is what a terminal would, bounded, whatever pieces it comes in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbpipe.magics.step_log import StepLog
from nbpipe.model import StepEvent, StepEventKind


def event(kind: str, **told: object) -> StepEvent:
    return StepEvent(1, 0.0, StepEventKind(kind), 1, told)


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
    heard.take(event("metric", name="loss", value=n, step=n) for n in range(5_000))
    told = heard.activity()
    assert len(told.tail) < 400
    assert max(map(len, told.tail)) < 5_000
    assert len(told.metrics["loss"]) == 2_000
    assert told.metrics["loss"][-1] == (4_999, 4_999.0)


def test_what_has_a_place_of_its_own_is_not_among_the_lines():
    heard = StepLog()
    heard.take([event("display", text="<Figure>", rich=True), event("error", text="no"), event("display", text="41")])
    heard.take([event("progress", done=1, total=None, description="rows")])
    assert heard.activity().tail == ("41",)
    assert heard.activity().progress == (1.0, None, "rows")
