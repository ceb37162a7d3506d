"""The output of the verbs about datastores in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import COLUMNS, show_lines
from nbpipe.magics.kernel_session import KernelSession
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


def render_list(_session: KernelSession, response: DatastoreListResponse) -> None:
    """Show the configured datastores."""
    show_lines(tables.datastore_lines(response.datastores, response.default, COLUMNS))


def render_tests(_session: KernelSession, response: DatastoreTestResponse) -> None:
    """Show what datastores can do; raise the first error."""
    tests = [
        (each.configuration, each.seconds, each.traits, each.error.message if each.error else "")
        for each in response.tests
    ]
    show_lines(tables.test_lines(tests, COLUMNS))
    for each in response.tests:
        if each.error is not None:
            raise each.error


def render_added(_session: KernelSession, response: DatastoreAddedResponse) -> None:
    """Show that a datastore was added."""
    show_lines(tables.added_lines(response.configuration, str(response.file)))


def render_default(_session: KernelSession, response: DefaultStoreResponse) -> None:
    """Show the datastore of outputs."""
    show_lines([tables.default_line(response.name)])


def render_listing(_session: KernelSession, response: StoreListingResponse) -> None:
    """Show a folder of a datastore."""
    show_lines(tables.listing_lines(response.listing, COLUMNS, response.now))


def render_usage(_session: KernelSession, response: StoreUsageResponse) -> None:
    """Show how much is stored in a place."""
    show_lines(tables.usage_lines([(each.name, each.objects, each.bytes) for each in response.usage], COLUMNS))


def render_change(_session: KernelSession, response: StoreChangeResponse) -> None:
    """Show how much was copied or deleted."""
    show_lines([tables.change_line(response.done, response.objects, response.bytes)])
