"""The output of the verbs about datastores in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.resolve.store_path import StorePath
from nbpipe.verbs.datastore_calls import (
    DatastoreAddedResponse,
    DatastoreListResponse,
    DatastoreTestResponse,
    DefaultStoreResponse,
    StoreChangeResponse,
    StoreListingResponse,
    StoreUsageResponse,
)
from nbpipe.views import datastore_tables as tables


def render_list(caller: ShellCaller, response: DatastoreListResponse) -> int:
    """Print the configured datastores, and return the exit code."""
    screen = caller.screen
    if screen.as_json:
        screen.json(
            {
                "file": str(response.file) if response.file else None,
                "default": response.default,
                "datastores": [tables.datastore_object(each) for each in response.datastores],
            }
        )
    else:
        screen.lines(tables.datastore_lines(response.datastores, response.default, screen.columns))
    return 0


def render_tests(caller: ShellCaller, response: DatastoreTestResponse) -> int:
    """Print what datastores can do, and return the exit code."""
    screen = caller.screen
    if screen.as_json:
        objects = [
            {
                "name": each.configuration.name,
                "url": each.configuration.url,
                "ok": each.error is None,
                "seconds": each.seconds,
                "can": tables.traits_object(each.traits) if each.traits else None,
                "error": each.error.to_json() if each.error else None,
            }
            for each in response.tests
        ]
        screen.json({"datastores": objects})
    else:
        screen.lines(
            tables.test_lines(
                [(each.configuration, each.seconds, each.traits, each.error.message if each.error else "")
                 for each in response.tests],
                screen.columns,
            )
        )  # fmt: skip
        screen.errors([each.error for each in response.tests if each.error is not None])
    return next((each.error.exit_code for each in response.tests if each.error is not None), 0)


def render_added(caller: ShellCaller, response: DatastoreAddedResponse) -> int:
    """Print that a datastore was added, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json({"file": str(response.file), **tables.datastore_object(response.configuration)})
    else:
        caller.screen.lines(tables.added_lines(response.configuration, str(response.file)))
    return 0


def render_default(caller: ShellCaller, response: DefaultStoreResponse) -> int:
    """Print the datastore of outputs, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json({"default": response.name})
    else:
        caller.screen.lines([tables.default_line(response.name)])
    return 0


def render_listing(caller: ShellCaller, response: StoreListingResponse) -> int:
    """Print a folder of a datastore, and return the exit code."""
    screen = caller.screen
    if screen.as_json:
        screen.json(tables.listing_object(_place(response.place), response.listing))
    else:
        screen.lines(tables.listing_lines(response.listing, screen.columns, response.now))
    return 0


def render_usage(caller: ShellCaller, response: StoreUsageResponse) -> int:
    """Print how much is stored in a place, and return the exit code."""
    screen = caller.screen
    usage = [(each.name, each.objects, each.bytes) for each in response.usage]
    if screen.as_json:
        screen.json(tables.usage_object(_place(response.place), usage))
    else:
        screen.lines(tables.usage_lines(usage, screen.columns))
    return 0


def render_change(caller: ShellCaller, response: StoreChangeResponse) -> int:
    """Print how much was copied or deleted, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json({response.done: response.objects, "bytes": response.bytes})
    else:
        caller.screen.lines([tables.change_line(response.done, response.objects, response.bytes)])
    return 0


def _place(place: StorePath) -> dict[str, str]:
    return {"store": place.store, "path": place.key}
