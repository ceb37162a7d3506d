"""Linting of a notebook by ruff, with its step cells visible to ruff, and quick fixes for the notebook's file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.errors import BadDirective, FileBetweenSteps, Refusals, Refused, SourceLocation
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import DeclarationText, marker, read_declaration_text
from nbpipe.language.file_quick_fix import declare_file
from nbpipe.language.notebook_file import read_document, read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parameters import settle_parameters
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.language.quick_fix import declare_missing_input
from nbpipe.language.source_text import lines_of
from nbpipe.model import Cell, PipelineWarning
from nbpipe.planning.graph import build_graph

_SECONDS = 60
_UNDEFINED = re.compile(r"Undefined name `(\w+)`")


@dataclass(frozen=True, slots=True)
class LintResult:
    """The findings of ruff; ``note`` says why ruff could not be run, or is empty."""

    warnings: tuple[PipelineWarning, ...] = ()
    note: str = ""


def find_ruff() -> str | None:
    """Return the ruff of this Python environment, or the one on the PATH."""
    beside = Path(sys.executable).with_name("ruff")
    return str(beside) if beside.is_file() else shutil.which("ruff")


def ruff_warnings(path: Path, reading: ParsedNotebook, ruff: str) -> LintResult:
    """Return ruff's findings about a notebook file, with the author's settings for that file.

    ruff sees step cells as code, with their declarations as comments. Findings about names that ruff cannot know are
    omitted: names that declarations bind, and definitions further down.
    """
    cells = {cell.number: cell for cell in read_notebook(path).cells}
    shown = {number: _visible(cell) for number, cell in cells.items()}
    command = [ruff, "check", "--quiet", "--no-cache", "--exit-zero", "--output-format=json", "--force-exclude",
               "--stdin-filename", str(path.with_suffix(".ipynb")), "-"]  # fmt: skip
    try:
        text = _document(path, {number: source for number, (source, _) in shown.items()})
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
        findings = json.loads(done.stdout or "[]") if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return LintResult(note=f"ruff could not be run: {error}")
    if findings is None:
        return LintResult(note=f"ruff could not be run: {done.stderr.strip()}")
    names = _bound_names(reading)
    steps = {piece.cell: step.name for step in reading.steps for piece in step.pieces}
    warnings = [_warned(item, steps) for item in findings if _counts(item, shown, steps, names)]
    return LintResult(
        tuple(sorted(warnings, key=lambda w: (w.place.cell or 0, w.place.line or 0, w.place.column or 0)))
    )


def _visible(cell: Cell) -> tuple[str, range]:
    """Return a cell as ruff gets it, and the lines (from 1) of its declaration, which become comments."""
    if marker(cell.source) is not CellMarker.STEP:
        return cell.source, range(0)
    try:
        written: DeclarationText = read_declaration_text(cell)
    except BadDirective:
        return cell.source, range(0)
    lines = lines_of(cell.source)
    here = range(written.first, written.after)
    fresh = [f"# {line}" if at in here and not line.startswith("#") else line for at, line in enumerate(lines)]
    return "\n".join(fresh), range(written.first + 1, written.after + 1)


def _document(path: Path, sources: Mapping[int, str]) -> str:
    document = read_document(path)
    for number, source in sources.items():
        document["cells"][number - 1]["source"] = source
    return json.dumps(document)


def _bound_names(reading: ParsedNotebook) -> frozenset[str]:
    """Return the names that steps bind in the kernel, and the parameters."""
    outputs = {output.name for step in reading.steps for output in step.outputs}
    return frozenset(outputs | {parameter.name for parameter in reading.parameters})


def _counts(
    item: Mapping[str, Any],
    shown: Mapping[int, tuple[str, range]],
    steps: Mapping[int, str],
    names: Collection[str],
) -> bool:
    cell, row = item.get("cell") or 0, item["location"]["row"]
    if cell in shown and row in shown[cell][1]:
        return False
    if item.get("code") != "F821":
        return True
    # In the code of steps, nbpipe itself checks for undefined names.
    name = _UNDEFINED.match(item["message"])
    return cell not in steps and not (name is not None and name[1] in names)


def _warned(item: Mapping[str, Any], steps: Mapping[int, str]) -> PipelineWarning:
    where = item["location"]
    place = SourceLocation(item.get("cell"), where["row"], where["column"], steps.get(item.get("cell") or 0))
    return PipelineWarning(f"ruff:{item.get('code') or 'syntax'}", item["message"].rstrip("."), _hint(item), place)


def _hint(item: Mapping[str, Any]) -> str:
    fix = item.get("fix") or {}
    rule = f"ruff {item.get('code') or 'syntax'}"
    return f"{fix['message'].rstrip('.')} ({rule})." if fix.get("message") else f"({rule})"


def quick_fixed_cells(path: Path) -> dict[int, str]:
    """Return the new sources of the cells of a notebook file in which missing inputs can be declared.

    A fix that would cause another error, such as a cycle, is left out.
    """
    cells = list(read_notebook(path).cells)
    before = {cell.number: cell.source for cell in cells}
    tried: set[str] = set()
    while (fixed := _fixed_cells(cells, tried)) is not None:
        cells = fixed
    return {cell.number: cell.source for cell in cells if cell.source != before[cell.number]}


def _fixed_cells(cells: Sequence[Cell], tried: set[str]) -> list[Cell] | None:
    """Return the cells with one error fixed, or None if no untried error can be fixed."""
    errors = _errors(cells)
    for error in errors:
        if str(error) in tried:
            continue
        tried.add(str(error))
        sources = _quick_fix(cells, error)
        fresh = [Cell(cell.number, sources.get(cell.number, cell.source), cell.id, cell.tags) for cell in cells]
        if sources and len(_errors(fresh)) < len(errors):
            return fresh
    return None


def _quick_fix(cells: Sequence[Cell], error: Refused) -> dict[int, str]:
    """Return the new sources of the cells that an error is about; none if it cannot be fixed."""
    if isinstance(error, FileBetweenSteps):
        return declare_file(cells, error) or {}
    cell = next((cell for cell in cells if cell.number == error.place.cell), None)
    source = declare_missing_input(cell, error) if cell is not None else None
    return {cell.number: source} if cell is not None and source is not None else {}


def _errors(cells: Sequence[Cell]) -> list[Refused]:
    reading = parse_cells(cells)
    try:
        values = settle_parameters(reading.parameters, {}, reading.injected)
    except (Refused, Refusals):
        values = {parameter.name: parameter.default for parameter in reading.parameters}
    return [*reading.errors, *build_graph(reading, values, None)[1]]
