"""Files that one step writes and another reads: what must be declared, so that the reader gets the newest bytes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nbpipe.errors import FileBetweenSteps, SourceLocation
from nbpipe.model import FileSource, FileUse, PipelineWarning, Step
from nbpipe.planning.reachability import ancestors

CODE = FileBetweenSteps.code
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class FileDependencies:
    """What the declarations lack: errors, and warnings where the order at least is declared."""

    errors: tuple[FileBetweenSteps, ...] = ()
    warnings: tuple[PipelineWarning, ...] = ()


def file_dependencies(
    steps: Sequence[Step], needs: Mapping[str, Sequence[str]], uses: Mapping[str, Collection[FileUse]]
) -> FileDependencies:
    """Join what all steps read and write; ``uses`` are the files that they do not declare, by step."""
    written = {step.name: [use for use in uses.get(step.name, ()) if use.writes] for step in steps}
    if not any(written.values()):
        return FileDependencies()
    position = {step.name: at for at, step in enumerate(steps)}
    above = {step.name: ancestors(step.name, needs) for step in steps}
    errors: dict[tuple[str, str, str], FileBetweenSteps] = {}
    warnings: dict[tuple[str, str, str], PipelineWarning] = {}
    for writer in steps:
        for use in written[writer.name]:
            for reader in steps:
                reading = _reading(reader, use.path, uses) if reader.name != writer.name else None
                key = (use.path, writer.name, reader.name)
                if reading is None or (writer.name in above and reader.name in above[writer.name]):
                    continue
                if position[reader.name] < position[writer.name] and writer.name not in above[reader.name]:
                    warnings.setdefault(key, _read_before(writer, reader, use))
                elif writer.name in above[reader.name] and not reading.declared:
                    warnings.setdefault(key, _only_ordered(writer, reader, use))
                else:
                    errors.setdefault(key, _unconnected(writer, reader, use, reading))
    return FileDependencies(tuple(errors.values()), tuple(warnings.values()))


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a step reads a file: ``declared`` is the name of the input whose source it is, else empty."""

    place: SourceLocation
    declared: str = ""
    literal: bool = False
    whole: bool = True
    folder: str = ""


def _reading(step: Step, path: str, uses: Mapping[str, Collection[FileUse]]) -> _Reading | None:
    """Return how a step reads a file that another one writes; None if it does not."""
    for item in step.inputs:
        if isinstance(item.source, FileSource) and _covers(item.source.pattern, path):
            return _Reading(item.place, item.name, whole=not _is_many(item.source.pattern))
    for pattern in step.options.hash:
        if _covers(pattern, path):
            return _Reading(step.place_of("hash", pattern), "hash", whole=False)
    for use in uses.get(step.name, ()):
        if not use.writes and _covers(use.path, path):
            folder = use.path.rstrip("/") if use.path.endswith("/") else ""
            return _Reading(use.place, literal=use.literal, whole=use.path == path, folder=folder)
    return None


def _is_many(pattern: str) -> bool:
    return bool(_WILD.search(pattern)) or pattern.endswith("/")


def _covers(pattern: str, path: str) -> bool:
    """Return whether a file, folder (``folder/``) or glob includes a file."""
    normal = posixpath.normpath(pattern)
    if normal == path:
        return True
    if pattern.endswith("/"):
        return path.startswith(normal + "/")
    return bool(_WILD.search(normal)) and fnmatchcase(path, normal)


def _unconnected(writer: Step, reader: Step, use: FileUse, reading: _Reading) -> FileBetweenSteps:
    name = reading.declared if reading.whole and reading.declared else _identifier(reading.folder or use.path)
    output = f"-o {name}:{'dir' if reading.folder else path_format(use.path)}"
    message = f"`{writer.name}` writes `{use.path}`, which `{reader.name}` reads"
    if reading.declared:
        message += " as it was before the run"
    else:
        message += ", and no declaration says that it waits for that"
    instead = f"in place of `{reading.declared}`" if reading.declared else "and read the path in it"
    hint = (
        f"Declare `{output}` in `{writer.name}` and write to the path in `{name}`; declare `-i {name}` in "
        f"`{reader.name}` {instead}."
    )
    fixable = reading.whole and use.literal and bool(reading.literal or reading.declared)
    place = SourceLocation(reading.place.cell, reading.place.line, reading.place.column, reader.name)
    return FileBetweenSteps(
        message, hint, place, path=use.path if fixable else "", writer=writer.name, reader=reader.name
    )


def _only_ordered(writer: Step, reader: Step, use: FileUse) -> PipelineWarning:
    name = _identifier(use.path)
    return PipelineWarning(
        CODE,
        f"`{reader.name}` reads `{use.path}`, which `{writer.name}` writes beside its outputs: when `{writer.name}` is "
        "reused, the file is used as it is",
        f"Declare `-o {name}:{path_format(use.path)}` in `{writer.name}` and `-i {name}` in `{reader.name}`.",
        use.place,
    )


def _read_before(writer: Step, reader: Step, use: FileUse) -> PipelineWarning:
    return PipelineWarning(
        CODE,
        f"`{writer.name}` writes `{use.path}`, which `{reader.name}` above reads, and the two may run in any order",
        f"Add `#| after: {reader.name}` to `{writer.name}`, or write to another file.",
        use.place,
    )


def _identifier(path: str) -> str:
    name = re.sub(r"\W+", "_", posixpath.basename(path).partition(".")[0] or "data").strip("_")
    return name if name.isidentifier() else f"_{name}"


def path_format(path: str) -> str:
    """Return the format of a path output for a file with this name."""
    suffix = posixpath.splitext(path)[1]
    return f"file{suffix}" if suffix else "file"
