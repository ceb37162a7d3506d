"""Of very many values the middle is thinned: first, last, lowest, highest and the true count are there."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from nbpipe.data.metric_series import WHOLE, MetricSeries
from nbpipe.model import MetricPoint


def recorded(values: list[float]) -> list[MetricPoint]:
    series = MetricSeries("m")
    points = [point for number, value in enumerate(values) for point in series.add(value, number, 1.0)]
    return [*points, *series.rest()]


def test_up_to_the_bound_each_value_is_recorded():
    points = recorded([float(n) for n in range(WHOLE)])
    assert [point.value for point in points] == list(range(WHOLE))
    assert [point.ordinal for point in points] == list(range(1, WHOLE + 1))


def test_beyond_it_one_of_ten_and_then_of_twenty():
    points = recorded([0.0] * 250_003)
    assert [point.ordinal for point in points[WHOLE:]] == [
        *range(WHOLE + 10, 200_001, 10), *range(200_020, 250_001, 20), 250_003,
    ]  # fmt: skip


def test_what_is_recorded_grows_with_each_doubling_only():
    assert len(recorded([0.0] * 1_000_000)) < WHOLE + 4 * 10_000


extremes = st.dictionaries(st.integers(0, 30_000), st.floats(), max_size=6)


@settings(max_examples=20, deadline=None)
@given(before=extremes, after=extremes, more=st.integers(1, 30_000))
def test_the_ends_the_extremes_and_the_count_are_recorded_wherever_they_are(before, after, more):
    values = [0.5] * (WHOLE + more)
    for place, value in before.items():
        values[place] = value
    for place, value in after.items():
        values[WHOLE + place % more] = value
    points = recorded(values)
    ordinals = [point.ordinal for point in points]
    comparable = [value for value in values if not math.isnan(value)]

    assert ordinals == sorted(set(ordinals))
    assert all(repr(point.value) == repr(values[point.ordinal - 1]) for point in points)
    assert all(point.at == point.ordinal - 1 for point in points)
    assert (ordinals[0], ordinals[-1]) == (1, len(values))
    logged = {point.value for point in points}
    assert {min(comparable), max(comparable)} <= logged
