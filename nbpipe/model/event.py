"""What a running step tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class StepEventKind(StrEnum):
    """What a running step can tell, each with its content."""

    STREAM = "stream"
    """``name``, ``text``"""
    DISPLAY = "display"
    """``text``; ``rich`` when that stands for a picture or a table"""
    ERROR = "error"
    """``text``"""
    METRIC = "metric"
    """``name``, ``value``, ``step``"""
    TABLE = "table"
    """``name``, ``columns``"""
    IMAGE = "image"
    """``name``"""
    PROGRESS = "progress"
    """``done``, ``total``, ``description``"""
    CUT = "cut"
    """``count``: so many more pieces were not written"""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One piece of what a running step told: ``number`` counts from 1 in its attempt, ``cell`` is the author's."""

    number: int
    time: float
    kind: StepEventKind
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
