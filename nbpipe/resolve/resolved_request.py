"""Resolves a request at submit: sources, pinned files and modules; raises all errors together."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from nbpipe.compute.environments import Interpreter, find_interpreter, key_environment
from nbpipe.data.file_pinning import (
    PersistentDigestCache,
    find_modules,
    missing_file_error,
    pin_files,
    shadowed_modules,
)
from nbpipe.data.format_packages import problem
from nbpipe.data.formats import is_own, libraries
from nbpipe.data.installed_packages import InstalledPackages, site_folders
from nbpipe.data.observations import EnvironmentProbe, content_of
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import (
    BadCode,
    BadPipeline,
    BadUsage,
    FileMissing,
    FormatUnavailable,
    NbpipeError,
    Refusals,
    Refused,
    SourceLocation,
    refuse,
)
from nbpipe.language.parameters import settle_parameters
from nbpipe.language.parsed_notebook import ParsedNotebook, unbound_errors
from nbpipe.language.source_text import nearest
from nbpipe.model import (
    FileSource,
    FrozenModule,
    Input,
    PinnedFiles,
    PinnedKind,
    PipelineWarning,
    RemoteSource,
    Step,
    StepOutput,
    UnreadFiles,
)
from nbpipe.model.compute import Placement
from nbpipe.model.datasets import PinnedDataset
from nbpipe.model.datastores import ObjectInfo
from nbpipe.planning.fingerprint import PinnedInputs
from nbpipe.planning.graph import PipelineGraph, build_graph
from nbpipe.resolve.bound_datasets import DatasetInputs, datasets_with_a_format, no_datasets
from nbpipe.resolve.compute_needs import placements_of
from nbpipe.resolve.compute_settings import compute_settings
from nbpipe.resolve.destinations import destination_errors
from nbpipe.resolve.store_path import SCHEME
from nbpipe.resolve.workspace_layout import EnvironmentPolicy, WorkspaceLayout

# Loaded by its name: most outputs stay where they are.
_STORE_DESTINATIONS = "nbpipe.resolve.store_destinations:store_destination_errors"

_Files = TypeVar("_Files")

_RENAME = "Rename the module, or import it from a package of your own."


class RemoteInputPinner(Protocol):
    """Pins inputs in datastores and on the web; ``progress`` is called with the bytes read since the last call."""

    def pin(self, text: str) -> PinnedFiles | UnreadFiles:
        """Return what an input names now, pinned by content if it is known or small; copies may still be missing."""

    def read(self, text: str, progress: Callable[[int], None]) -> PinnedFiles:
        """Return what an input names, pinned by content, however much there is to read."""

    def unstaged(self, text: str) -> int:
        """Return the bytes of a pinned input that :meth:`stage` would copy to this machine."""

    def objects(self, text: str) -> tuple[tuple[str, ObjectInfo, str], ...]:
        """Return the objects of a pinned input, with their paths in it and their digests."""

    def is_unchanged(self, text: str) -> bool:
        """Return whether the datastore says the same about a pinned input as when it was pinned."""

    def stage(self, text: str, progress: Callable[[int], None]) -> None:
        """Copy the files of a pinned input to this machine; raise ObjectChanged if one is no longer what it was."""


@dataclass(frozen=True, slots=True)
class PipelineRequest:
    """A request for a notebook: its parsed cells, values from outside, and which steps.

    ``base`` is the folder of relative paths. ``force`` is None for no forcing, and empty for all requested steps.
    Where ``steps`` are named, only their errors and those of what they need count. ``cells`` are the ids of the cells,
    if known; ``more_settings`` those of the workspace with which they were parsed.
    """

    notebook: str
    reading: ParsedNotebook
    base: Path
    kernel: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    start: str | None = None
    force: tuple[str, ...] | None = None
    cells: frozenset[str] = frozenset()
    more_settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Return whether the errors of all steps count."""
        return not self.steps


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """Everything that planning and running need, pinned; ``placements`` are where each step is to run."""

    request: PipelineRequest
    graph: PipelineGraph
    values: Mapping[str, Any]
    interpreter: Interpreter
    circumstances: MutableMapping[str, PinnedInputs]
    selected: frozenset[str]
    forced: frozenset[str]
    around: EnvironmentProbe
    remote: Callable[[], RemoteInputPinner]
    warnings: tuple[PipelineWarning, ...] = ()
    datasets: Callable[[], DatasetInputs] = no_datasets
    placements: Mapping[str, Placement] = field(default_factory=dict)


