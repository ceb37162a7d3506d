"""What the author wrote: cells, steps, their code, the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbpipe.errors import NO_LOCATION, SourceLocation
from nbpipe.model.status import ReusePolicy

TEXT_NOTEBOOK_SUFFIXES = (".py", ".md")
"""The names of notebooks as text, which jupytext reads, end like this."""
NOTEBOOK_SUFFIXES = (".ipynb", *TEXT_NOTEBOOK_SUFFIXES)


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
class FileSource:
    """A source: a file, a folder or a glob, relative to the notebook."""

    pattern: str


@dataclass(frozen=True, slots=True)
class ParameterSource:
    """A source: whatever source the string parameter holds."""

    parameter: str


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A remote source, as it is written: ``store:``, ``https:``, ``http:``, or another, which is not supported yet."""

    scheme: str
    text: str


InputSource = StepOutput | FileSource | ParameterSource | RemoteSource


@dataclass(frozen=True, slots=True)
class Input:
    """``NAME[:FORMAT][=SOURCE]``."""

    name: str
    source: InputSource
    format: str | None = None
    place: SourceLocation = NO_LOCATION


@dataclass(frozen=True, slots=True)
class Output:
    """``NAME[:FORMAT][=DESTINATION]``."""

    name: str
    format: str | None = None
    destination: str | None = None
    place: SourceLocation = NO_LOCATION

    @property
    def is_path(self) -> bool:
        """Return whether the cell writes to a path instead of binding a value."""
        return self.format is not None and (self.format in ("file", "dir") or self.format.startswith("file."))


@dataclass(frozen=True, slots=True)
class StepOptions:
    """A step's keys beside ``in`` and ``out``.

    ``shows``: what the step displays is an output. ``download`` are the inputs of which the step gets copies of its
    own, ``mount`` those that are read where they are, as is usual. ``cpu`` and ``gpu`` are the numbers of
    cores and GPUs that it needs, ``compute`` is the compute target, empty for the default one.
    ``register`` are outputs with the datasets that they become versions of. ``later`` are the keys that are set but not
    supported yet.
    """

    params: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    retries: int = 0
    timeout: float | None = None
    cpu: int = 1
    gpu: int = 0
    memory: int | None = None
    reuse: ReusePolicy = ReusePolicy.AUTO
    salt: str = ""
    hash: tuple[str, ...] = ()
    envvar: tuple[str, ...] = ()
    when: str | None = None
    shows: bool = False
    download: tuple[str, ...] = ()
    mount: tuple[str, ...] = ()
    register: tuple[tuple[str, str], ...] = ()
    compute: str = ""
    later: tuple[tuple[str, SourceLocation], ...] = ()


@dataclass(frozen=True, slots=True)
class StepCell:
    """The code of one cell of a step, with its directive lines turned into comments so that line numbers stay."""

    cell: int
    source: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step as declared: a cell and its continuations; ``key_places`` locates its keys and their items."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    options: StepOptions
    pieces: tuple[StepCell, ...]
    place: SourceLocation
    key_places: Mapping[str, SourceLocation] = field(default_factory=dict, compare=False)

    def output(self, name: str) -> Output | None:
        """Return the output called ``name``, or None if it is not declared."""
        return next((output for output in self.outputs if output.name == name), None)

    def place_of(self, key: str, item: str | None = None) -> SourceLocation:
        """Return the place of a key, or of an item of its value; the step's own place if the key is not set."""
        return self.key_places.get(key if item is None else f"{key}:{item}", self.place)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A pipeline parameter: ``kind`` is bool, int, float, str, list, dict or any.

    ``item`` is the declared type of a list's items or a dict's values; None for any.
    """

    name: str
    kind: str
    default: Any
    optional: bool = False
    choices: tuple[Any, ...] = ()
    help: str = ""
    place: SourceLocation = NO_LOCATION
    item: Parameter | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """Shared code: the names it binds, its text, and its normal form without comments and layout.

    ``setting`` names what a setting sets; ``is_value`` tells a statement that only builds values or tries to import.
    ``line`` is the line of its cell in which its text begins; 0 if its text is not as the author wrote it.
    """

    names: tuple[str, ...]
    source: str
    normal: str
    cell: int
    is_import: bool = False
    setting: str = ""
    is_value: bool = False
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class FileUse:
    """A file that a step reads or writes without declaring it, as its text or an earlier run says.

    ``literal``: the path stands as a text in a call in one of the step's own cells.
    """

    path: str
    writes: bool
    place: SourceLocation
    literal: bool = False


@dataclass(frozen=True, slots=True)
class StepCode:
    """What a step's code needs, found by static analysis, in the order in which it must be rendered.

    ``normal`` is the code's normal form, ``raw`` the code as written. ``files`` are the scripts that it
    runs (``%run x.py``, ``!python x.py``), relative to the notebook; ``uses`` the files that it reads and writes.
    """

    parameters: tuple[str, ...]
    definitions: tuple[Definition, ...]
    normal: str
    imports: tuple[str, ...] = ()
    warnings: tuple[PipelineWarning, ...] = ()
    files: tuple[str, ...] = ()
    raw: str = ""
    uses: tuple[FileUse, ...] = ()


@dataclass(frozen=True, slots=True)
class PipelineWarning:
    """Advice about the notebook that does not prevent a run."""

    code: str
    message: str
    hint: str = ""
    place: SourceLocation = NO_LOCATION


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A parsed notebook: its steps in notebook order, and what the code of each needs."""

    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...]
    code: Mapping[str, StepCode]
    needs: Mapping[str, tuple[str, ...]]
    kernel: str | None = None
    warnings: tuple[PipelineWarning, ...] = ()

    def step(self, name: str) -> Step:
        """Return the step called ``name``; raise KeyError if there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class FrozenModule:
    """A local module as it was when the run was submitted."""

    name: str
    path: str
    source: str
    is_package: bool = False
