"""One attempt: the job that a worker receives, the reports while it runs, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nbpipe.model.compute import Placement
from nbpipe.model.content import DEFAULT_STORE, Artifact, ObjectReference
from nbpipe.model.datasets import DatasetRecipe
from nbpipe.model.datastores import StoreAccess, StoredObject
from nbpipe.model.declarations import FrozenModule
from nbpipe.model.status import Status
from nbpipe.model.verdicts import Observation


class InputKind(StrEnum):
    """How the kernel receives an input."""

    VALUE = "value"
    VALUES = "values"
    PATH = "path"
    PATHS = "paths"

    @property
    def is_list(self) -> bool:
        """Return whether the kernel receives a list."""
        return self in (InputKind.VALUES, InputKind.PATHS)


class FailureKind(StrEnum):
    """Why an attempt failed."""

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
class TableInput:
    """How files are read as one table: the recipe, the Arrow schema as text, and the paths of the files in it."""

    recipe: DatasetRecipe
    schema: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobInput:
    """An input as the kernel receives it; values are loaded by ``format``.

    ``artifact`` is the stored output behind it, ``producer`` the step that made it; None and "" for the author's files.
    ``dataset`` is the version of a dataset that it is, ``NAME@NUMBER``; empty for what is none. ``table`` says how
    files are read together, instead of a format. The worker finds out the path of a stored output. Of a ``private`` one
    the step gets a copy that it may change.
    """

    name: str
    kind: InputKind
    paths: tuple[str, ...]
    format: str | None = None
    artifact: Artifact | None = None
    producer: str = field(default="", compare=False)
    private: bool = False
    dataset: str = ""
    table: TableInput | None = None


@dataclass(frozen=True, slots=True)
class JobOutput:
    """An output that the kernel must produce; with format None the value's type decides."""

    name: str
    format: str | None = None


@dataclass(frozen=True, slots=True)
class DefinitionSource:
    """A definition of the notebook as a stored value refers to it: its names, its text, and the names it needs."""

    names: tuple[str, ...]
    text: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a worker needs for one attempt; ``directory`` belongs to this attempt alone.

    ``notebook`` is the one-step notebook as JSON text. ``env``, the kernel's whole environment, is never written to
    disk. ``kernel`` is its command line with ``{connection_file}`` in it; ``by_message`` says that it is interrupted by
    a message, and not by a signal. ``definitions`` maps the
    names of shared definitions to their digests; ``sources`` are their texts, and those of the parameters, in order.
    ``imports`` are the modules that the code names, ``roots`` the folders
    of local modules, ``site`` those of installed ones. The step's code can query ``experiment`` and ``parameters``
    (those that the step reads). ``placement`` is where it runs, and what it occupies there;
    ``memory`` is a limit in bytes for the kernel and its child processes. ``preload``
    names the modules that steps of the run import: a worker may load them in advance. ``shows``: the result must have
    what the step displays, even if that is nothing. Outputs are stored in ``output_store``, the name of a datastore:
    the one in the folder ``store``, or one of ``stores``, whose objects are copied to the folder ``cache``. ``like``
    are earlier outputs by name, which may share files with the new ones.
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
    placement: Placement
    output_store: str = DEFAULT_STORE
    stores: tuple[StoreAccess, ...] = ()
    cache: str = ""
    like: Mapping[str, ObjectReference] = field(default_factory=dict)
    inputs: tuple[JobInput, ...] = ()
    outputs: tuple[JobOutput, ...] = ()
    modules: tuple[FrozenModule, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[DefinitionSource, ...] = ()
    imports: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    experiment: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    memory: int | None = None
    preload: tuple[str, ...] = ()
    timeout: float | None = None
    shows: bool = False
    by_message: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    ``cell`` and ``line`` refer to the author's notebook; ``traceback`` is plain text without terminal colours.
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
    """How one attempt ended: with artifacts if it succeeded, else with a failure.

    ``notebook`` is the name of the executed notebook within the attempt's directory, empty when none was written;
    ``notebook_digest`` that of its bytes.
    ``display`` is what the step displayed and printed, if it was stored. ``stored`` are the objects that were written
    to configured datastores.
    ``observed`` was used without being declared, ``written`` are files written beside the outputs. ``doubts`` are the
    reasons why the inputs of the result are uncertain: with any of them it is used in its own run only.
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
    notebook_digest: str = ""
    display: Artifact | None = None
    stored: tuple[StoredObject, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An attempt has started on a worker, ``at`` seconds since the epoch by the worker's clock."""

    attempt: str
    at: float


@dataclass(frozen=True, slots=True)
class AttemptWaiting:
    """An attempt waits for what others occupy; ``reason`` is empty when it waits no longer."""

    attempt: str
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptOutputWritten:
    """The first ``pieces`` of the attempt's numbered events can be read in its directory."""

    attempt: str
    pieces: int


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt has ended."""

    outcome: Outcome

    @property
    def attempt(self) -> str:
        """Return the attempt's id."""
        return self.outcome.attempt


AttemptReport = AttemptWaiting | AttemptStarted | AttemptOutputWritten | AttemptEnded
