"""A notebook's plain run compared with its pipeline: both run, and the value of each output is compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nbpipe.compute import worker_entry_points
from nbpipe.data import private_directory
from nbpipe.entry_points import load_entry_point
from nbpipe.model import Artifact, Cell, ExecutionRecord, Status
from nbpipe.model.proposals import ComparedValue, ComparisonResult, PipelineComparison, ProposedStep
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.job_factory import definition_digests
from nbpipe.run.submission import RunOptions
from nbpipe.workspace.run_execution import execute_run
from nbpipe.workspace.workspace import Workspace

_DONE = (Status.SUCCEEDED, Status.REUSED)
_KERNEL = "python3"
# What differs is kept, so that a second plain run can tell whether it does so anyway.
_QUESTION = """\
def _nbpipe_compare(text):
    import json, pathlib, pickle, types
    payload = json.loads(text)
    try:
        from nbpipe.data import notebook_classes as classes, formats, shared_objects
    except ImportError:
        exec(payload["loading"], {})
        from nbpipe.data import notebook_classes as classes, formats, shared_objects
    comparison = types.ModuleType("nbpipe_value_comparison")
    exec(payload["comparison"], vars(comparison))
    classes.share_classes(globals(), payload["definitions"])
    answers, together = [], {}
    for name, path, format in payload["outputs"]:
        try:
            stored = formats.load(pathlib.Path(path), format, together)
            value = globals()[name]
            result, detail = comparison.compare(value, stored)
            kept = pathlib.Path(payload["kept"]) / f"{payload['step']}.{name}"
            if kept.exists():
                with kept.open("rb") as file:
                    before = pickle.load(file)
                if comparison.compare(value, before)[0] == "differs":
                    result, detail = "varies", "it differs from one plain run to the next, too"
            elif result == "differs":
                with kept.open("wb") as file:
                    pickle.dump(value, file)
        except Exception as error:
            result, detail = "not compared", f"{type(error).__name__}: {error}"[:200]
        answers.append([payload["step"], name, result, detail])
    from IPython.display import publish_display_data
    publish_display_data({"application/vnd.nbpipe.answer+json": answers})
_nbpipe_compare({payload!r})
del _nbpipe_compare
"""


def compare_with_plain_run(
    request: PipelineRequest, plain: Sequence[Cell], steps: Sequence[ProposedStep]
) -> PipelineComparison:
    """Run the pipeline of a request in a temporary workspace, then the cells ``plain`` in one kernel, and compare.

    ``steps`` tell which of these cells each step consists of. Both runs start in the notebook's folder.
    """
    folder = private_directory.make(private_directory.HERE)
    try:
        with Workspace.open(request.base, Path(folder) / "workspace") as workspace:
            report = execute_run(workspace, request, RunOptions(keep_going=True))
            again = execute_run(workspace, request, RunOptions(keep_going=True))
            records = {record.step: record for record in report.steps}
            questions = {
                step.cells[-1]: _question(records[step.name], request, workspace)
                for step in steps
                if step.name in records
            }
            reference_run = _reference_run(request, plain, questions)
            if ComparisonResult.DIFFERS in [result for each in reference_run.answers for _, _, result, _ in each]:
                # The time, or random numbers without a seed.
                reference_run = _reference_run(request, plain, questions)
    finally:
        private_directory.remove(folder)
    failed = {name: _failure(record) for name, record in records.items() if record.status not in _DONE}
    skipped = {name for name, record in records.items() if record.status is Status.SKIPPED}
    one_sided = tuple(
        step.name for step in steps
        if step.name not in skipped and (step.name in failed) is reference_run.failed.keys().isdisjoint(step.cells)
    )  # fmt: skip
    ran = tuple(record.step for record in again.steps if record.status is not Status.REUSED)
    return PipelineComparison(tuple(_compared(records, reference_run)), failed, reference_run.failed, one_sided, ran)


def _failure(record: ExecutionRecord) -> str:
    failure = record.failure
    return f"{failure.ename}: {failure.evalue}" if failure is not None else record.status.value


def _question(record: ExecutionRecord, request: PipelineRequest, workspace: Workspace) -> str:
    """Return the code that compares a step's outputs with the values of their names in a kernel."""
    values = [artifact for artifact in record.artifacts if not artifact.is_path]
    if record.status not in _DONE or not values:
        return ""
    loading: str = load_entry_point(worker_entry_points.SHIP)(workspace.layout.store).loading
    definitions: dict[str, str] = {}
    for code in request.reading.code.values():
        definitions |= definition_digests(code)
    payload = {
        "loading": loading, "definitions": definitions, "step": record.step, "kept": str(workspace.layout.root),
        "comparison": files("nbpipe").joinpath("data", "value_comparison.py").read_text(encoding="utf-8"),
        "outputs": [_located(artifact, workspace) for artifact in values],
    }  # fmt: skip
    return _QUESTION.replace("{payload!r}", repr(json.dumps(payload)))


def _located(artifact: Artifact, workspace: Workspace) -> list[str]:
    return [artifact.name, str(workspace.materializer.fetch(artifact)), artifact.format]


def _reference_run(request: PipelineRequest, plain: Sequence[Cell], questions: Mapping[int, str]) -> Any:
    run = load_entry_point(worker_entry_points.REFERENCE_RUN)
    cells = [(cell.number, cell.source, tuple(sorted(cell.tags)), questions.get(cell.number, "")) for cell in plain]
    return run(request.kernel or _KERNEL, str(request.base), cells)


def _compared(records: Mapping[str, ExecutionRecord], reference_run: Any) -> Iterator[ComparedValue]:
    answers = {(step, name): (result, detail) for each in reference_run.answers for step, name, result, detail in each}
    missing = (ComparisonResult.NOT_COMPARED, "the notebook's plain run did not get there")
    for record in records.values():
        for artifact in record.artifacts:
            result, detail = answers.get((record.step, artifact.name), missing)
            yield ComparedValue(record.step, artifact.name, ComparisonResult(result), detail)
