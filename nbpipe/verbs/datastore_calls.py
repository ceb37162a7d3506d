"""The calls behind the verbs about datastores, and their responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbpipe.authoring.datastore_edits import add_datastore, choose_default
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import DEFAULT_STORE
from nbpipe.model.datastores import DatastoreConfiguration, FolderListing
from nbpipe.resolve.datastore_settings import PROFILE, datastore_of
from nbpipe.resolve.store_path import StorePath, parse_store_path
from nbpipe.resolve.workspace_layout import SETTINGS
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.datastores import Datastores, FolderUsage, StoreTest, open_datastores
from nbpipe.workspace.store_copies import StoreCopier


@dataclass(frozen=True, slots=True)
class DatastoreListResponse:
    """The configured datastores, the name of the default one, and the settings file, if there is one."""

    datastores: Sequence[DatastoreConfiguration]
    default: str
    file: Path | None


@dataclass(frozen=True, slots=True)
class DatastoreTestResponse:
    """What the datastores can do, or why they cannot be used."""

    tests: Sequence[StoreTest]


@dataclass(frozen=True, slots=True)
class DatastoreAddedResponse:
    """A datastore that was added to a settings file."""

    configuration: DatastoreConfiguration
    file: Path


@dataclass(frozen=True, slots=True)
class DefaultStoreResponse:
    """The name of the datastore in which outputs are stored."""

    name: str


@dataclass(frozen=True, slots=True)
class StoreListingResponse:
    """What is in a folder of a datastore; ``now`` is in seconds since the epoch."""

    place: StorePath
    listing: FolderListing
    now: float


@dataclass(frozen=True, slots=True)
class StoreUsageResponse:
    """The number and size of the objects below a place, by folder."""

    place: StorePath
    usage: Sequence[FolderUsage]


@dataclass(frozen=True, slots=True)
class StoreChangeResponse:
    """How many objects were copied or deleted, with their size in bytes; ``done`` is the verb's past tense."""

    done: str
    objects: int
    bytes: int


def datastores_list(_invocation: Invocation, caller: Caller) -> DatastoreListResponse:
    """Return the configured datastores."""
    with open_datastores(caller.folder) as datastores:
        layout = datastores.layout
        return DatastoreListResponse(list(datastores.configured.values()), layout.default_store, layout.settings_file)


def datastores_test(invocation: Invocation, caller: Caller) -> DatastoreTestResponse:
    """Return what the named datastores, or all, can do."""
    with open_datastores(caller.folder) as datastores:
        names = invocation[options.SOME_DATASTORES] or tuple(datastores.configured)
        return DatastoreTestResponse(datastores.test(names))


def datastores_add(invocation: Invocation, caller: Caller) -> DatastoreAddedResponse:
    """Add a datastore to the settings file."""
    datastores = Datastores.near(caller.folder)
    file = datastores.layout.settings_file or datastores.layout.base / SETTINGS
    name = invocation[options.DATASTORE]
    table: dict[str, object] = {"url": invocation[options.URL]}
    store_options, credentials = invocation[options.STORE_OPTION], invocation[options.CREDENTIAL]
    if store_options:
        table["options"] = store_options
    if invocation[options.USES_PROFILE]:
        table["credentials"] = PROFILE
    elif credentials:
        table["credentials"] = credentials
    if invocation[options.READ_ONLY]:
        table["write"] = False
    configuration = datastore_of(name, table, file)
    try:
        add_datastore(file, name, table)
    except PermissionError as error:
        raise StoreOutOfReach(f"{file} cannot be written: {error.strerror}") from None
    return DatastoreAddedResponse(configuration, file)


def datastores_default(invocation: Invocation, caller: Caller) -> DefaultStoreResponse:
    """Return the datastore of outputs, after it was chosen if one is named."""
    with open_datastores(caller.folder) as datastores:
        layout, name = datastores.layout, invocation[options.ANY_DATASTORE]
        if name is None:
            return DefaultStoreResponse(layout.default_store)
        if name != DEFAULT_STORE:
            datastores.require_writable(name)
    file = layout.settings_file or layout.base / SETTINGS
    if name != DEFAULT_STORE or file.exists():
        choose_default(file, None if name == DEFAULT_STORE else name)
    return DefaultStoreResponse(name)


def datastores_ls(invocation: Invocation, caller: Caller) -> StoreListingResponse:
    """Return what is in a folder of a datastore."""
    place = parse_store_path(invocation[options.STORE_PLACE])
    with open_datastores(caller.folder) as datastores:
        return StoreListingResponse(place, datastores.listing(place), datastores.now())


def datastores_du(invocation: Invocation, caller: Caller) -> StoreUsageResponse:
    """Return the number and size of the objects below a place."""
    place = parse_store_path(invocation[options.STORE_PLACE])
    with open_datastores(caller.folder) as datastores:
        return StoreUsageResponse(place, datastores.usage(place))


def datastores_cp(invocation: Invocation, caller: Caller) -> StoreChangeResponse:
    """Copy a file or a folder into a datastore, out of it, or from one to another."""
    replaces = invocation[options.REPLACE]
    with open_datastores(caller.folder) as datastores:
        copier = StoreCopier(datastores, caller.folder)
        copies = copier.plan(invocation[options.COPIED], invocation[options.COPY_TARGET], replaces=replaces)
        total = sum(copy.size for copy in copies)
        with caller.transfer(f"copying {invocation[options.COPIED]}", total) as progress:
            copier.carry_out(copies, progress, replaces=replaces)
    return StoreChangeResponse("copied", len(copies), total)


def datastores_rm(invocation: Invocation, caller: Caller) -> StoreChangeResponse:
    """Delete an object, or all objects of a folder."""
    place = parse_store_path(invocation[options.STORE_PLACE])
    with open_datastores(caller.folder) as datastores:
        deleted = datastores.delete(place, whole_folder=invocation[options.RECURSIVE])
    return StoreChangeResponse("deleted", len(deleted), sum(info.size for info in deleted))
