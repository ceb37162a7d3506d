"""What the author wrote: cells, steps, their code, the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbpipe.errors import NO_LOCATION, SourceLocation
from nbpipe.model.status import ReusePolicy


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
    """A source that only a later part of nbpipe can reach (``store:``, ``ds:``, ``https:``)."""

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
        """Say whether the cell gets a path to write to instead of binding a value."""
        return self.format is not None and (self.format in ("file", "dir") or self.format.startswith("file."))


@dataclass(frozen=True, slots=True)
class StepOptions:
    """A step's keys beside ``in`` and ``out``; ``later`` names the given keys that are not built yet."""

    params: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    retries: int = 0
    timeout: float | None = None
    memory: int | None = None
    reuse: ReusePolicy = ReusePolicy.AUTO
    salt: str = ""
    hash: tuple[str, ...] = ()
    envvar: tuple[str, ...] = ()
    when: str | None = None
    later: tuple[tuple[str, SourceLocation], ...] = ()


@dataclass(frozen=True, slots=True)
class StepCell:
    """The code of one cell of a step, its directive lines turned into comments so that lines keep their numbers."""

    cell: int
    source: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step as declared: a cell and its continuations; ``given`` are the places of its keys, and of their words."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    options: StepOptions
    pieces: tuple[StepCell, ...]
    place: SourceLocation
    given: Mapping[str, SourceLocation] = field(default_factory=dict, compare=False)

    def output(self, name: str) -> Output | None:
        """Get the output called ``name``, if it is declared."""
        return next((output for output in self.outputs if output.name == name), None)

    def place_of(self, key: str, word: str | None = None) -> SourceLocation:
        """Get the place of a key, or of a word of its value; the step's own when it was not given."""
        return self.given.get(key if word is None else f"{key}:{word}", self.place)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A pipeline parameter: ``kind`` is bool, int, float, str, list, dict or any.

    ``item`` is what each item of a list, or each value of a dict, has to be; None for anything.
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
    """Shared code: names it binds, its text, and its text without what does not matter (comments, layout)."""

    names: tuple[str, ...]
    source: str
    normal: str
    cell: int
    is_import: bool = False


@dataclass(frozen=True, slots=True)
class StepCode:
    """What a step's code needs, found by reading it: everything in the order in which it must be rendered.

    ``normal`` is the code without what does not matter, ``raw`` as it is written. ``files`` are the scripts that it
    runs (``%run x.py``, ``!python x.py``), relative to the notebook.
    """

    parameters: tuple[str, ...]
    definitions: tuple[Definition, ...]
    normal: str
    imports: tuple[str, ...] = ()
    warnings: tuple[PipelineWarning, ...] = ()
    files: tuple[str, ...] = ()
    raw: str = ""


@dataclass(frozen=True, slots=True)
class PipelineWarning:
    """Advice about the notebook that stops nothing."""

    code: str
    message: str
    hint: str = ""
    place: SourceLocation = NO_LOCATION


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A notebook, read: steps in notebook order, and what each one's code needs."""

    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...]
    code: Mapping[str, StepCode]
    needs: Mapping[str, tuple[str, ...]]
    kernel: str | None = None
    warnings: tuple[PipelineWarning, ...] = ()

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
