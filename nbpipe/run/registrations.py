"""The outputs that a step registers: what becomes a version of a dataset when an attempt is committed or reused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nbpipe.model import Artifact, ResultOrigin
from nbpipe.model.datasets import (
    DatasetContent,
    DatasetDraft,
    DatasetKind,
    DatasetOrigin,
    DatasetQuery,
    DatasetRecipe,
    RecipeKind,
)
from nbpipe.planning.plan import Planner
from nbpipe.run.execution_state import ExecutionState, ExecutionTable
from nbpipe.run.process_identity import this_user

Registered = tuple[tuple[str, str], ...]


def output_drafts(
    register: Registered, artifacts: Iterable[Artifact], origin: DatasetOrigin
) -> dict[str, DatasetDraft]:
    """Return what the outputs of ``register`` are to become, by output; one that is not stored is left out."""
    names = dict(register)
    return {
        artifact.name: DatasetDraft(names[artifact.name], _content(artifact), _made(origin, artifact.name))
        for artifact in artifacts
        if artifact.name in names
    }


def origin_of(state: ExecutionState, table: ExecutionTable, result: ResultOrigin | None, now: float) -> DatasetOrigin:
    """Return the origin of what an execution registers: of a reused ``result``, the run that made it."""
    run, step = (state.record.run, state.step) if result is None else (result.run, result.step)
    return DatasetOrigin(now, this_user(), run, step, parents=parents_of(state, table))


def parents_of(state: ExecutionState, table: ExecutionTable) -> tuple[str, ...]:
    """Return the versions that an execution's outputs were made from: read or made by it or what it needs."""
    found: set[str] = set()
    todo, seen = [state.id], set[str]()
    while todo:
        current = table.by_id[todo.pop()]
        if current.id in seen:
            continue
        seen.add(current.id)
        found.update(current.record.datasets.values())
        if current.id != state.id:
            found.update(artifact.dataset for artifact in current.record.artifacts if artifact.dataset)
        todo += [need for need in current.record.needs if need in table.by_id]
    return tuple(sorted(found))


def bound_datasets(planner: Planner, step: str) -> Mapping[str, str]:
    """Return the versions that a step's inputs are bound to, by input."""
    return {name: str(pinned.version) for name, pinned in planner.circumstances[step].datasets.items()}


def bound_queries(planner: Planner, steps: Iterable[str]) -> Mapping[str, DatasetQuery]:
    """Return the queries whose results the inputs of steps are bound to, by version."""
    versions = [pinned.version for step in steps for pinned in planner.circumstances[step].datasets.values()]
    return {str(version): version.origin.query for version in versions if version.origin.query is not None}


def _made(origin: DatasetOrigin, output: str) -> DatasetOrigin:
    return DatasetOrigin(origin.created, origin.owner, origin.run, origin.step, output, origin.parents)


def _content(artifact: Artifact) -> DatasetContent:
    if artifact.is_path:
        recipe = DatasetRecipe(RecipeKind.FOLDER if artifact.is_folder else RecipeKind.FILE)
    else:
        recipe = DatasetRecipe(RecipeKind.VALUE, artifact.format)
    return DatasetContent(DatasetKind.KEPT, artifact.digest, artifact.bytes, recipe, artifact.reference)
