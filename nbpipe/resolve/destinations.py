"""The destinations of outputs: none overwrites another one, an input or what nbpipe and git keep, or is led away."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.errors import BadPipeline, Refused
from nbpipe.model import FileSource, Output, PinnedFiles
from nbpipe.planning.graph import PipelineGraph, fill_destination, fixed_beginning
from nbpipe.resolve.workspace_layout import FOLDER, SETTINGS, WorkspaceLayout
from nbpipe.resolve.workspace_trust import CONTENT

_GIT = ".git"


def destination_errors(
    graph: PipelineGraph,
    values: Mapping[str, Any],
    relevant: Collection[str],
    *,
    base: Path,
    notebook: Path,
    contents: Mapping[str, PinnedFiles | None],
    workspace: WorkspaceLayout,
) -> list[Refused]:
    """Return the errors in the destinations of the ``relevant`` steps, relative to the folder ``base``.

    ``contents`` are the pinned files by pattern, ``values`` those of the parameters.
    """
    targets = _targets(graph, values, base)
    sources = [*_sources(graph, notebook, contents, base), _kept(workspace)]
    errors = _overlapping(targets, relevant)
    for target in (target for target in targets if target.step in relevant):
        errors += _escaping(target)
        errors += _reserved(target)
        errors += _overwritten(target, sources)
    return errors


@dataclass(frozen=True, slots=True)
class _Target:
    """A local destination: ``text`` with its placeholders replaced, ``path`` with dots and links resolved.

    ``folder`` is the folder that the declaration itself names, if parameters decide what lies in it; resolved too.
    """

    step: str
    output: Output
    text: str
    path: str
    folder: str | None = None

    def touches(self, other: str) -> bool:
        """Return whether one of the two paths is, or is inside of, the other."""
        return _within(self.path, other) or _within(other, self.path)

    def refused(self, what: str) -> Refused:
        message = f"the destination `{self.output.destination}` of `{self.output.name}` {what}"
        return BadPipeline(message, "Write to another path.", self.output.place)


@dataclass(frozen=True, slots=True)
class _Protected:
    """What no destination may overwrite: paths, and a glob, which new files must not match either."""

    called: str
    paths: tuple[str, ...]
    pattern: str | None = None


def _targets(graph: PipelineGraph, values: Mapping[str, Any], base: Path) -> list[_Target]:
    parameters = {name: str(value) for name, value in values.items()}
    texts = [
        (step.name, output, fill_destination(step, output, parameters))
        for step in graph.pipeline.steps for output in step.outputs if output.destination
    ]  # fmt: skip
    local = [item for item in texts if ":" not in item[2].split("/", 1)[0]]
    return [
        _Target(step, output, text, os.path.realpath(base / text), _folder(output, parameters, base))
        for step, output, text in local
    ]


def _folder(output: Output, parameters: Collection[str], base: Path) -> str | None:
    """Return the folder that is written out in a destination before its first parameter."""
    written_out = fixed_beginning(output, parameters)
    return None if written_out is None else os.path.realpath(base / (written_out.rpartition("/")[0] or "."))


def _escaping(target: _Target) -> list[Refused]:
    """Return an error if the value of a parameter leads out of the folder that the destination names.

    Values come from outside: they choose a file in that folder, and are no paths to anywhere else.
    """
    if target.folder is None or (target.path != target.folder and _within(target.path, target.folder)):
        return []
    message = (
        f"the destination `{target.output.destination}` of `{target.output.name}` becomes `{target.text}`, "
        f"which is not in {target.folder}"
    )
    hint = "A parameter may only name what is in the folder before it: write the folder itself into the declaration."
    return [BadPipeline(message, hint, target.output.place)]


def _kept(workspace: WorkspaceLayout) -> _Protected:
    """Return the workspace; of one that is the project's folder itself, what nbpipe has in it."""
    root = workspace.root
    own = [root / name for name in sorted(CONTENT)]
    return _Protected(f"the workspace {root}", tuple(map(os.path.realpath, [root] if root.name == FOLDER else own)))


def _reserved(target: _Target) -> list[Refused]:
    """Return an error if a destination is what git or nbpipe act upon, such as a hook."""
    if _GIT in Path(target.path).parts:
        return [target.refused("lies in a git repository's own folder")]
    if Path(target.path).name == SETTINGS:
        return [target.refused("would be settings of nbpipe")]
    return []


def _overlapping(targets: Sequence[_Target], relevant: Collection[str]) -> list[Refused]:
    """Return errors for overlapping destinations, except for equal texts, which the graph reports."""
    errors = []
    for first, second in itertools.combinations(targets, 2):
        if not first.touches(second.path) or os.path.normpath(first.text) == os.path.normpath(second.text):
            continue
        refused, other = (second, first) if second.step in relevant else (first, second)
        if refused.step in relevant:
            what = f"`{other.output.destination}`, the destination of `{other.output.name}` of `{other.step}`"
            errors.append(refused.refused(f"is, holds or lies in {what}"))
    return errors


def _sources(
    graph: PipelineGraph, notebook: Path, contents: Mapping[str, PinnedFiles | None], base: Path
) -> list[_Protected]:
    """Return the notebook and the declared inputs of all its steps, requested or not."""
    base = Path(os.path.realpath(base))
    patterns: dict[str, str] = {}
    for step in graph.pipeline.steps:
        for name, item in graph.files[step.name].items():
            if isinstance(item.source, FileSource):
                patterns.setdefault(
                    item.source.pattern, f"`{item.source.pattern}`, the input `{name}` of `{step.name}`"
                )
        for pattern in step.options.hash:
            patterns.setdefault(pattern, f"`{pattern}`, which `{step.name}` hashes")
    protected = [_Protected(f"the notebook `{notebook.name}` itself", (os.path.realpath(notebook),))]
    for pattern, called in patterns.items():
        path = os.path.normpath(base / pattern)
        content = contents.get(pattern)
        if glob.has_magic(pattern) and not os.path.lexists(path):
            protected.append(_Protected(called, tuple(map(os.path.realpath, content.paths)) if content else (), path))
        else:
            protected.append(_Protected(called, (os.path.realpath(path),)))
    return protected


def _overwritten(target: _Target, sources: Iterable[_Protected]) -> list[Refused]:
    """Return an error for the first source that a destination would overwrite."""
    found = (
        target.refused(f"would overwrite {source.called}")
        for source in sources
        if any(map(target.touches, source.paths))
        or (source.pattern is not None and _matched(target.path.split("/"), source.pattern.split("/")))
    )
    return list(itertools.islice(found, 1))


def _matched(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path or one of its parents matches a glob."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matched(parts[place:], pattern[1:]) for place in range(len(parts) + (len(pattern) > 1)))
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matched(parts[1:], pattern[1:])


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")
