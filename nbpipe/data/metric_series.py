"""The values of one metric's name as they come, with the middle of very many thinned."""

from __future__ import annotations

import math

from nbpipe.model import MetricPoint

WHOLE = 100_000
"""So many values of a name are recorded one by one."""

_SAMPLES = 10_000
"""Of those beyond, as many are recorded again whenever their number has doubled, and each new extreme."""


class MetricSeries:
    """Chooses which values of one name are recorded; its memory does not grow with their number.

    Recorded are the first :data:`WHOLE`, then one of ten, of twenty, of forty, and so on, each new lowest and highest
    value of those between, and the last one.
    """

    __slots__ = ("_count", "_high", "_highest", "_last", "_low", "_lowest", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._lowest, self._highest = math.inf, -math.inf
        self._low: MetricPoint | None = None
        self._high: MetricPoint | None = None
        self._last: MetricPoint | None = None

    def add(self, value: float, at: int | None, time: float) -> list[MetricPoint]:
        """Add a value, and return those that are to be recorded now, in order."""
        self._count += 1
        point = MetricPoint(self._name, value, at, time, self._count)
        whole = self._count <= WHOLE
        if value < self._lowest:
            self._lowest = value
            self._low = None if whole else point
        if value > self._highest:
            self._highest = value
            self._high = None if whole else point
        if whole:
            return [point]
        self._last = point
        return [] if self._count % self._stride() else self.rest()

    def rest(self) -> list[MetricPoint]:
        """Return what is held back: new extremes and the last value, in order."""
        pending = {point.ordinal: point for point in (self._low, self._high, self._last) if point is not None}
        self._low = self._high = self._last = None
        return [pending[ordinal] for ordinal in sorted(pending)]

    def _stride(self) -> int:
        return (WHOLE // _SAMPLES) << (((self._count - 1) // WHOLE).bit_length() - 1)
