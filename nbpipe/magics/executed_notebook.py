"""Finds the notebook that papermill, nbconvert or jupyter-execute is executing in this kernel.

A kernel is not told which notebook its cells are from. The command line of the process that started the kernel names
it, perhaps beside others; its cells confirm it: those that have run are its first ones, in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from nbpipe.errors import Refused
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import marker, read_step
from nbpipe.language.notebook_file import read_document, read_notebook
from nbpipe.magics.kernel_cells import looks_injected
from nbpipe.magics.parent_process import ParentProcess, parent_process
from nbpipe.model import Cell

_SUFFIX = ".ipynb"
_APPEND = b"--append"
_PAPERMILL = "papermill"
_EXECUTORS = (_PAPERMILL, "nbconvert", "jupyter-nbconvert", "jupyter-execute")
_TARGETS = ("--output", "--output-dir")
_FOLDER = "--cwd"


def executed_notebook(executed: Sequence[str], parent: ParentProcess | None) -> Path | None:
    """Return the notebook that a program executes in a kernel; None if none is known to do so, or it is not certain.

    ``executed`` are the inputs that the kernel has run so far, ``parent`` is the process that started it.
    """
    words = _arguments(parent.words) if parent is not None else None
    if parent is None or words is None:
        return None
    program, names = words
    paths = _inputs_of_papermill(parent, names) if program == _PAPERMILL else [parent.folder / name for name in names]
    fitting = {path for path in paths if _cells_below(path, executed) is not None}
    return fitting.pop() if len(fitting) == 1 else None


def is_continued_below(step: str, outputs: Sequence[str], executed: Sequence[str], folder: Path) -> bool:
    """Return whether a cell below the running one continues the step, and none in between uses the step's outputs."""
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, (step, *outputs)))})\b")
    return any(_is_continued(step, pattern, _cells_below(path, executed) or ()) for path in _candidates(folder))


def _is_continued(step: str, uses: re.Pattern[str], below: Sequence[Cell]) -> bool:
    for cell in below:
        if _continues(cell, step):
            return True
        if uses.search(cell.source):
            return False
    return False


def _continues(cell: Cell, step: str) -> bool:
    if marker(cell.source) is not CellMarker.STEP:
        return False
    try:
        declared = read_step(cell)
    except Refused:
        return False
    return declared.name == step and declared.append


def _cells_below(path: Path, executed: Sequence[str]) -> Sequence[Cell] | None:
    """Return a notebook's code cells below the running one; None if other cells have run than its first ones."""
    try:
        cells = read_notebook(path).cells
    except Refused:
        return None
    # Papermill's own cell is in no file that it reads, or replaces the one of an earlier run.
    cells = tuple(cell for cell in cells if cell.source.strip() and not looks_injected(cell.source))
    ran = [source.strip() for source in executed if source.strip() and not looks_injected(source)]
    same = [cell.source.strip() for cell in cells[: len(ran)]] == ran
    return cells[len(ran) :] if same else None


def _candidates(folder: Path) -> Iterator[Path]:
    parent = parent_process()
    named = [] if parent is None else [parent.folder / word for word in parent.words if word.endswith(_SUFFIX)]
    for path in dict.fromkeys((*named, *sorted(folder.glob(f"*{_SUFFIX}")))):
        try:
            if _APPEND in path.read_bytes():
                yield path
        except OSError:
            continue


def _arguments(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the program that executes notebooks in a command line, and the notebooks that it may read."""
    place = next((place for place, word in enumerate(words) if Path(word).name in _EXECUTORS), None)
    if place is None:
        return None
    names = [
        word for last, word in pairwise(words[place:])
        if word.endswith(_SUFFIX) and not word.startswith("-") and last not in _TARGETS
    ]  # fmt: skip
    return Path(words[place]).name, names


def _inputs_of_papermill(parent: ParentProcess, names: Sequence[str]) -> list[Path]:
    """Return the notebooks that papermill may be reading.

    The notebook that it writes says which one that is. Relative paths start from the folder in which papermill was
    started, which it leaves with ``--cwd``; then only the notebook that it writes can confirm that folder.
    """
    changed = any(word.startswith(_FOLDER) for word in parent.words)
    folder = Path(parent.environment.get("PWD", "")) if changed else parent.folder
    written = {folder / name: _unfinished(folder / name) for name in names}
    sources = set(_sources(folder, names, written.values()))
    if sources or (changed and not all(Path(name).is_absolute() for name in names)):
        return list(sources)
    return [path for path, record in written.items() if record is None]


def _sources(folder: Path, names: Sequence[str], records: Iterable[Mapping[str, Any] | None]) -> Iterator[Path]:
    for record in records:
        if record is not None and record.get("input_path") in names:
            yield folder / record["input_path"]


def _unfinished(path: Path) -> Mapping[str, Any] | None:
    """Return papermill's record in a notebook that it is writing, or that it has not completed."""
    try:
        metadata = read_document(path).get("metadata")
    except Refused:
        return None
    record = metadata.get("papermill") if isinstance(metadata, dict) else None
    if not isinstance(record, dict) or not record.get("start_time") or record.get("end_time"):
        return None
    return record if Path(str(record.get("output_path"))).name == path.name else None
