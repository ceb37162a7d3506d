"""Which files each step reads and writes without declaring it, as far as the notebook's text says so."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nbpipe.errors import Refused, SourceLocation
from nbpipe.language.definitions import SharedDefinitions
from nbpipe.language.file_references import FileReference, assigned_paths, file_references, may_use_files
from nbpipe.language.ipython_syntax import is_plain, parse_cell
from nbpipe.language.source_text import lines_of
from nbpipe.language.step_analysis import StepAnalysis
from nbpipe.model import Cell, FileUse, Parameter, StepCell


@dataclass(slots=True)
class StepFiles:
    """The functions and paths that steps share; what a function reads and writes is found once."""

    known: Mapping[str, str]
    _functions: Mapping[str, tuple[int, ast.stmt]]
    _found: dict[str, list[FileReference]] = field(default_factory=dict)

    @staticmethod
    def of(shared: SharedDefinitions, parameters: Sequence[Parameter]) -> StepFiles:
        """Return the functions and paths in ordinary cells; a parameter stands for itself, as its value may change."""
        known = {parameter.name: f"{{{parameter.name}}}" for parameter in parameters}
        functions: dict[str, tuple[int, ast.stmt]] = {}
        for cell in shared.cells:
            loose = {id(statement) for statement in cell.loose}
            known = assigned_paths([one for one in cell.statements if id(one) not in loose], known)
            for one in cell.statements:
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and any(
                    may_use_files(item.identifiers) for item in shared.by_name.get(one.name, ())
                ):
                    functions[one.name] = cell.number, one
        return StepFiles(known, functions)

    def uses(self, analysis: StepAnalysis) -> tuple[FileUse, ...]:
        """Return what a step and the functions that it may call read and write, without what it has written itself."""
        step = analysis.step
        used = [use for item in analysis.code.definitions for name in item.names for use in self._of_function(name)]
        trees = analysis.trees if may_use_files(analysis.identifiers) else ()
        bound = {item.name for item in step.inputs} | {item.name for item in step.outputs}
        known = {name: text for name, text in self.known.items() if name not in bound} if trees else {}
        for piece, tree in zip(step.pieces, trees, strict=False):
            known = assigned_paths(tree.body, known)
            references = file_references([tree], known)
            used += [_use(reference, piece, step.name) for reference in references]
        return tuple(_not_own(dict.fromkeys(used)))

    def written_outside(self, shared: SharedDefinitions, ordinary: Iterable[Cell]) -> list[FileUse]:
        """Return the files that ordinary cells write, except those that are shared whole."""
        loose = {cell.number: [] if cell.whole else list(cell.loose) for cell in shared.cells}
        loose |= {cell.number: _of_magic(cell) for cell in ordinary if cell.number not in loose}
        return [
            FileUse(reference.path, writes=True, place=SourceLocation(number, reference.node.lineno))
            for number, statements in loose.items()
            for reference in file_references(statements, assigned_paths(statements, self.known))
            if reference.writes
        ]

    def _of_function(self, name: str) -> Iterator[FileUse]:
        if name not in self._functions:
            return
        cell, function = self._functions[name]
        if name not in self._found:
            parameters = {part.arg for part in ast.walk(function) if isinstance(part, ast.arg)}
            known = {known: text for known, text in self.known.items() if known not in parameters}
            self._found[name] = file_references([function], known)
        for reference in self._found[name]:
            yield FileUse(reference.path, reference.writes, SourceLocation(cell, reference.node.lineno))


def _of_magic(cell: Cell) -> list[ast.stmt]:
    """Return the call of a cell's magic, if it has one."""
    if not cell.source.lstrip().startswith("%%"):
        return []
    try:
        return parse_cell(cell.source, SourceLocation(cell.number)).body
    except (Refused, RecursionError):
        return []


def _use(reference: FileReference, piece: StepCell, step: str) -> FileUse:
    node = reference.node
    plain = is_plain(piece.source)
    column = None
    if plain:
        line = lines_of(piece.source)[node.lineno - 1]
        column = len(line.encode()[: node.col_offset].decode()) + 1
    place = SourceLocation(piece.cell, node.lineno, column, step)
    return FileUse(reference.path, reference.writes, place, plain and reference.literal is not None)


def _not_own(uses: Iterable[FileUse]) -> Iterator[FileUse]:
    """Yield the uses without reads of what the step has written above."""
    each = list(uses)
    written = {use.path: (use.place.cell or 0, use.place.line or 0) for use in reversed(each) if use.writes}
    for use in each:
        if use.writes or (use.place.cell or 0, use.place.line or 0) <= written.get(use.path, (1 << 30, 0)):
            yield use
