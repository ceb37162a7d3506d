"""The words of nbpipe as frozen values: what floors hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nbpipe.errors import NOWHERE, Place


class Status(StrEnum):
    """The state of a run, a step run or an attempt."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REUSED = "reused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    LOST = "lost"
    PARTIAL = "partial"

    @property
    def terminal(self) -> bool:
        """Say whether the state is final."""
        return self not in (Status.QUEUED, Status.PREPARING, Status.RUNNING)


class Reuse(StrEnum):
    """A step's reuse policy."""

    AUTO = "auto"
    NEVER = "never"
    KEEP = "keep"


# What the author wrote


@dataclass(frozen=True, slots=True)
class Cell:
    """One code cell: ``number`` counts all cells of the notebook from 1."""

    number: int
    source: str
    id: str = ""
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StepOutput:
    """A source: output ``output`` of step ``step`` (None: of the one other step that declares it)."""

    output: str
    step: str | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """A source: a file, a folder or a glob, relative to the notebook."""

    pattern: str


@dataclass(frozen=True, slots=True)
class FromParameter:
    """A source: whatever source the string parameter holds."""

    parameter: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A source that only a later part of nbpipe can reach (``store:``, ``ds:``, ``https:``)."""

    scheme: str
    text: str


Source = StepOutput | Files | FromParameter | Elsewhere


@dataclass(frozen=True, slots=True)
class Input:
    """``NAME[:FORMAT][=SOURCE]``."""

    name: str
    source: Source
    format: str | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Output:
    """``NAME[:FORMAT][=DESTINATION]``."""

    name: str
    format: str | None = None
    destination: str | None = None
    place: Place = NOWHERE

    @property
    def is_path(self) -> bool:
        """Say whether the cell gets a path to write to instead of binding a value."""
        return self.format is not None and (self.format in ("file", "dir") or self.format.startswith("file."))


@dataclass(frozen=True, slots=True)
class Options:
    """A step's keys beside ``in`` and ``out``; ``later`` names the given keys that are not built yet."""

    params: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    retries: int = 0
    timeout: float | None = None
    memory: int | None = None
    reuse: Reuse = Reuse.AUTO
    salt: str = ""
    hash: tuple[str, ...] = ()
    envvar: tuple[str, ...] = ()
    when: str | None = None
    later: tuple[tuple[str, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """The code of one cell of a step, its directive lines turned into comments so that lines keep their numbers."""

    cell: int
    source: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step as declared: a cell and its continuations."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    options: Options
    pieces: tuple[Piece, ...]
    place: Place

    def output(self, name: str) -> Output | None:
        """Get the output called ``name``, if it is declared."""
        return next((output for output in self.outputs if output.name == name), None)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A pipeline parameter: ``kind`` is bool, int, float, str, list, dict or any."""

    name: str
    kind: str
    default: Any
    optional: bool = False
    choices: tuple[Any, ...] = ()
    help: str = ""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Definition:
    """Shared code: names it binds, its text, and its text without what does not matter (comments, layout)."""

    names: tuple[str, ...]
    source: str
    normal: str
    cell: int
    is_import: bool = False


@dataclass(frozen=True, slots=True)
class StepCode:
    """What a step's code needs, found by reading it: everything in the order in which it must be rendered.

    ``files`` are the scripts that it runs (``%run x.py``, ``!python x.py``), relative to the notebook.
    """

    parameters: tuple[str, ...]
    definitions: tuple[Definition, ...]
    normal: str
    imports: tuple[str, ...] = ()
    warnings: tuple[Warned, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Warned:
    """Advice about the notebook that stops nothing."""

    code: str
    message: str
    hint: str = ""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A notebook, read: steps in notebook order, and what each one's code needs."""

    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...]
    code: Mapping[str, StepCode]
    needs: Mapping[str, tuple[str, ...]]
    kernel: str | None = None
    warnings: tuple[Warned, ...] = ()

    def step(self, name: str) -> Step:
        """Get the step called ``name``; KeyError when there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class FrozenModule:
    """A local module as it was at submit."""

    name: str
    path: str
    source: str
    is_package: bool = False


# Data


@dataclass(frozen=True, slots=True)
class Content:
    """Files pinned by content: ``kind`` is file, dir or glob; ``members`` are (relative path, bytes, digest)."""

    kind: str
    paths: tuple[str, ...]
    digest: str
    bytes: int
    members: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored output: ``uri`` is the fsspec URL of its bytes, ``basename`` the name that readers see."""

    name: str
    format: str
    digest: str
    bytes: int
    uri: str
    basename: str

    @property
    def is_path(self) -> bool:
        """Say whether a reader is given a path instead of a value."""
        return self.format in ("file", "dir")


# Why


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the reuse key. ``summary`` is short, for people; ``text`` is what a diff may be made of."""

    name: str
    digest: str
    summary: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reason:
    """A component that decided a verdict, with its earlier and its present summary."""

    component: str
    was: str | None = None
    now: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The run and step whose attempt made a result."""

    run: str
    step: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A recorded result that may be reused."""

    key: str
    attempt: str
    origin: Origin
    seconds: float
    notebook: str
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The step must be executed."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ReuseVerdict:
    """A recorded result stands for this step."""

    hit: Hit
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class SkipVerdict:
    """The step's condition is false, or a step that it needs is skipped or has failed."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class DependsVerdict:
    """Decided when the inputs are known."""

    reasons: tuple[Reason, ...]


Verdict = RunVerdict | ReuseVerdict | SkipVerdict | DependsVerdict


# One attempt


@dataclass(frozen=True, slots=True)
class JobInput:
    """An input as the kernel gets it: ``kind`` is value, values, path or paths; values are loaded by ``format``."""

    name: str
    kind: str
    paths: tuple[str, ...]
    format: str | None = None


@dataclass(frozen=True, slots=True)
class JobOutput:
    """An output that the kernel must leave: format None lets the value's type decide."""

    name: str
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs for one attempt; ``directory`` belongs to this attempt alone.

    ``notebook`` is the one-step notebook as JSON text. ``env`` is the kernel's whole environment and is never written
    to disk. ``kernel`` is the command line of the kernel with ``{connection_file}`` in it. ``definitions`` gives the
    digest of each shared definition by the name that it binds. ``memory`` is a limit in bytes for the kernel and all
    that it starts. ``preload`` names the modules that steps of the run import: what a worker may load ahead.
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
    timeout: float | None = None
    memory: int | None = None
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. ``kind`` is user, output, kernel, timeout, memory, input, lost or cancelled.

    ``cell`` and ``line`` are those of the author's notebook; ``traceback`` is plain text without terminal colours.
    """

    kind: str
    ename: str
    evalue: str
    message: str
    cell: int | None = None
    line: int | None = None
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended: artifacts when it succeeded, a failure when not, the executed notebook either way."""

    attempt: str
    token: int
    status: Status
    seconds: float
    notebook: str
    artifacts: tuple[Artifact, ...] = ()
    failure: Failure | None = None
    notes: tuple[str, ...] = ()


# History


@dataclass(frozen=True, slots=True)
class GitState:
    """The author's repository at submit; ``remote`` has no credentials, ``patch`` is what was not committed."""

    remote: str
    branch: str
    commit: str
    dirty: bool
    patch: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as history keeps it; times are seconds since the epoch, ``number`` counts the workspace's runs from 1."""

    id: str
    number: int
    notebook: str
    experiment: str
    status: Status
    started: float
    ended: float | None
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    git: GitState | None
    owner: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a run as history keeps it."""

    run: str
    step: str
    position: int
    status: Status
    attempts: int
    seconds: float
    saved_seconds: float
    reasons: tuple[Reason, ...]
    components: tuple[Component, ...]
    key: str | None
    origin: Origin | None
    notebook: str | None
    artifacts: tuple[Artifact, ...]
    failure: Failure | None
    started: float | None = None
    ended: float | None = None
    notes: tuple[str, ...] = ()
