"""The context of a step when it ran, or now: the paths of its inputs, its parameters, definitions and code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbpipe.data.artifacts import check
from nbpipe.data.digests import DigestCache, content_digest
from nbpipe.data.executed_notebook import read_executed
from nbpipe.data.file_pinning import pin_files
from nbpipe.data.job_file import JobFile, module_source, read_job
from nbpipe.data.materializer import Materializer, with_paths
from nbpipe.data.postmortem import names_kept
from nbpipe.errors import BadUsage, NbpipeError
from nbpipe.language.step_notebook import render_step_notebook
from nbpipe.model import (
    Artifact,
    ComponentKind,
    ExecutionRecord,
    Failure,
    JobInput,
    JobOutput,
    KeyComponent,
    ReuseVerdict,
    RunRecord,
    StepCell,
    StepOutput,
    component_name,
)
from nbpipe.planning.plan import StepDecision
from nbpipe.resolve.resolved_request import ResolvedRequest
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.job_factory import definition_digests, inputs_of

# An attempt's directory is runs/RUN/STEP/ATTEMPT in its workspace.
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class StepContext:
    """The context of a step's code.

    ``parameters`` and ``definitions`` are Python code; ``digests`` are those of the definitions by name. ``run`` and
    ``folder`` are those of the recorded attempt, None for the present context. ``notes`` name what has changed since.
    """

    step: str
    inputs: tuple[JobInput, ...]
    outputs: tuple[JobOutput, ...]
    values: Mapping[str, Any]
    parameters: str
    definitions: str
    digests: Mapping[str, str]
    pieces: tuple[StepCell, ...]
    run: RunRecord | None = None
    failure: Failure | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def saved_locals(self) -> tuple[str, ...]:
        """Return the names of the saved variables of the frame that failed."""
        return names_kept(self.folder) if self.folder and self.failure else ()

    @property
    def line(self) -> tuple[int, int] | None:
        """Return the cell and line of the failure, if it is in the step's own code."""
        failure = self.failure
        return (failure.cell, failure.line) if failure and failure.cell and failure.line else None


def current_step_context(
    resolved: ResolvedRequest, decisions: Mapping[str, StepDecision], step: str, materializer: Materializer
) -> StepContext:
    """Return the present context of a step; raise BadUsage with the steps whose results are missing."""
    graph, step_inputs = resolved.graph, resolved.circumstances[step]
    declared, code = graph.steps[step], graph.pipeline.code[step]
    upstream: dict[StepOutput, Artifact] = {}
    for name, decision in decisions.items():
        if isinstance(decision.verdict, ReuseVerdict):
            upstream |= {StepOutput(artifact.name, name): artifact for artifact in decision.verdict.hit.artifacts}
    missing = [source for source in graph.feeds[step].values() if source not in upstream]
    if missing:
        outputs = ", ".join(f"`{source.output}` of `{source.step}`" for source in missing)
        first = " ".join(dict.fromkeys(source.step or "" for source in missing))
        raise BadUsage(
            f"step `{step}` needs {outputs}, but there is no up-to-date result",
            f"Run the missing steps first: %nbpipe run {first}",
        )
    document = json.loads(render_step_notebook(declared, code, step_inputs.values, graph.pipeline.kernel))
    return StepContext(
        step=step,
        inputs=with_paths(inputs_of(resolved, step, upstream), materializer),
        outputs=tuple(JobOutput(item.name, item.format) for item in declared.outputs),
        values={name: step_inputs.values[name] for name in code.parameters},
        parameters=_source(document, "parameters"),
        definitions=_source(document, "shared"),
        digests=definition_digests(code),
        pieces=declared.pieces,
    )


