"""The outputs of a workspace that are in configured datastores, and what opens these datastores on a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbpipe.data.materializer import ArtifactStore
from nbpipe.data.stores.credentials import credential_values
from nbpipe.data.stores.object_cache import ObjectCache
from nbpipe.data.stores.remote_artifacts import RemoteArtifacts
from nbpipe.history.object_digests import ObjectDigestRepository
from nbpipe.model.datastores import StoreAccess
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.remote_inputs import cache_folder
from nbpipe.resolve.store_ownership import claim_outputs, require_mark
from nbpipe.resolve.workspace_layout import WorkspaceLayout


def artifact_store(
    layout: WorkspaceLayout, digests: ObjectDigestRepository, environ: Mapping[str, str], name: str
) -> ArtifactStore:
    """Return the outputs in a datastore; raise KeyError if none of this name is configured."""
    datastores = OpenDatastores.of(layout, environ)
    configuration = datastores.configured[name]
    cache = ObjectCache(cache_folder(environ, layout.root))
    store = datastores.store(name)
    return RemoteArtifacts(store, cache, configuration.address, digests.recall, digests.count)


def claim_default_store(layout: WorkspaceLayout, environ: Mapping[str, str]) -> None:
    """Make the datastore of outputs this workspace's; raise BadUsage if it is another's."""
    datastores = OpenDatastores.of(layout, environ)
    try:
        claim_outputs(datastores.store(layout.default_store, writes=True), layout)
    finally:
        datastores.close()


def require_own_store(layout: WorkspaceLayout, environ: Mapping[str, str], name: str) -> None:
    """Raise BadUsage unless a datastore has the mark of this workspace, KeyError if there is none of this name."""
    datastores = OpenDatastores.of(layout, environ)
    if name not in datastores.configured:
        raise KeyError(name)
    try:
        require_mark(datastores.store(name, writes=True), layout)
    finally:
        datastores.close()


def store_access(layout: WorkspaceLayout, environ: Mapping[str, str], names: Sequence[str]) -> tuple[StoreAccess, ...]:
    """Return what opens the named datastores on a worker; raise BadUsage or DatastoreUnavailable if that is missing."""
    datastores = OpenDatastores.of(layout, environ)
    configured = [datastores.configuration(name) for name in names]
    return tuple(StoreAccess(each, credential_values(each, environ)) for each in configured)