def resolve_request(
    request: PipelineRequest,
    place: WorkspaceLayout,
    environ: Mapping[str, str],
    digests: PersistentDigestCache,
    remote: Callable[[], RemoteInputPinner],
    *,
    datasets: Callable[[], DatasetInputs] = no_datasets,
) -> ResolvedRequest:
    """Pin everything that a plan depends on; raise all errors together, before anything runs."""
    values, graph, relevant, errors = declared(request)
    interpreter = _interpreter(request, errors)
    probe = environment_probe(request.base, place.source, interpreter, digests)
    pins = _Pins(
        request.base, [request.base, *place.source], environ, interpreter, digests, errors, place.policy, probe,
        remote, datasets,
    )  # fmt: skip
    steps = [step for step in graph.pipeline.steps if step.name in relevant]
    circumstances = {step.name: _circumstances(step, graph, values, pins) for step in steps}
    placements, unplaced = placements_of(steps, compute_settings(place))
    errors += [*_formats(steps), *unplaced]
    notebook = Path(request.notebook)
    errors += destination_errors(
        graph, values, relevant, base=request.base, notebook=notebook, contents=pins.contents, workspace=place
    )
    if _delivers_to_stores(graph):
        errors += load_entry_point(_STORE_DESTINATIONS)(graph, values, relevant, place)
    refuse(list(dict.fromkeys(errors)))
    selected, forced = select_steps(graph, request)
    return ResolvedRequest(
        request, graph, values, interpreter, circumstances, frozenset(selected), frozenset(forced), probe,
        remote, tuple(pins.warnings), datasets, placements,
    )  # fmt: skip


def _delivers_to_stores(graph: PipelineGraph) -> bool:
    outputs = (output for step in graph.pipeline.steps for output in step.outputs)
    return any((output.destination or "").startswith(SCHEME) for output in outputs)


def declared_needs(request: PipelineRequest) -> dict[str, tuple[str, ...]]:
    """Return the requested steps and everything that they need, each with its needs.

    Raise the errors that can be found without reading files or starting an interpreter.
    """
    _, graph, relevant, errors = declared(request)
    errors += _absent(graph, relevant, request.base)
    refuse(list(dict.fromkeys(errors)))
    selected, _ = select_steps(graph, request)
    return needs_among(graph, selected)


def _absent(graph: PipelineGraph, relevant: Collection[str], base: Path) -> list[Refused]:
    """Return an error for each declared file or folder that is missing; globs are not checked."""
    errors: list[Refused] = []
    for item in (item for step in relevant if step in graph.files for item in graph.files[step].values()):
        error = missing_file_error(item.source.pattern, base) if isinstance(item.source, FileSource) else None
        if error is not None:
            errors.append(FileMissing(error.message, error.hint, item.place))
    return errors


def declared(request: PipelineRequest) -> tuple[dict[str, Any], PipelineGraph, Collection[str], list[Refused]]:
    """Return the values of the parameters, the graph, the steps whose errors count, and these errors."""
    errors: list[Refused] = list(request.reading.errors)
    errors += unbound_errors(request.reading)
    if not request.reading.steps and not errors:
        errors.append(
            BadUsage(f"{Path(request.notebook).name} has no step", "Begin a cell with: %%step NAME -i … -o …")
        )
    values = _values(request, errors)
    graph, graph_errors = build_graph(request.reading, values, request.kernel, unread=request.reading.unread)
    errors += graph_errors
    relevant = _relevant(graph, request)
    return values, graph, relevant, [error for error in errors if _counts(error, request, graph, relevant)]


