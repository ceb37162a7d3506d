"""What a step's code found when it ran, or would find now: its inputs where they lie, parameters, definitions, code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.data.artifacts import Datastore, check, local_path
from nbpipe.data.digests import Digests
from nbpipe.data.postmortem import names_kept
from nbpipe.data.snapshot import pin
from nbpipe.errors import BadUsage, NbpipeError
from nbpipe.language.render import render
from nbpipe.model import (
    Artifact,
    Component,
    Failure,
    JobInput,
    JobOutput,
    Piece,
    ReuseVerdict,
    RunRecord,
    StepOutput,
    StepRecord,
)
from nbpipe.planning.plan import Decision
from nbpipe.run.situation import Situation
from nbpipe.run.workshop import definition_digests, inputs_of


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a step's code has around it.

    ``parameters`` and ``definitions`` are Python; ``digests`` are those of the definitions by name. ``run`` and
    ``folder`` are those of the recorded attempt, None for what would be so now. ``notes`` say what is not as it was.
    """

    step: str
    inputs: tuple[JobInput, ...]
    outputs: tuple[JobOutput, ...]
    values: Mapping[str, Any]
    parameters: str
    definitions: str
    digests: Mapping[str, str]
    pieces: tuple[Piece, ...]
    run: RunRecord | None = None
    failure: Failure | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Get the names that were kept of the frame that failed."""
        return names_kept(self.folder) if self.folder and self.failure else ()

    @property
    def line(self) -> tuple[int, int] | None:
        """Get the cell and the line of the failure, where it has a line in the step's own code."""
        failure = self.failure
        return (failure.cell, failure.line) if failure and failure.cell and failure.line else None


def scene_now(situation: Situation, decisions: Mapping[str, Decision], step: str) -> Scene:
    """Get what a step would find now; BadUsage names the steps whose results it needs and that have none."""
    graph, around = situation.graph, situation.circumstances[step]
    declared, code = graph.steps[step], graph.pipeline.code[step]
    upstream: dict[StepOutput, Artifact] = {}
    for name, decision in decisions.items():
        if isinstance(decision.verdict, ReuseVerdict):
            upstream |= {StepOutput(artifact.name, name): artifact for artifact in decision.verdict.hit.artifacts}
    missing = {source.step or "": source.output for source in graph.feeds[step].values() if source not in upstream}
    if missing:
        said = ", ".join(f"`{output}` of `{name}`" for name, output in missing.items())
        raise BadUsage(
            f"step `{step}` needs {said}, and there is no recorded result that is up to date",
            f"Run what it needs first: %nbpipe run {' '.join(sorted(missing))}",
        )
    document = json.loads(render(declared, code, around.values, graph.pipeline.kernel))
    return Scene(
        step=step,
        inputs=inputs_of(situation, step, upstream),
        outputs=tuple(JobOutput(item.name, item.format) for item in declared.outputs),
        values={name: around.values[name] for name in code.parameters},
        parameters=_source(document, "parameters"),
        definitions=_source(document, "shared"),
        digests=definition_digests(code),
        pieces=declared.pieces,
    )


def recorded_scene(
    run: RunRecord,
    records: Iterable[StepRecord],
    record: StepRecord,
    *,
    store: Datastore,
    digests: Digests,
) -> Scene:
    """Get what a step found in its recorded attempt; BadUsage when that is not there any more.

    Stored inputs are verified: a damaged one is an error. A declared file that has changed since is told.
    """
    executed = Path(record.notebook or "")
    try:
        document = json.loads(executed.read_text(encoding="utf-8"))
        job = json.loads((executed.parent / "job.json").read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError):
        said = f"what step `{record.step}` was given in run {run.number} is gone: {executed.parent}"
        raise BadUsage(said, f"Run it again with --force {record.step}.") from None
    inputs = tuple(JobInput(**{**item, "paths": tuple(item["paths"])}) for item in job["inputs"])
    stored = {str(local_path(artifact)): artifact for other in records for artifact in other.artifacts}
    notes = [*_verified(inputs, stored, record.components, store, digests), *_edited(job["modules"])]
    return Scene(
        step=record.step,
        inputs=inputs,
        outputs=tuple(JobOutput(**item) for item in job["outputs"]),
        values=job["parameters"],
        parameters=_source(document, "parameters"),
        definitions=_source(document, "shared"),
        digests=job["definitions"],
        pieces=tuple(_pieces(document)),
        run=run,
        failure=record.failure,
        folder=executed.parent,
        notes=tuple(notes),
    )


def _source(document: Mapping[str, Any], role: str) -> str:
    return next((_text(cell) for cell in document["cells"] if _told(cell).get("role") == role), "")


def _pieces(document: Mapping[str, Any]) -> Iterable[Piece]:
    for cell in document["cells"]:
        if _told(cell).get("role") == "step":
            yield Piece(_told(cell).get("cell") or 0, _text(cell))


def _told(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    told: Mapping[str, Any] = cell.get("metadata", {}).get("nbpipe", {})
    return told


def _text(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _verified(
    inputs: Iterable[JobInput],
    stored: Mapping[str, Artifact],
    components: Iterable[Component],
    store: Datastore,
    digests: Digests,
) -> Iterable[str]:
    """Get a note for each input that is not what it was; BadUsage for a stored one, which cannot be used."""
    summaries = {component.name: component.summary for component in components}
    for item in inputs:
        for path in item.paths:
            artifact = stored.get(path)
            wrong = check(store, artifact, digests) if artifact else None
            if wrong:
                raise BadUsage(f"input `{item.name}` cannot be used: {wrong}", "Run the step that makes it again.")
            if artifact is None and len(item.paths) == 1:
                yield from _file_note(item.name, path, summaries.get(f"input:{item.name}", ""), digests)


def _file_note(name: str, path: str, summary: str, digests: Digests) -> Iterable[str]:
    try:
        found = pin(path, Path("/"), digests).digest.partition(":")[2][:8]
    except NbpipeError as error:
        yield f"input `{name}` cannot be had: {error.message}"
    else:
        if summary and not summary.endswith(found):
            yield f"input `{name}` ({path}) has changed since the run"


def _edited(modules: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for module in modules:
        try:
            same = Path(module["path"]).read_text(encoding="utf-8") == module["source"]
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            yield f"the local module `{module['name']}` has changed since the run"
