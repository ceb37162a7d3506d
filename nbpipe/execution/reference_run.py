"""A plain run of a notebook's cells in one kernel, from top to bottom, with questions in between."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from nbpipe.data import private_directory

# The kind of display with which a question is answered.
ANSWER = "application/vnd.nbpipe.answer+json"
# What nbclient reads of a cell's tags.
_TAGS = ("raises-exception", "skip-execution")


@dataclass(frozen=True, slots=True)
class ReferenceRun:
    """The answers of the questions, and the errors of the cells that failed, by their numbers."""

    answers: tuple[Any, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)


def run_plainly(kernel: str, folder: str, cells: Sequence[tuple[int, str, tuple[str, ...], str]]) -> ReferenceRun:
    """Run all cells in a kernel of their own in a folder, also those below a cell that fails.

    A cell is its number, its source, its tags, and code with a question that runs after it, or an empty text.
    """
    listed: list[Any] = []
    numbers: list[int] = []
    for number, source, tags, question in cells:
        listed.append(_code_cell(source, [tag for tag in tags if tag in _TAGS]))
        numbers.append(number)
        if question:
            listed.append(_code_cell(question, []))
            numbers.append(number)
    document = nbformat.v4.new_notebook(cells=listed)  # type: ignore[no-untyped-call]
    sockets = private_directory.make_for_sockets()
    # TCP ports could be taken by others before the kernel binds them.
    manager = AsyncKernelManager(
        kernel_name=kernel, transport="ipc", connection_file=f"{sockets}/kernel.json", ip=f"{sockets}/s"
    )
    resources = {"metadata": {"path": folder}}
    failed: dict[int, str] = {}
    try:
        client = NotebookClient(document, km=manager, timeout=None, allow_errors=True, resources=resources)
        # What the kernel writes outside of its cells, such as a word about its end, belongs to no result.
        client.execute(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except DeadKernelError:
        ran = [number for number, cell in zip(numbers, listed, strict=True) if cell["execution_count"] is not None]
        failed[ran[-1] if ran else numbers[0]] = "its kernel died"
    finally:
        private_directory.remove(sockets)
    for number, cell in zip(numbers, listed, strict=True):
        error = next((each for each in cell["outputs"] if each["output_type"] == "error"), None)
        if error is not None and "raises-exception" not in cell["metadata"]["tags"]:
            failed.setdefault(number, f"{error['ename']}: {error['evalue']}")
    return ReferenceRun(tuple(_answers(listed)), failed)


def _code_cell(source: str, tags: Sequence[str]) -> Any:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})  # type: ignore[no-untyped-call]


def _answers(cells: Sequence[Any]) -> list[Any]:
    return [output["data"][ANSWER] for cell in cells for output in cell["outputs"] if ANSWER in output.get("data", {})]
