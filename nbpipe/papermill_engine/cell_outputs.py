"""The outputs of a step's cells in papermill's notebook: a status line, and what its code printed and displayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_output

from nbpipe.model import AttemptLog, ExecutionRecord, Failure, FailureKind, Status, StepEvent, StepEventKind
from nbpipe.views.wording import duration, status_words, step_explanation


def status_output(record: ExecutionRecord, numbers: Mapping[str, int]) -> NotebookNode:
    """Return the status line of a step, the first output of its first cell."""
    took = f" in {duration(record.seconds)}" if record.status in (Status.SUCCEEDED, Status.FAILED) else ""
    why = step_explanation(record, numbers)
    text = f"step {record.step} {status_words(record.status)}{took}" + (f": {why}" if why else "")
    metadata = {"step": record.step, "status": record.status.value}
    return _output("display_data", data={"text/plain": text}, metadata={"nbpipe": metadata})


def live_outputs(events: Iterable[StepEvent], shown: list[NotebookNode]) -> None:
    """Add the events of a running step to its shown outputs."""
    for event in events:
        if event.kind is StepEventKind.STREAM:
            last = shown[-1] if shown else None
            if last is not None and last.output_type == "stream" and last.name == event.content["name"]:
                last.text += event.content["text"]
            else:
                shown.append(_output("stream", name=event.content["name"], text=event.content["text"]))
        elif event.kind is StepEventKind.DISPLAY:
            shown.append(_output("display_data", data={"text/plain": event.content["text"]}))


def ended_outputs(log: AttemptLog, count: int) -> list[list[NotebookNode]]:
    """Return the outputs of an ended step's cells in order; if they cannot be shown, a line that says why."""
    cells = [
        [_node(output) for output in cell.get("outputs", [])]
        for cell in log.notebook_json.get("cells", [])
        if cell.get("metadata", {}).get("nbpipe", {}).get("role") == "step"
    ]
    cells = [*cells, *([] for _ in range(count - len(cells)))][:count]
    if log.problem:
        cells[0].append(_output("stream", name="stderr", text=f"{log.problem}\n"))
    return cells


def require_error(outputs: list[list[NotebookNode]], failure: Failure | None, *, cancelled: bool) -> None:
    """Make sure that the cells of a failed or cancelled step contain an error that papermill recognizes.

    It ignores ``sys.exit(0)``.
    """
    if failure is None:
        if cancelled:
            outputs[-1].append(refusal_output("Cancelled", "the step was cancelled before it started"))
        return
    # The error of the code that was interrupted does not say why it was.
    unclear = ("SystemExit",) if failure.kind is FailureKind.USER else ("SystemExit", "KeyboardInterrupt")
    for cell in outputs:
        cell[:] = [out for out in cell if out.output_type != "error" or out.ename not in unclear]
    if not any(out.output_type == "error" for cell in outputs for out in cell):
        lines = [*failure.traceback.splitlines(), failure.message]
        name = "StepFailed" if failure.ename == "SystemExit" else failure.ename
        outputs[-1].append(_output("error", ename=name, evalue=failure.message, traceback=lines))


def drop_errors(outputs: list[list[NotebookNode]]) -> None:
    """Remove the errors of a step that was cancelled because another cell failed: the error is that cell's."""
    for cell in outputs:
        cell[:] = [out for out in cell if out.output_type != "error"]


def refusal_output(code: str, message: str) -> NotebookNode:
    """Return an error output for a refusal before anything ran."""
    return _output("error", ename=code, evalue=message, traceback=[f"{code}: {message}"])


def _output(kind: str, **more: Any) -> NotebookNode:
    output: NotebookNode = new_output(kind, **more)  # type: ignore[no-untyped-call]  # theirs
    return output


def _node(output: Mapping[str, Any]) -> NotebookNode:
    copy = dict(output)
    if isinstance(copy.get("text"), list):
        copy["text"] = "".join(copy["text"])
    if "data" in copy:
        copy["data"] = {kind: _joined(kind, value) for kind, value in copy["data"].items()}
    node: NotebookNode = from_dict(copy)  # type: ignore[no-untyped-call]  # theirs
    return node


def _joined(kind: str, value: Any) -> Any:
    return "".join(value) if isinstance(value, list) and not kind.endswith("json") else value
