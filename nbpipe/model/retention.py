"""How long results are kept, and what is known of each result when that is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What keeps a result: the newest ``runs`` of its notebook, and the last ``days``.

    Above ``size`` bytes in all, the oldest of these are not kept either. Of failed attempts, the newest ``failed`` of
    each step keep their folders.
    """

    runs: int = 20
    days: float = 30.0
    size: int | None = None
    failed: int = 3


@dataclass(frozen=True, slots=True)
class ResultUse:
    """A run in which a step had a result: its own, or one that it reused.

    ``attempt`` made the result; ``number`` is the run's, ``started`` its start in seconds since the epoch.
    """

    attempt: str
    pipeline: str
    step: str
    run: str
    number: int
    started: float


@dataclass(frozen=True, slots=True)
class Retention:
    """Why a result is kept; with ``by_name``, whatever its age and the size of all."""

    why: str
    by_name: bool
    newest: float


@dataclass(frozen=True, slots=True)
class CollectionSummary:
    """What can be collected, or was, if ``done``.

    ``results`` are (step, run number, number of outputs, bytes); ``objects`` are counted with their ``bytes``,
    ``failed`` are the failed attempts. ``untouched`` says why a datastore is left alone, by its name. Of the
    objects, ``waiting`` were not deleted yet: runs that go on may use them.
    """

    results: tuple[tuple[str, int, int, int], ...]
    objects: int
    bytes: int
    failed: int
    untouched: Mapping[str, str]
    done: bool
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class KeptOutput:
    """A stored output of a step in a run, and why it is kept; None if nothing keeps it.

    What was stored for a version of a dataset without being a step's output has neither step nor run.
    """

    output: str
    digest: str
    step: str | None
    run: int | None
    why: str | None