def unfed(graph: PipelineGraph, name: str) -> str | None:
    """Return an input or a predecessor of a step that no step provides; None if there is none."""
    step = graph.steps[name]
    inputs = [item.name for item in step.inputs if isinstance(item.source, StepOutput)]
    missing = [item for item in inputs if item not in graph.feeds[name]]
    missing += [other for other in step.options.after if other not in graph.steps]
    return missing[0] if missing else None


def _counts(error: Refused, request: PipelineRequest, graph: PipelineGraph, relevant: Collection[str]) -> bool:
    """Return whether an error concerns one of the relevant steps.

    A step whose declaration cannot be read may have declared whatever input no other step provides.
    """
    if request.whole or error.place.step in relevant:
        return True
    if error.place.step is not None:
        return error.place.step not in graph.steps and any(unfed(graph, name) for name in relevant)
    return error.place.cell not in request.reading.broken or not request.reading.doubtful.keys().isdisjoint(relevant)


def environment_probe(
    base: Path, roots: Iterable[Path], interpreter: Interpreter, digests: PersistentDigestCache
) -> EnvironmentProbe:
    """Return a probe of a notebook's environment with this interpreter."""
    packages = InstalledPackages(site_folders(interpreter.path), lambda path: content_of(path, digests))
    return EnvironmentProbe(base, tuple(roots), digests, packages)


def select_steps(graph: PipelineGraph, request: PipelineRequest) -> tuple[set[str], set[str]]:
    """Return the requested steps with everything that they need, and those that are forced to run."""
    every = {step.name for step in graph.pipeline.steps}
    for name in [*request.steps, *([request.start] if request.start else []), *(request.force or ())]:
        if name not in every:
            raise BadUsage(
                f"there is no step `{name}`", nearest(name, every) or f"There are: {', '.join(sorted(every))}."
            )
    selected, forced = every, set(request.force or ())
    if request.start:
        after = {request.start} | graph.dependants([request.start])
        forced |= after
        selected = graph.ancestors(after)
    if request.steps:
        needed = graph.ancestors(request.steps)
        selected = selected & needed if request.start else needed
    if request.force == ():
        forced |= set(request.steps) or selected
    outside = set(request.force or ()) - selected
    if outside:
        raise BadUsage(f"`{min(outside)}` is forced but not part of this run", "Name it among the steps to run.")
    return selected, forced & selected


