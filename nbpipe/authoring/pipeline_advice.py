"""Advice based on what the steps did in their last runs, beyond the notebook's text."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from nbpipe.history.store import History
from nbpipe.model import ComponentKind, ExecutionRecord, ObservationKind, PipelineWarning, Step, split_name
from nbpipe.resolve.resolved_request import ResolvedRequest

# A value that was different in each of this many runs is assumed to change every run.
_EVERY = 3
_LISTED = 10
_VOLATILE = {ComponentKind.PARAMETER: "parameter", ComponentKind.ENVVAR: "environment variable"}


def pipeline_advice(resolved: ResolvedRequest, history: History, pipeline: str) -> tuple[PipelineWarning, ...]:
    """Return advice on the selected steps: undeclared reads and writes, files behind parameters, volatile values."""
    latest = history.executions.latest(pipeline)
    warnings: list[PipelineWarning] = []
    for step in resolved.graph.pipeline.steps:
        if step.name not in resolved.selected:
            continue
        warnings += _behind_parameters(step, resolved)
        if step.name in latest:
            warnings += _reads(step, latest[step.name], resolved)
            warnings += _writes(step, latest[step.name])
            warnings += _volatile(step, history.executions.recent(pipeline, step.name, _EVERY))
    return tuple(warnings)


def _reads(step: Step, record: ExecutionRecord, resolved: ResolvedRequest) -> Iterator[PipelineWarning]:
    """Return advice for each undeclared file or folder, except those named by parameters, which get other advice."""
    base = resolved.request.base
    behind = {str(value) for value in resolved.values.values() if isinstance(value, str)}
    kinds = (ObservationKind.READ, ObservationKind.LISTED)
    read = {item.name for item in record.observed if item.kind in kinds} - behind
    used = [
        item for item in record.observed
        if item.name in read and item.kind in kinds and not _is_named_twice(item.name, read, base)
    ]  # fmt: skip
    for item in used[:_LISTED]:
        what = "read" if item.kind is ObservationKind.READ else "listed the folder"
        source = item.name if item.name.startswith(("/", "../")) else f"./{item.name}"
        source += "/" if item.kind is ObservationKind.LISTED else ""
        yield PipelineWarning(
            "undeclared-read", f"`{step.name}` {what} `{item.name}` without declaring it",
            f"Add `-i {_identifier(item.name)}={source}`: then it counts as an input, also before the step has run.",
            step.place,
        )  # fmt: skip
    if len(used) > _LISTED:
        more = f"`{step.name}` read {len(used) - _LISTED} more files without declaring them"
        yield PipelineWarning("undeclared-read", more, "Declare the folder that contains them.", step.place)


def _is_named_twice(name: str, names: Collection[str], base: Path) -> bool:
    """Return whether a path is absolute and its relative path is among the names as well."""
    return name.startswith("/") and os.path.relpath(name, base) in names


def _writes(step: Step, record: ExecutionRecord) -> Iterator[PipelineWarning]:
    """Return advice for files that a step wrote beside the notebook, which reuse does not restore."""
    beside = [name for name in record.written if not name.startswith("/")]
    for name in beside[:_LISTED]:
        yield PipelineWarning(
            "undeclared-write", f"`{step.name}` wrote `{name}` beside its outputs, and reuse does not restore it",
            f"Declare `-o {_identifier(name)}:{_path_format(name)}` and write to the path in that variable.",
            step.place,
        )  # fmt: skip


def _behind_parameters(step: Step, resolved: ResolvedRequest) -> Iterator[PipelineWarning]:
    """Return advice for each parameter that names a file, which the step may read."""
    for name in resolved.graph.pipeline.code[step.name].parameters:
        value = resolved.values.get(name)
        if isinstance(value, str) and _is_there(resolved.request.base, value):
            yield PipelineWarning(
                "file-behind-parameter", f"`{step.name}` reads the parameter `{name}`, which names `{value}`",
                f"Add `-i data=param:{name}`: then the file's content counts, not only its name.", step.place,
            )  # fmt: skip


def _is_there(base: Path, value: str) -> bool:
    try:
        return bool(value) and "\0" not in value and ("/" in value or "." in value) and (base / value).is_file()
    except OSError:
        return False


def _volatile(step: Step, records: list[ExecutionRecord]) -> Iterator[PipelineWarning]:
    """Return advice for each value that was different in each of the last runs."""
    if len(records) < _EVERY:
        return
    digests_by_run = [{component.name: component.digest for component in record.components} for record in records]
    for name in digests_by_run[0]:
        kind, what = split_name(name)
        values = [components.get(name) for components in digests_by_run]
        if kind in _VOLATILE and None not in values and len(set(values)) == len(values):
            yield PipelineWarning(
                "changes-every-run",
                f"the {_VOLATILE[kind]} `{what}` changes every run, so `{step.name}` is never reused",
                "Remove values that change but do not matter: temporary folders, build numbers, times.", step.place,
            )  # fmt: skip


def _identifier(path: str) -> str:
    name = re.sub(r"\W+", "_", Path(path).stem or "data").strip("_")
    return name if name.isidentifier() else f"_{name}"


def _path_format(path: str) -> str:
    suffix = Path(path).suffix
    return f"file{suffix}" if suffix else "file"
