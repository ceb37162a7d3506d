"""One attempt: what a worker is given, what is reported while it runs, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nbpipe.model.content import Artifact
from nbpipe.model.declarations import FrozenModule
from nbpipe.model.status import Status
from nbpipe.model.verdicts import Observation


class InputKind(StrEnum):
    """How the kernel gets an input."""

    VALUE = "value"
    VALUES = "values"
    PATH = "path"
    PATHS = "paths"

    @property
    def is_list(self) -> bool:
        """Return whether the kernel gets a list."""
        return self in (InputKind.VALUES, InputKind.PATHS)


class FailureKind(StrEnum):
    """What an attempt failed of."""

    USER = "user"
    """the author's code raised"""
    OUTPUT = "output"
    """an output is missing, or cannot be stored or delivered"""
    INPUT = "input"
    """an input cannot be loaded, or the code asked for keyboard input"""
    KERNEL = "kernel"
    """the kernel did not start, or ended before the step"""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    LOST = "lost"
    """the attempt's worker or run ended"""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class JobInput:
    """An input as the kernel gets it; values are loaded by ``format``.

    ``artifact`` is the stored output that it is; None for the author's files.
    """

    name: str
    kind: InputKind
    paths: tuple[str, ...]
    format: str | None = None
    artifact: Artifact | None = None


@dataclass(frozen=True, slots=True)
class JobOutput:
    """An output that the kernel must leave: format None lets the value's type decide."""

    name: str
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs for one attempt; ``directory`` belongs to this attempt alone.

    ``notebook`` is the one-step notebook as JSON text. ``env``, the kernel's whole environment, is never written to
    disk. ``kernel`` is its command line with ``{connection_file}`` in it. ``definitions`` gives the digest of each
    shared definition by the name that it binds. ``imports`` are the modules that the code names, ``roots`` the folders
    of local modules, ``site`` those of installed ones. ``experiment``
    and ``parameters`` (those that the step reads) are what its code may ask for. ``memory`` is a limit in
    bytes for the kernel and all that it starts. ``preload`` names the modules that steps of the run import: what a
    worker may load ahead.
    """

    attempt: str
    token: int
    run: str
    step: str
    notebook: str
    directory: str
    store: str
    cwd: str
    kernel: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    inputs: tuple[JobInput, ...] = ()
    outputs: tuple[JobOutput, ...] = ()
    modules: tuple[FrozenModule, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    experiment: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    memory: int | None = None
    preload: tuple[str, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    ``cell`` and ``line`` are those of the author's notebook; ``traceback`` is plain text without terminal colours.
    """

    kind: FailureKind
    ename: str
    evalue: str
    message: str
    cell: int | None = None
    line: int | None = None
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended: artifacts when it succeeded, a failure when not.

    ``notebook`` is the name of the executed notebook within the attempt's directory, empty when none was written.
    ``observed`` was used without being declared, ``written`` was made beside the outputs; ``doubts`` say why nobody can
    tell what the result was made from: with one of them it serves its own run only.
    """

    attempt: str
    token: int
    status: Status
    seconds: float
    notebook: str
    artifacts: tuple[Artifact, ...] = ()
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    observed: tuple[Observation, ...] = ()
    written: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An attempt has begun on a worker, ``at`` seconds since the epoch by the worker's clock."""

    attempt: str
    at: float


@dataclass(frozen=True, slots=True)
class AttemptTold:
    """So many numbered pieces of what an attempt told are readable in its directory, counted from 1."""

    attempt: str
    pieces: int


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt has ended."""

    outcome: Outcome

    @property
    def attempt(self) -> str:
        """The attempt's id."""
        return self.outcome.attempt


AttemptReport = AttemptStarted | AttemptTold | AttemptEnded