def needs_among(graph: PipelineGraph, selected: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return what each selected step needs of the others, in notebook order."""
    names = [step.name for step in graph.pipeline.steps if step.name in selected]
    return {name: tuple(need for need in graph.pipeline.needs[name] if need in selected) for name in names}


def _values(request: PipelineRequest, errors: list[Refused]) -> dict[str, Any]:
    reading = request.reading
    try:
        return settle_parameters(reading.parameters, request.texts, {**reading.injected, **request.values})
    except Refused as error:
        errors.append(error)
    except Refusals as several:
        errors += several.errors
    return {parameter.name: parameter.default for parameter in reading.parameters}


def _relevant(graph: PipelineGraph, request: PipelineRequest) -> Collection[str]:
    """Return the steps whose errors count: the requested ones and what they need; without a request all."""
    every = {step.name for step in graph.pipeline.steps}
    if request.whole or not set(request.steps) <= every:
        return every
    return graph.ancestors(request.steps)


def _interpreter(request: PipelineRequest, errors: list[Refused]) -> Interpreter:
    try:
        return find_interpreter(request.kernel)
    except Refused as error:
        errors.append(error)
        return Interpreter((), "", "", "")


@dataclass(slots=True)
class _Pins:
    """What is pinned outside of the notebook: each file and module is looked up once for all steps."""

    base: Path
    roots: list[Path]
    environ: Mapping[str, str]
    interpreter: Interpreter
    digests: PersistentDigestCache
    errors: list[Refused]
    policy: EnvironmentPolicy
    around: EnvironmentProbe
    remote: Callable[[], RemoteInputPinner]
    datasets: Callable[[], DatasetInputs]
    contents: dict[str, PinnedFiles | None] = field(default_factory=dict)
    elsewhere: dict[str, PinnedFiles | UnreadFiles | None] = field(default_factory=dict)
    versions: dict[str, PinnedDataset | None] = field(default_factory=dict)
    warnings: list[PipelineWarning] = field(default_factory=list)
    modules: dict[tuple[str, ...], tuple[FrozenModule, ...]] = field(default_factory=dict)
    environments: dict[tuple[str, ...], Mapping[str, str | None]] = field(default_factory=dict)

    def content(self, pattern: str, place: SourceLocation) -> PinnedFiles | None:
        return self._pinned(self.contents, pattern, place, lambda: pin_files(pattern, self.base, self.digests))

    def source(self, item: Input) -> PinnedFiles | UnreadFiles | None:
        if isinstance(item.source, RemoteSource):
            text = item.source.text
            return self._pinned(self.elsewhere, text, item.place, lambda: self.remote().pin(text))
        return self.content(item.source.pattern, item.place) if isinstance(item.source, FileSource) else None

    def dataset(self, source: RemoteSource, place: SourceLocation) -> PinnedDataset | None:
        """Return the version of a dataset that a source names, the same for all steps."""
        if source.text not in self.versions:
            self.versions[source.text] = None
            try:
                self.versions[source.text] = self.datasets().pin(source.text)
            except Refused as error:
                self.errors.append(type(error)(error.message, error.hint, place))
        return self.versions[source.text]

    def _pinned(
        self, known: dict[str, _Files | None], text: str, place: SourceLocation, pin: Callable[[], _Files]
    ) -> _Files | None:
        if text not in known:
            known[text] = None
            try:
                known[text] = pin()
            except Refused as error:
                self.errors.append(type(error)(error.message, error.hint, place))
        return known[text]

    def script(self, path: str) -> PinnedFiles | None:
        """Return a script that the code runs; a missing one is only an error when the step runs it."""
        if path not in self.contents:
            try:
                self.contents[path] = pin_files(path, self.base, self.digests)
            except Refused:
                return None
        return self.contents[path]

    def frozen(self, names: tuple[str, ...], place: SourceLocation) -> tuple[FrozenModule, ...]:
        if names not in self.modules:
            try:
                self.modules[names] = find_modules(names, self.roots)
                self._note_shadowed(self.modules[names], place)
            except Refused as error:
                if error.message not in {other.message for other in self.errors}:
                    self.errors.append(type(error)(error.message, error.hint, place))
                self.modules[names] = ()
        return self.modules[names]

    def _note_shadowed(self, modules: tuple[FrozenModule, ...], place: SourceLocation) -> None:
        """Warn of modules beside the notebook that stand in for others, as in Python; refuse those of other folders."""
        for module, other in shadowed_modules(modules, self.interpreter.path):
            own = Path(module.path)
            message = f"`{module.name}` is {own}, and hides {other}"
            if (own.parent.parent if module.is_package else own.parent) == self.base.absolute():
                self.warnings.append(PipelineWarning("shadowed-module", message, _RENAME, place))
            else:
                raise BadCode(f"{message}, which a folder of `source` must not", _RENAME)

    def python(self) -> str:
        """Return the interpreter as it counts for reuse."""
        version = self.interpreter.version
        if self.policy.python == "minor":
            version = ".".join(version.split(".")[:2])
        return f"{self.interpreter.implementation} {version} {self.interpreter.platform}"

    def packages(self) -> tuple[str, ...] | None:
        """Return all installed packages if the policy is strict, else None."""
        return tuple(self.around.packages.all()) if self.policy.packages == "strict" else None

    def variables(self, names: tuple[str, ...]) -> Mapping[str, str | None]:
        if names not in self.environments:
            self.environments[names] = key_environment(self.environ, names, self.interpreter.env)
        return self.environments[names]


def _circumstances(step: Step, graph: PipelineGraph, values: Mapping[str, Any], pins: _Pins) -> PinnedInputs:
    sources = {name: content for name, item in graph.files[step.name].items() if (content := pins.source(item))}
    pins.errors += _folders_with_a_format(step, sources)
    files = {name: content for name, content in sources.items() if isinstance(content, PinnedFiles)}
    unread = {name: content for name, content in sources.items() if isinstance(content, UnreadFiles)}
    places = {item.name: item.place for item in step.inputs}
    datasets = {
        name: pinned
        for name, source in graph.datasets(step.name).items()
        if (pinned := pins.dataset(source, places[name]))
    }
    pins.errors += datasets_with_a_format(step, datasets)
    hashes = {
        pattern: content
        for pattern in step.options.hash
        if (content := pins.content(pattern, step.place_of("hash", pattern)))
    }
    code = graph.pipeline.code[step.name]
    hashes |= {script: content for script in code.files if (content := pins.script(script))}
    variables = pins.variables(step.options.envvar)
    modules = pins.frozen(code.imports, step.place)
    options = pins.interpreter.options
    return PinnedInputs(
        pins.python(), values, variables, files, hashes, modules, pins.packages(), options, datasets, unread
    )


def _folders_with_a_format(step: Step, files: Mapping[str, PinnedFiles | UnreadFiles]) -> list[Refused]:
    return [
        BadPipeline(
            f"`{item.name}` is a folder and cannot be read as `{item.format}`",
            f"Leave the format out, or name the files: ./folder/*.{item.format}", item.place,
        )
        for item in step.inputs
        if item.format is not None and item.name in files and files[item.name].kind == PinnedKind.DIR
    ]  # fmt: skip


def _formats(steps: Iterable[Step]) -> list[Refused]:
    errors: list[Refused] = []
    formats: list[tuple[str | None, SourceLocation, str]] = []
    for step in steps:
        formats += [(item.format, item.place, item.name) for item in step.outputs]
        formats += [(item.format, item.place, item.name) for item in step.inputs]
    needed = {format_: libraries(format_) for format_ in dict.fromkeys(format_ for format_, _, _ in formats) if format_}
    absent = {library for group in needed.values() for library in group if not _installed(library)}
    added = {format_: problem(format_) for format_ in needed if not is_own(format_)}
    for format_, place, name in formats:
        if found := added.get(format_ or ""):
            errors.append(FormatUnavailable(f"the format `{format_}` of `{name}` {found[0]}", found[1], place))
            continue
        missing = [library for library in needed.get(format_ or "", ()) if library in absent]
        if missing:
            message = f"the format `{format_}` of `{name}` needs {' and '.join(missing)}, which is not installed"
            errors.append(FormatUnavailable(message, f"pip install {' '.join(missing)}", place))
    return errors


def _installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def pinned_digests(situation: ResolvedRequest, step: str) -> dict[str, str]:
    """Return the digests at submit of the files that a step declares, by pattern."""
    pinned = situation.circumstances[step]
    files = {
        text: pinned.files[name]
        for name, item in situation.graph.files[step].items()
        if (text := _source_text(item)) and name not in pinned.unread
    }
    return {pattern: content.digest for pattern, content in {**files, **pinned.hashes}.items()}


def remote_texts(situation: ResolvedRequest, step: str) -> list[str]:
    """Return the inputs of a step that are in datastores, as they are written."""
    sources = [item.source for item in situation.graph.files[step].values()]
    return [source.text for source in sources if isinstance(source, RemoteSource)]


def _source_text(item: Input) -> str:
    if isinstance(item.source, RemoteSource):
        return item.source.text
    return item.source.pattern if isinstance(item.source, FileSource) else ""


def files_unchanged(situation: ResolvedRequest, step: str, digests: PersistentDigestCache) -> bool:
    """Return whether the files that a step declares are unchanged since submit."""
    base, remote = situation.request.base, remote_texts(situation, step)
    bound = situation.circumstances[step].datasets.values()
    local = {text: digest for text, digest in pinned_digests(situation, step).items() if text not in remote}
    try:
        return (
            all(pin_files(pattern, base, digests).digest == digest for pattern, digest in local.items())
            and all(situation.remote().is_unchanged(text) for text in remote)
            and all(situation.datasets().is_unchanged(pinned) for pinned in bound)
        )
    except NbpipeError:
        return False
