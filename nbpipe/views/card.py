"""What a card shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbpipe.model import RunRecord, StepRecord


@dataclass(frozen=True, slots=True)
class Preview:
    """A look at an output."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a running step has told so far."""

    tail: tuple[str, ...] = ()
    progress: tuple[float, float | None, str] | None = None
    metrics: Mapping[str, tuple[tuple[float | None, float], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CardState:
    """Everything a card shows."""

    run: RunRecord | None
    steps: tuple[StepRecord, ...]
    needs: Mapping[str, tuple[str, ...]]
    focus: str | None
    told: Mapping[str, Told]
    previews: Mapping[str, Preview]
    numbers: Mapping[str, int]
    now: float
    note: str = ""
    error_line: str = ""
