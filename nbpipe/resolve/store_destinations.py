"""The destinations of outputs in datastores: each is writable, and none overwrites another one, an input or our own."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nbpipe.data.object_keys import OBJECTS
from nbpipe.data.stores.folder_manifest import PACKS
from nbpipe.data.stores.object_store import checked_key
from nbpipe.errors import BadPipeline, BadUsage, Refused
from nbpipe.model import Output, RemoteSource
from nbpipe.planning.graph import PipelineGraph, fill_destination, fixed_beginning
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.store_ownership import OWNER
from nbpipe.resolve.store_path import SCHEME, StorePath, parse_store_path
from nbpipe.resolve.workspace_layout import WorkspaceLayout

_RESERVED = (OBJECTS, PACKS, OWNER)


@dataclass(frozen=True, slots=True)
class _Target:
    """A place that an output is delivered to; ``address`` is its datastore's."""

    step: str
    output: Output
    place: StorePath
    address: str

    @property
    def key(self) -> str:
        return self.place.key.rstrip("/")

    def touches(self, other: str) -> bool:
        """Return whether one of the two keys is, or is below, the other."""
        return f"{self.key}/".startswith(f"{other}/") or f"{other}/".startswith(f"{self.key}/")

    def refused(self, what: str, hint: str = "Write to another place.") -> Refused:
        message = f"the destination `{self.output.destination}` of `{self.output.name}` {what}"
        return BadPipeline(message, hint, self.output.place)


def store_destination_errors(
    graph: PipelineGraph, values: Mapping[str, Any], relevant: Collection[str], layout: WorkspaceLayout
) -> list[Refused]:
    """Return the errors in the destinations of the ``relevant`` steps that are in datastores."""
    errors: list[Refused] = []
    targets = []
    datastores = OpenDatastores.of(layout, {})
    for step in graph.pipeline.steps:
        for output in step.outputs if step.name in relevant else ():
            if (output.destination or "").startswith(SCHEME):
                text = fill_destination(step, output, {name: str(value) for name, value in values.items()})
                try:
                    targets.append(_target(step.name, output, text, values, datastores))
                except Refused as error:
                    errors.append(type(error)(error.message, error.hint, output.place))
    errors += [error for target in targets for error in _own(target, layout)]
    errors += _overlapping(targets)
    return errors + [error for target in targets for error in _inputs(target, graph, datastores)]


def _target(step: str, output: Output, text: str, values: Mapping[str, Any], datastores: OpenDatastores) -> _Target:
    """Return a destination; raise BadUsage if it is no place in a datastore that is written to."""
    place = parse_store_path(text)
    datastores.require_writable(place.store)
    if place.key.strip("/"):
        checked_key(place.store, place.key)
    elif not place.is_folder or output.format == "dir":
        raise BadUsage(f"`{text}` is a whole datastore", "Name a folder in it.")
    beginning = fixed_beginning(output, tuple(values))
    if beginning is not None and "/" not in beginning:
        raise BadUsage(f"a parameter chooses the datastore of `{output.destination}`", "Write its name.")
    return _Target(step, output, place, datastores.configuration(place.store).address)


def _own(target: _Target, layout: WorkspaceLayout) -> list[Refused]:
    """Return an error if a destination is where the outputs themselves are stored."""
    is_ours = target.place.store == layout.default_store and any(map(target.touches, _RESERVED)) and target.key
    return [target.refused("is where nbpipe stores outputs")] if is_ours else []


def _overlapping(targets: list[_Target]) -> list[Refused]:
    """Return errors for destinations that lie in one another; the graph reports equal texts."""
    errors = []
    for first, second in itertools.combinations(targets, 2):
        if first.address == second.address and first.place != second.place and _collide(first, second):
            what = f"`{first.output.destination}`, the destination of `{first.output.name}` of `{first.step}`"
            errors.append(second.refused(f"is, holds or lies in {what}"))
    return errors


def _collide(first: _Target, second: _Target) -> bool:
    # Several files may go into one folder, each under its own name.
    folders = [each for each in (first, second) if each.output.format == "dir"]
    if first.place.is_folder and second.place.is_folder and not folders:
        return False
    return first.touches(second.key)


def _inputs(target: _Target, graph: PipelineGraph, datastores: OpenDatastores) -> list[Refused]:
    """Return an error for the first input in a datastore that a destination would overwrite."""
    configured = datastores.configured
    for step in graph.pipeline.steps:
        for name, item in graph.files[step.name].items():
            if not isinstance(item.source, RemoteSource) or not item.source.text.startswith(SCHEME):
                continue
            place = parse_store_path(item.source.text)
            fixed = "/".join(itertools.takewhile(lambda part: not set(part) & set("*?["), place.key.split("/")))
            same = place.store in configured and configured[place.store].address == target.address
            if same and target.touches(fixed.rstrip("/")):
                return [target.refused(f"would overwrite `{item.source.text}`, the input `{name}` of `{step.name}`")]
    return []
