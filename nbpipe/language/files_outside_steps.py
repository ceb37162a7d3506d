"""Files that ordinary cells write and steps read: the pipeline does not run these cells."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from nbpipe.model import FileSource, FileUse, PipelineWarning, Step, StepCode

_CODE = "hidden-change"
_DECLARE = "Write it in a step that declares it as an output, or begin the cell with `#| local` if it is kept."
_EXECUTE = "Execute that cell before the pipeline runs, or write the module's code in an ordinary cell."


def written_outside_warnings(
    steps: Sequence[Step], code: Mapping[str, StepCode], written: Iterable[FileUse], order: Mapping[int, int]
) -> tuple[PipelineWarning, ...]:
    """Return a warning for each file that a cell writes and a step below it reads; ``order`` are places of cells."""
    warnings = []
    made = {use.path for own in code.values() for use in own.uses if use.writes}
    for use in {each.path: each for each in written if each.path not in made}.values():
        cell = use.place.cell or 0
        below = [step for step in steps if order[step.pieces[0].cell] > order[cell]]
        readers = [step.name for step in below if any(_covers(path, use.path) for path in _read(step, code))]
        if readers:
            listed = " and ".join(f"`{name}`" for name in readers)
            reads = "reads" if len(readers) == 1 else "read"
            message = f"cell {cell} writes `{use.path}`, which {listed} {reads}: no step writes it anew"
            is_module = any(use.path in _modules(step, code) for step in below)
            hint = _EXECUTE if is_module else _DECLARE
            warnings.append(PipelineWarning(_CODE, message, hint, use.place))
    return tuple(warnings)


def _read(step: Step, code: Mapping[str, StepCode]) -> Iterator[str]:
    yield from (item.source.pattern for item in step.inputs if isinstance(item.source, FileSource))
    if step.name in code:
        yield from (use.path for use in code[step.name].uses if not use.writes)
        yield from _modules(step, code)


def _modules(step: Step, code: Mapping[str, StepCode]) -> list[str]:
    """Return the files beside the notebook that the modules would be which a step imports."""
    names = code[step.name].imports if step.name in code else ()
    return [f"{name.replace('.', '/')}{end}" for name in names for end in (".py", "/__init__.py")]


def _covers(pattern: str, path: str) -> bool:
    normal = posixpath.normpath(pattern)
    return path == normal or fnmatchcase(path, normal) or (pattern.endswith("/") and path.startswith(f"{normal}/"))
