"""Finds the notebook that papermill or nbconvert is executing in this kernel, to know what follows the running cell.

A kernel is not told which notebook its cells are from. The file is recognised by its cells: those that have run are its
first ones, in order. It is looked for among the files that the kernel's parent process names, and in this folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nbpipe.errors import Refused
from nbpipe.language.directives import marker, read_step
from nbpipe.language.notebook_file import read_notebook
from nbpipe.model import Cell

_SUFFIX = ".ipynb"
_APPEND = b"--append"
_INJECTED = "# Parameters"
_PARENT = "JPY_PARENT_PID"


def is_continued_below(step: str, outputs: Sequence[str], executed: Sequence[str], folder: Path) -> bool:
    """Return whether a cell below the running one continues the step, and none in between uses the step's outputs."""
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, (step, *outputs)))})\b")
    return any(_is_continued(step, pattern, _cells_below(path, executed)) for path in _candidates(folder))


def _is_continued(step: str, uses: re.Pattern[str], below: Sequence[Cell]) -> bool:
    for cell in below:
        if _continues(cell, step):
            return True
        if uses.search(cell.source):
            return False
    return False


def _continues(cell: Cell, step: str) -> bool:
    if marker(cell.source) != "step":
        return False
    try:
        declared = read_step(cell)
    except Refused:
        return False
    return declared.name == step and declared.append


def _cells_below(path: Path, executed: Sequence[str]) -> Sequence[Cell]:
    """Return a notebook's code cells below the running one; none if other cells have run than its first ones."""
    try:
        cells = [cell for cell in read_notebook(path).cells if cell.source.strip()]
    except Refused:
        return ()
    sources = [source.strip() for source in executed if source.strip()]
    # Papermill's own cell is in no file that it reads.
    ran = [source for source in sources if not source.startswith(_INJECTED)]
    same = [cell.source.strip() for cell in cells[: len(ran)]] == ran
    return cells[len(ran) :] if same else ()


def _candidates(folder: Path) -> Iterator[Path]:
    for path in dict.fromkeys((*_named_by_parent(), *sorted(folder.glob(f"*{_SUFFIX}")))):
        try:
            if _APPEND in path.read_bytes():
                yield path
        except OSError:
            continue


def _named_by_parent() -> Iterator[Path]:
    """Yield the notebooks in the command line of the process that has started this kernel, where that can be read."""
    process = Path("/proc", os.environ.get(_PARENT) or str(os.getppid()))
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        start = (process / "cwd").readlink()
    except OSError:
        return
    yield from (start / os.fsdecode(word) for word in words if word.endswith(_SUFFIX.encode()))
