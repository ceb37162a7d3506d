"""What a running step tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a running step told: ``number`` counts from 1 in its attempt, ``cell`` is the author's.

    ``kind`` is stream (``name``, ``text``), display (``text``; ``rich`` when that stands for a picture or a table),
    error (``text``), metric (``name``, ``value``, ``step``), table, image, progress (``done``, ``total``,
    ``description``) or cut (``count``: so many more were not written down).
    """

    number: int
    time: float
    kind: str
    cell: int | None
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a step logged: ``number`` is its place in time, ``at`` the step that the code gave with it."""

    run: str
    step: str
    attempt: str
    number: int
    name: str
    value: float
    at: int | None
    time: float