def recorded_step_context(
    run: RunRecord, record: ExecutionRecord, digest: str | None, *, materializer: Materializer, digests: DigestCache
) -> StepContext:
    """Return the context of a step's recorded attempt; raise BadUsage if that no longer exists.

    Raise StoreOutOfReach if its executed notebook does not have the recorded ``digest``, since its code may be run.
    Stored inputs are verified; a damaged one is an error. ``notes`` name the declared files that have changed since.
    """
    executed = Path(record.notebook or "")
    try:
        document = read_executed(executed, digest)
        job = read_job(executed.parent)
    except PermissionError:
        raise
    except (OSError, ValueError):
        message = f"the record of step `{record.step}` in run {run.number} no longer exists: {executed.parent}"
        raise BadUsage(message, f"Run it again with --force {record.step}.") from None
    workspace = _MovedWorkspace(WorkspaceLayout(Path(job.ours[0]).parent).base, _workspace_of(executed.parent))
    inputs = tuple(_where_it_is(item, workspace, materializer, digests) for item in job.inputs)
    notes = [*_changes(inputs, record.components, digests), *_edited(job, executed.parent, workspace)]
    return StepContext(
        step=record.step,
        inputs=inputs,
        outputs=job.outputs,
        values=job.parameters,
        parameters=_source(document, "parameters"),
        definitions=_source(document, "shared"),
        digests=job.definitions,
        pieces=tuple(_pieces(document)),
        run=run,
        failure=record.failure,
        folder=executed.parent,
        notes=tuple(notes),
    )


def _source(document: Mapping[str, Any], role: str) -> str:
    return next((_text(cell) for cell in document["cells"] if _metadata(cell).get("role") == role), "")


def _pieces(document: Mapping[str, Any]) -> Iterable[StepCell]:
    for cell in document["cells"]:
        if _metadata(cell).get("role") == "step":
            yield StepCell(_metadata(cell).get("cell") or 0, _text(cell))


def _metadata(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = cell.get("metadata", {}).get("nbpipe", {})
    return metadata


def _text(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


@dataclass(frozen=True, slots=True)
class _MovedWorkspace:
    """The base folder of a workspace: its path when an attempt ran, and its path now."""

    then: Path
    now: Path

    def path(self, recorded: str) -> Path:
        """Return the present path for a recorded path of the author's; paths outside the workspace do not change."""
        try:
            return self.now / Path(recorded).relative_to(self.then)
        except ValueError:
            return Path(recorded)


def _workspace_of(attempt_directory: Path) -> Path:
    return WorkspaceLayout(attempt_directory.parents[_DEPTH]).base


def _where_it_is(
    item: JobInput, workspace: _MovedWorkspace, materializer: Materializer, digests: DigestCache
) -> JobInput:
    """Return an input with its present path; raise BadUsage for a stored one that is damaged."""
    if item.artifact is None:
        return replace(item, paths=tuple(str(workspace.path(path)) for path in item.paths))
    damage = check(materializer, item.artifact, digests)
    if damage:
        raise BadUsage(f"input `{item.name}` cannot be used: {damage}", "Run the step that produces it again.")
    return replace(item, paths=(str(materializer.fetch(item.artifact)),))


def _changes(inputs: Iterable[JobInput], components: Iterable[KeyComponent], digests: DigestCache) -> Iterable[str]:
    """Return a note for each of the author's files that has changed."""
    recorded = {component.name: component for component in components}
    for item in inputs:
        component = recorded.get(component_name(ComponentKind.INPUT, item.name))
        if component is not None and item.artifact is None:
            yield from _changed(item, component, digests)


def _changed(item: JobInput, component: KeyComponent, digests: DigestCache) -> Iterable[str]:
    """Return a note if declared files differ from the record."""
    members = sorted(line.rsplit("\t", 1)[-1] for line in component.text.splitlines())
    paths = [Path(path) for path in item.paths]
    try:
        if members and item.kind.is_list:
            same = any(path.is_dir() for path in paths) or members == sorted(
                content_digest(p, digests)[0] for p in paths
            )
        else:
            same = component.summary.endswith(pin_files(item.paths[0], Path("/"), digests).digest.partition(":")[2][:8])
    except (NbpipeError, OSError) as error:
        yield f"input `{item.name}` is not available: {error}"
    else:
        if not same:
            yield f"input `{item.name}` ({', '.join(item.paths[:3])}) has changed since the run"


def _edited(job: JobFile, directory: Path, workspace: _MovedWorkspace) -> Iterable[str]:
    """Return a note for each local module that has changed."""
    for module in job.modules:
        try:
            source = workspace.path(module.path).read_text(encoding="utf-8")
            same = source == module_source(directory, module)
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            yield f"the local module `{module.name}` has changed since the run"
