"""What an input in a datastore or on the web names now: its kind, its name and its objects; nothing is read."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.store_errors import named
from nbpipe.data.web.web_address import file_name, split_address
from nbpipe.errors import FileMissing
from nbpipe.model import PinnedKind
from nbpipe.model.datastores import ObjectInfo
from nbpipe.resolve.store_path import StorePath


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """The objects of an input, with their paths relative to it; ``name`` is that of its file or folder.

    ``address`` identifies the store: two names for one place share what is remembered.
    """

    text: str
    store: ObjectStore
    address: str
    kind: PinnedKind
    name: str
    objects: tuple[tuple[str, ObjectInfo], ...]
    spelled: Callable[[str], str]


def find_in_store(text: str, place: StorePath, store: ObjectStore, address: str) -> FoundObjects:
    """Return what is at a place of a datastore; raise FileMissing if there is nothing."""
    kind, name, objects = _found(store, place)
    return FoundObjects(text, store, address, kind, name, tuple(objects), lambda key: named(store.name, key))


def find_on_web(text: str, files: ObjectStore) -> FoundObjects:
    """Return the file of an address of the web; raise FileMissing if it is not there."""
    url = text.partition("#")[0]
    split_address(url, text)
    info = files.find(url)
    if info is None:
        raise FileMissing(f"`{text}` is not there", "Check the address.")
    name = file_name(url)
    return FoundObjects(text, files, "web", PinnedKind.FILE, name, ((name, info),), lambda _key: text)


def _found(store: ObjectStore, place: StorePath) -> tuple[PinnedKind, str, list[tuple[str, ObjectInfo]]]:
    """Return the kind of what is at a place, its name, and its objects with their relative paths."""
    key = place.key.rstrip("/")
    if glob.has_magic(place.key):
        root = _fixed_part(place.key)
        matches = re.compile(_pattern(place.key))
        found = [info for info in store.list(root) if matches.fullmatch(info.key)]
        if not found:
            raise FileMissing(f"`{place}` matches no object", _look(place.store, root))
        return PinnedKind.GLOB, root.rpartition("/")[2] or place.store, _below(root, found)
    info = None if place.is_folder else store.find(key)
    if info is not None:
        return PinnedKind.FILE, key.rpartition("/")[2], [(key.rpartition("/")[2], info)]
    if not store.can_list and not place.is_folder:
        raise FileMissing(f"`{place}` is not there", f"Check its address: {store.url(key)}")
    found = list(store.list(key))
    if not found:
        raise FileMissing(f"`{place}` is not there", _look(place.store, key.rpartition("/")[0]))
    return PinnedKind.DIR, key.rpartition("/")[2] or place.store, _below(key, found)


def _below(root: str, found: Sequence[ObjectInfo]) -> list[tuple[str, ObjectInfo]]:
    return [(info.key[len(root) :].lstrip("/"), info) for info in found]


def _look(store: str, folder: str) -> str:
    return f"Look with: nbpipe datastores ls {store}{'/' if folder else ''}{folder}"


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    magic = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:magic])


def _pattern(pattern: str) -> str:
    """Return a regular expression for the keys that a glob matches: as a shell does, without hidden names."""
    translated = []
    for part in pattern.split("/"):
        if part == "**":
            translated.append(r"(?:(?!\.)[^/]+/)*")
            continue
        text = fnmatch.translate(part).removeprefix("(?s:").removesuffix(")\\Z").replace(".*", "[^/]*")
        hidden = "" if part.startswith(".") else r"(?!\.)"
        translated.append(f"{hidden}{text}/" if glob.has_magic(part) else f"{re.escape(part)}/")
    return "".join(translated).removesuffix("/") if not pattern.endswith("**") else "".join(translated) + r"(?!\.)[^/]+"
