"""Sparklines: metrics over time as a small line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float | None, float]]

_MOST = 120
# Above this number of points only some are considered: a line is redrawn several times a second.
_LOOKED_AT = 1_200


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A line: its corners, and the position of its last point."""

    corners: str
    last: tuple[float, float]


def line(points: Points, width: float, height: float) -> Sparkline | None:
    """Return values as a line; None if fewer than two of them are finite.

    The horizontal axis is the step if every value has one, otherwise the order of the values.
    """
    few = [*points[:: len(points) // _LOOKED_AT + 1], *points[-1:]] if len(points) > _LOOKED_AT else points
    finite = [(at, value) for at, value in few if math.isfinite(value)]
    points_drawn = [finite[number] for number in thinned([value for _, value in finite], _MOST)]
    if len(points_drawn) < 2:
        return None
    stepped = all(at is not None and math.isfinite(at) for at, _ in points_drawn)
    places = [float(at) if stepped and at is not None else float(number) for number, (at, _) in enumerate(points_drawn)]
    values = [value for _, value in points_drawn]
    xs, ys = _scaled(places, 2.0, width - 3.0), _scaled(values, height - 3.0, 3.0)
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    return Sparkline(corners, (xs[-1], ys[-1]))


def thinned(values: Sequence[float], most: int) -> list[int]:
    """Return the places of about ``most`` of some values: the first, the last, of neighbours the lowest and highest."""
    if len(values) <= most:
        return list(range(len(values)))
    size = math.ceil(len(values) / (most // 2))
    indices = {0, len(values) - 1}
    for start in range(0, len(values), size):
        near = range(start, min(start + size, len(values)))
        finite = [place for place in near if math.isfinite(values[place])] or near[:1]
        indices |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
    return sorted(indices)


def _scaled(values: Sequence[float], low: float, high: float) -> list[float]:
    least, most = min(values), max(values)
    # The difference of two finite numbers may be infinite.
    span = most - least
    if not span or not math.isfinite(span):
        return [(low + high) / 2] * len(values)
    return [low + (value - least) / span * (high - low) for value in values]
