"""The jobs of a run: for each attempt the rendered notebook, the paths of its inputs, its environment, its folder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nbpipe.compute.environments import kernel_environment
from nbpipe.data.artifacts import copy_out
from nbpipe.data.digests import bytes_digest, short_digest
from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.data.materializer import Materializer
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import NbpipeError
from nbpipe.language.definition_sources import definition_sources
from nbpipe.language.step_notebook import render_step_notebook
from nbpipe.model import (
    DEFAULT_STORE,
    Artifact,
    Input,
    InputKind,
    Job,
    JobInput,
    JobOutput,
    ObjectReference,
    Output,
    PinnedFiles,
    PinnedKind,
    Step,
    StepCode,
    StepOutput,
)
from nbpipe.model.attempt import TableInput
from nbpipe.model.compute import Placement
from nbpipe.model.datasets import DatasetKind, PinnedDataset
from nbpipe.model.datastores import StoreAccess
from nbpipe.permissions import make_folder
from nbpipe.planning.fingerprint import PinnedInputs
from nbpipe.planning.graph import fill_destination
from nbpipe.resolve.resolved_request import ResolvedRequest, files_unchanged, pinned_digests
from nbpipe.resolve.store_path import SCHEME, StorePath, parse_store_path
from nbpipe.resolve.unread_inputs import read_inputs, stage_inputs, unread_bytes, unstaged_bytes
from nbpipe.resolve.workspace_layout import WorkspaceLayout

# Loaded by their names: the outputs of most workspaces are in their own folder.
_ACCESS = "nbpipe.resolve.remote_artifacts:store_access"
_CACHE = "nbpipe.resolve.remote_inputs:cache_folder"

_SAFE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})


class DeliversToStores(Protocol):
    """Delivers outputs to places in datastores."""

    def deliver(self, step: str, artifact: Artifact, place: StorePath) -> None:
        """Write an output to a place, unless something is there that is not ours."""


@dataclass(frozen=True, slots=True)
class AttemptJobFactory:
    """Creates the jobs of a run and delivers its outputs to their destinations.

    ``imports`` are those of all steps; ``earlier`` returns the newest outputs of a step, ``in_stores`` what delivers to
    datastores.
    """

    run: str
    date: str
    layout: WorkspaceLayout
    resolved: ResolvedRequest
    digests: PersistentDigestCache
    materializer: Materializer
    environ: Mapping[str, str]
    in_stores: Callable[[], DeliversToStores]
    experiment: str = ""
    imports: tuple[str, ...] = ()
    earlier: Callable[[str], tuple[Artifact, ...]] = lambda _step: ()

    def placement(self, step: str) -> Placement:
        """Return where a step runs, and what it occupies there."""
        return self.resolved.placements[step]

    def directory(self, step: str, attempt: str) -> str:
        """Return an attempt's directory, relative to the workspace's folder."""
        return self.layout.attempt_directory(self.run, slug(step), attempt)

    def job(self, step: str, *, attempt: str, token: int, upstream: Mapping[StepOutput, Artifact]) -> Job:
        """Return the job of an attempt, and create its directory."""
        graph, step_inputs = self.resolved.graph, self.resolved.circumstances[step]
        declared = graph.steps[step]
        directory = self.layout.path(self.directory(step, attempt))
        make_folder(directory)
        inputs = inputs_of(self.resolved, step, upstream)
        return Job(
            attempt=attempt,
            token=token,
            run=self.run,
            step=step,
            notebook=render_step_notebook(
                declared, graph.pipeline.code[step], step_inputs.values, graph.pipeline.kernel
            ),
            directory=str(directory),
            store=str(self.layout.store),
            **self._stores(inputs),
            like=self._similar_folders(declared) if self.layout.default_store != DEFAULT_STORE else {},
            cwd=str(self.resolved.request.base),
            kernel=self.resolved.interpreter.kernel,
            by_message=self.resolved.interpreter.by_message,
            env=self._environment(declared),
            placement=self.placement(step),
            inputs=inputs,
            outputs=tuple(JobOutput(item.name, item.format) for item in declared.outputs),
            modules=step_inputs.modules,
            definitions=definition_digests(graph.pipeline.code[step]),
            sources=definition_sources(graph.pipeline.code[step], step_inputs.values),
            imports=graph.pipeline.code[step].imports,
            roots=tuple(str(root) for root in self.layout.source),
            site=self.resolved.around.packages.folders,
            experiment=self.experiment,
            parameters={name: step_inputs.values[name] for name in graph.pipeline.code[step].parameters},
            timeout=declared.options.timeout,
            shows=declared.options.shows,
            memory=declared.options.memory,
            preload=self.imports,
        )

    def _environment(self, step: Step) -> dict[str, str]:
        """Return all environment variables of a step's kernel."""
        own, options = self.resolved.interpreter.env, step.options
        return kernel_environment(self.environ, options.envvar, own, cores=options.cpu)

    def _stores(self, inputs: tuple[JobInput, ...]) -> dict[str, Any]:
        """Return what a worker needs to read inputs and to store outputs in configured datastores."""
        used = {self.layout.default_store, *(each.artifact.reference.store for each in inputs if each.artifact)}
        remote = sorted(used - {DEFAULT_STORE})
        if not remote:
            return {}
        access: tuple[StoreAccess, ...] = load_entry_point(_ACCESS)(self.layout, self.environ, remote)
        cache = load_entry_point(_CACHE)(self.environ, self.layout.root)
        return {"output_store": self.layout.default_store, "stores": access, "cache": str(cache)}

    def _similar_folders(self, step: Step) -> dict[str, ObjectReference]:
        """Return the newest outputs of a step that are folders: the next ones may have many of the same files."""
        if all(output.format != "dir" for output in step.outputs):
            return {}
        return {each.name: each.reference for each in self.earlier(step.name) if each.is_folder}

    def unread(self, step: str) -> int | None:
        """Return the bytes to read before the step can be decided, negative if unknown; None if all is known."""
        return unread_bytes(self.resolved, step)

    def read(self, step: str, progress: Callable[[int], None]) -> PinnedInputs:
        """Return what the step's inputs are, with the content read of those that were unread."""
        return read_inputs(self.resolved, step, progress)

    def unstaged(self, step: str) -> int:
        """Return the bytes of the step's remote inputs that have no copy here."""
        return unstaged_bytes(self.resolved, step)

    def stage(self, step: str, progress: Callable[[int], None]) -> None:
        """Copy the step's remote inputs to this machine."""
        stage_inputs(self.resolved, step, progress)

    def unchanged(self, step: str) -> bool:
        """Return whether the step's declared files are unchanged since it was submitted."""
        return files_unchanged(self.resolved, step, self.digests)

    def deliver(self, step: str, artifacts: Iterable[Artifact]) -> str | None:
        """Copy outputs to the step's destinations; return an error message if one cannot be written."""
        declared = self.resolved.graph.steps[step]
        for artifact in artifacts:
            output = declared.output(artifact.name)
            if output is None or output.destination is None:
                continue
            target = self.destination(declared, output)
            try:
                if target.startswith(SCHEME):
                    self.in_stores().deliver(step, artifact, parse_store_path(target))
                else:
                    self._copy(artifact, self.resolved.request.base / target)
            except NbpipeError as error:
                return f"`{artifact.name}` could not be written to {target}: {error.message}"
            except OSError as error:
                return f"`{artifact.name}` could not be written to {target}: {error.strerror or error}"
        return None

    def _copy(self, artifact: Artifact, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_out(self.materializer, artifact, target)

    def pinned(self, step: str) -> Mapping[str, str]:
        """Return the digests of the files that the step declares, by pattern."""
        return pinned_digests(self.resolved, step)

    def destination(self, step: Step, output: Output) -> str:
        """Return an output's destination with its placeholders filled."""
        values = {name: str(value) for name, value in self.resolved.values.items()}
        return fill_destination(step, output, {**values, "run-id": self.run, "date": self.date})


def inputs_of(resolved: ResolvedRequest, step: str, upstream: Mapping[StepOutput, Artifact]) -> tuple[JobInput, ...]:
    """Return a step's inputs; those that are stored have no paths yet."""
    feeds, pinned = resolved.graph.feeds[step], resolved.circumstances[step]
    declared = resolved.graph.steps[step]
    inputs = [
        _from_artifact(item.name, feeds[item.name], upstream)
        if item.name in feeds
        else _from_dataset(item, pinned.datasets[item.name], resolved)
        if item.name in pinned.datasets
        else _from_files(item, pinned.files[item.name])
        for item in declared.inputs
    ]
    return tuple(dataclasses.replace(each, private=each.name in declared.options.download) for each in inputs)


def definition_digests(code: StepCode) -> dict[str, str]:
    """Return the digest of each definition that a step uses, by the names that the definition binds."""
    return {
        name: bytes_digest(definition.normal.encode("utf-8", "surrogatepass"))
        for definition in code.definitions
        for name in definition.names
    }


def slug(name: str) -> str:
    """Return a folder name for a step: its own name if every file system accepts it, otherwise one with a digest."""
    if _SAFE.fullmatch(name) and name not in _RESERVED:
        return name
    plain = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:40]
    # No step name contains a hyphen, so this differs from the folders of all other steps.
    return f"{plain or 'step'}-{short_digest(bytes_digest(name.encode()), 10)}"


