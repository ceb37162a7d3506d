"""Quick fix for a file that one step writes and another reads: declare it in both, and use it by its new name."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nbpipe.errors import FileBetweenSteps, Refused, SourceLocation
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import StepDeclaration, marker, read_declaration_text, read_step
from nbpipe.language.file_references import file_references, normal_path
from nbpipe.language.ipython_syntax import is_plain, parse_cell
from nbpipe.language.quick_fix import with_item
from nbpipe.model import Cell, FileSource, Input

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_WORD = re.compile(r"[^\W\d]\w*")


def declare_file(cells: Sequence[Cell], error: FileBetweenSteps) -> dict[int, str] | None:
    """Return the new sources of the writer's and the reader's cells, by number; None if they cannot be fixed.

    The file becomes an output of the writer and an input of the reader, and the code uses the path in that name.
    """
    try:
        writing, reading = _declaring(cells, error.writer), _declaring(cells, error.reader)
        if not error.path or writing is None or reading is None:
            return None
        declared = [item for item in reading.declared.inputs if _is_source(item, error.path)]
        if any(item.format is not None for item in declared):
            return None
        name = _free_name(error.path, [writing.cell.source, reading.cell.source], [item.name for item in declared])
        output = f"{name}:file{posixpath.splitext(error.path)[1]}"
        if declared:
            own = declared[0].name
            fixed = _without_source(reading.cell, own, own if own == name else f"{own}={error.writer}.{name}")
        else:
            fixed = _with_path(reading, error.path, name, key="in", item=name)
        written = _with_path(writing, error.path, name, key="out", item=output)
    except (Refused, RecursionError):
        return None
    if written is None or fixed is None:
        return None
    return {writing.cell.number: written, reading.cell.number: fixed}


@dataclass(frozen=True, slots=True)
class _StepCell:
    cell: Cell
    declared: StepDeclaration


def _is_source(item: Input, path: str) -> bool:
    return isinstance(item.source, FileSource) and normal_path(item.source.pattern) == path


def _declaring(cells: Iterable[Cell], step: str) -> _StepCell | None:
    """Return the first cell of a step, with its declaration."""
    for cell in cells:
        if marker(cell.source) is CellMarker.STEP:
            declared = read_step(cell)
            if declared.name == step and not declared.append:
                return _StepCell(cell, declared)
    return None


def _free_name(path: str, sources: Sequence[str], declared: Sequence[str]) -> str:
    """Return a name for a file that neither cell's code uses for anything else, if possible the declared one."""
    stem, suffix = posixpath.splitext(posixpath.basename(path))
    base = re.sub(r"\W+", "_", stem).strip("_")
    base = base if base.isidentifier() else f"_{base}"
    if declared:
        # The reader keeps its name for it.
        base, sources = declared[0], sources[:1]
    code = "\n".join(line for source in sources for line in source.splitlines() if not line.startswith(("%%", "#")))
    without_texts = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "", code)
    taken = set(_WORD.findall(without_texts))
    names = [base, f"{base}_{suffix.removeprefix('.')}" if suffix else base, f"{base}_path", f"{base}_file_path"]
    return next((name for name in names if name not in taken and name.isidentifier()), names[-1])


def _with_path(step: _StepCell, path: str, name: str, *, key: str, item: str) -> str | None:
    """Return the cell with a declared file, and its name where the code has the path as a text."""
    cell, declared = step.cell, step.declared
    if not is_plain(declared.body):
        return None
    lines = [line for line in _LINE.findall(cell.source) if line]
    places = list(_literal_places(declared, path))
    if not places:
        return None
    for line, start, end in sorted(places, reverse=True):
        content = lines[line].encode()
        lines[line] = (content[:start] + name.encode() + content[end:]).decode()
    changed = dataclasses.replace(cell, source="".join(lines))
    return "".join(with_item(lines, read_declaration_text(changed), key, item))


def _literal_places(declared: StepDeclaration, path: str) -> Iterator[tuple[int, int, int]]:
    """Yield the line, start and end (in bytes) of each text in the code that is the path of a file."""
    tree = parse_cell(declared.body, SourceLocation())
    literals = {id(one.literal): one.literal for one in file_references([tree], {}) if one.path == path}
    for literal in literals.values():
        if literal is not None and literal.lineno == literal.end_lineno and literal.end_col_offset is not None:
            yield literal.lineno - 1, literal.col_offset, literal.end_col_offset


def _without_source(cell: Cell, name: str, item: str) -> str | None:
    """Return the cell with an input that comes from a step instead of a file."""
    written = read_declaration_text(cell)
    span = written.options["in"]
    lines = [line for line in _LINE.findall(cell.source) if line]
    items = [item for item in re.split(r",\s*", span.text) if re.match(rf"{name}\s*=", item)]
    place = span.place(0)
    at = (place.line or 1) - 1
    if len(items) != 1 or lines[at].count(items[0]) != 1:
        return None
    lines[at] = lines[at].replace(items[0], item)
    return "".join(lines)
