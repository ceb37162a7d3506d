"""Whatever comes in whatever order, each attempt is heard of as started, told, ended, with nothing said twice."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from nbpipe.compute.report_queue import ReportQueue
from nbpipe.model import AttemptEnded, AttemptOutputWritten, AttemptReport, AttemptStarted, Outcome, Status


def ended(attempt: str) -> AttemptEnded:
    return AttemptEnded(Outcome(attempt, 1, Status.SUCCEEDED, 0.0, ""))


def put(reports: list[AttemptReport], *attempts: str) -> ReportQueue:
    """Get a queue in which some reports were put."""
    queue = ReportQueue()
    for attempt in attempts:
        queue.expect(attempt)
    for report in reports:
        queue.put(report)
    return queue


ANY = st.sampled_from(["a", "b"]).flatmap(
    lambda attempt: st.one_of(
        st.just(AttemptStarted(attempt, 1.0)),
        st.integers(1, 9).map(lambda pieces: AttemptOutputWritten(attempt, pieces)),
        st.just(ended(attempt)),
        st.none(),
    )
)


@given(st.lists(ANY, max_size=40))
def test_any_order_becomes_started_told_ended(messages):
    """None is a drain in between."""
    queue = put([], "a", "b")
    heard: list[AttemptReport] = []
    for message in messages:
        if message is None:
            drained = queue.wait(0)
            told = [report.attempt for report in drained if isinstance(report, AttemptOutputWritten)]
            assert len(told) == len(set(told))
            heard += drained
        else:
            queue.put(message)
    heard += queue.wait(0)
    for attempt in ("a", "b"):
        mine = [report for report in heard if report.attempt == attempt]
        kinds = [(AttemptStarted, AttemptOutputWritten, AttemptEnded).index(type(report)) for report in mine]
        assert kinds == sorted(kinds)
        assert kinds.count(0) <= 1 >= kinds.count(2)
        assert 1 not in kinds or kinds[0] == 0
        pieces = [report.pieces for report in mine if isinstance(report, AttemptOutputWritten)]
        assert pieces == sorted(set(pieces))


def test_only_the_newest_number_is_told():
    queue = put(
        [
            AttemptStarted("a", 1.0),
            AttemptOutputWritten("a", 1),
            AttemptOutputWritten("a", 5),
            AttemptOutputWritten("a", 3),
        ],
        "a",
    )
    assert queue.wait(0) == [AttemptStarted("a", 1.0), AttemptOutputWritten("a", 5)]
    queue.put(AttemptOutputWritten("a", 5))
    assert queue.wait(0) == []


def test_what_was_told_before_the_start_was_heard_of_comes_after_it():
    queue = put([AttemptOutputWritten("a", 2)], "a")
    assert queue.wait(0) == []
    queue.put(AttemptStarted("a", 1.0))
    assert queue.wait(0) == [AttemptStarted("a", 1.0), AttemptOutputWritten("a", 2)]


def test_nothing_comes_after_the_end_or_of_an_attempt_that_nobody_expects():
    late: list[AttemptReport] = [
        ended("a"),
        AttemptStarted("a", 1.0),
        AttemptOutputWritten("a", 1),
        ended("a"),
        ended("b"),
    ]
    assert put(late, "a").wait(0) == [ended("a")]


def test_waiting_ends_with_the_first_report():
    queue = put([], "a")
    threading.Timer(0.1, queue.put, [AttemptStarted("a", 1.0)]).start()
    began = time.monotonic()
    assert queue.wait(30) == [AttemptStarted("a", 1.0)]
    assert time.monotonic() - began < 5