def _from_artifact(name: str, source: StepOutput, upstream: Mapping[StepOutput, Artifact]) -> JobInput:
    artifact, producer = upstream[source], source.step or ""
    if artifact.is_path:
        return JobInput(name, InputKind.PATH, (), artifact=artifact, producer=producer)
    return JobInput(name, InputKind.VALUE, (), artifact.format, artifact, producer)


def _from_dataset(item: Input, pinned: PinnedDataset, resolved: ResolvedRequest) -> JobInput:
    """Return an input that is a version of a dataset, as its recipe or the declared format says."""
    version, recipe = pinned.version, pinned.version.content.recipe
    files = resolved.datasets().stage(pinned)
    if recipe.is_table:
        table = TableInput(recipe, version.content.schema, tuple(name for name, _ in files.files))
        paths = tuple(str(path) for _, path in files.files)
        return JobInput(item.name, InputKind.VALUE, paths, dataset=str(version), table=table)
    path = str(files.path)
    artifact = version.stored if version.content.kind is DatasetKind.KEPT else None
    format_ = item.format or recipe.format or None
    kind = InputKind.PATH if format_ is None else InputKind.VALUE
    return JobInput(item.name, kind, (path,), format_, artifact, dataset=str(version))


def _from_files(item: Input, content: PinnedFiles) -> JobInput:
    several = content.kind is PinnedKind.GLOB
    if item.format is not None:
        return JobInput(item.name, InputKind.VALUES if several else InputKind.VALUE, content.paths, item.format)
    return JobInput(item.name, InputKind.PATHS if several else InputKind.PATH, content.paths)
