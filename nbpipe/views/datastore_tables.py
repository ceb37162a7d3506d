"""Datastores and what is in them as tables: plain lines no wider than the terminal, and JSON objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbpipe.model import DEFAULT_STORE
from nbpipe.model.datastores import DatastoreConfiguration, FolderListing, ObjectInfo, StoreTraits
from nbpipe.views.terminal_text import one_line
from nbpipe.views.text_tables import Row, lines
from nbpipe.views.wording import duration, size

_LIST_HEADER: Row = ("name", "address", "credentials", "writes")
_TEST_HEADER: Row = ("name", "result", "time", "what it can do")
_LISTING_HEADER: Row = ("name", "size", "modified")
_USAGE_HEADER: Row = ("folder", "objects", "size")

NO_DATASTORES = "no datastores: add one with `nbpipe datastores add NAME URL`"
# What a datastore can do, and what it means if it cannot.
_CAN = {
    "creates": ("creates", "cannot create without overwriting"),
    "swaps": ("swaps", "cannot swap"),
    "lists_at_once": ("lists at once", "lists with delay"),
    "keeps_versions": ("keeps versions", "keeps no versions"),
}


def datastore_lines(datastores: Sequence[DatastoreConfiguration], default: str, columns: int) -> list[str]:
    """Return the configured datastores as plain lines; ``default`` is the name of the one of outputs."""
    rows = [(each.name, one_line(each.url), _credentials(each), _writes(each, default)) for each in datastores]
    return lines(_LIST_HEADER, rows, columns) if rows else [NO_DATASTORES]


def _writes(datastore: DatastoreConfiguration, default: str) -> str:
    return "outputs" if datastore.name == default else "" if datastore.writable else "no"


def default_line(name: str) -> str:
    """Return where outputs are stored, in one line."""
    return "outputs are stored in the workspace" if name == DEFAULT_STORE else f"outputs are stored in {name}"


def _credentials(datastore: DatastoreConfiguration) -> str:
    if datastore.uses_profile:
        return "profile"
    return one_line(", ".join(f"{key}={reference}" for key, reference in datastore.credentials.items()))


def test_lines(
    tests: Iterable[tuple[DatastoreConfiguration, float, StoreTraits | None, str]], columns: int
) -> list[str]:
    """Return the outcomes of trying datastores as plain lines: their seconds, what they can do, or the errors."""
    tried = list(tests)
    rows = [
        (each.name, "failed" if error else "ok", duration(seconds), one_line(error) if error else _can(traits))
        for each, seconds, traits, error in tried
    ]
    return lines(_TEST_HEADER, rows, columns) if rows else [NO_DATASTORES]


def _can(traits: StoreTraits | None) -> str:
    if traits is None or not traits.writes:
        return "reads"
    able = _traits(traits)
    return ", ".join(["reads", "writes", *(words[not able[field]] for field, words in _CAN.items())])


def _traits(traits: StoreTraits) -> dict[str, bool]:
    return {
        "creates": traits.creates,
        "swaps": traits.swaps,
        "lists_at_once": traits.lists_at_once,
        "keeps_versions": traits.keeps_versions,
    }


def listing_lines(listing: FolderListing, columns: int, now: float) -> list[str]:
    """Return a folder of a datastore as plain lines, folders first; ``now`` is in seconds since the epoch."""
    rows = [(f"{one_line(name)}/", "", "") for name in listing.folders]
    rows += [
        (one_line(info.key.rpartition("/")[2]), size(info.size), _age(now - info.modified)) for info in listing.objects
    ]
    return lines(_LISTING_HEADER, rows, columns) if rows else ["nothing is stored there"]


def usage_lines(usage: Iterable[tuple[str, int, int]], columns: int) -> list[str]:
    """Return the objects and bytes of the folders of a place as plain lines, their sum last."""
    counted = list(usage)
    rows = [(f"{one_line(name)}/" if name else ".", str(objects), size(count)) for name, objects, count in counted]
    total = ("in all", str(sum(each[1] for each in counted)), size(sum(each[2] for each in counted)))
    return lines(_USAGE_HEADER, [*rows, total], columns)


def change_line(done: str, objects: int, count: int) -> str:
    """Return how much was copied or deleted, in one line."""
    return f"{done} {objects} object{'' if objects == 1 else 's'}, {size(count)}"


def added_lines(datastore: DatastoreConfiguration, file: str) -> list[str]:
    """Return that a datastore was added, and how to go on."""
    return [
        f"added {datastore.name} to {one_line(file)}",
        f"try it with: nbpipe datastores test {datastore.name}",
    ]


def _age(seconds: float) -> str:
    return f"{duration(round(seconds))} ago" if seconds >= 0 else ""


def datastore_object(datastore: DatastoreConfiguration) -> dict[str, Any]:
    """Return a datastore as a JSON object; credentials are references."""
    return {
        "name": datastore.name,
        "url": datastore.url,
        "options": dict(datastore.options),
        "credentials": "profile"
        if datastore.uses_profile
        else {key: str(reference) for key, reference in datastore.credentials.items()},
        "write": datastore.writable,
    }


def traits_object(traits: StoreTraits) -> dict[str, bool]:
    """Return what a datastore can do as a JSON object."""
    return {"write": traits.writes, **_traits(traits)}


def listing_object(place: Mapping[str, str], listing: FolderListing) -> dict[str, Any]:
    """Return a folder of a datastore as a JSON object."""
    return {**place, "folders": list(listing.folders), "objects": [_info_object(info) for info in listing.objects]}


def usage_object(place: Mapping[str, str], usage: Iterable[tuple[str, int, int]]) -> dict[str, Any]:
    """Return the objects and bytes of the folders of a place as a JSON object."""
    counted = list(usage)
    folders = [{"name": name, "objects": objects, "bytes": count} for name, objects, count in counted]
    total = {"objects": sum(each[1] for each in counted), "bytes": sum(each[2] for each in counted)}
    return {**place, **total, "folders": folders}


def _info_object(info: ObjectInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "size": info.size,
        "etag": info.etag or None,
        "version": info.version or None,
        "modified": info.modified or None,
    }
