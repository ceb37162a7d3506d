"""The stores of a job on its worker: where its inputs are read, and where its outputs are stored."""

from __future__ import annotations

import importlib
from pathlib import Path

from nbpipe.data.datastores import LocalStore
from nbpipe.data.materializer import ArtifactStore, Materializer
from nbpipe.model import Job


def stores_of(job: Job) -> Materializer:
    """Return the stores that a job may use; nothing is opened yet."""
    accesses = {access.configuration.name: access for access in job.stores}

    def opened(name: str) -> ArtifactStore:
        access = accesses[name]
        # Imported here: the outputs of most workspaces are in their own folder.
        stores = importlib.import_module("nbpipe.data.stores.opening")
        artifacts = importlib.import_module("nbpipe.data.stores.remote_artifacts")
        cache = importlib.import_module("nbpipe.data.stores.object_cache").ObjectCache(Path(job.cache))
        store: ArtifactStore = artifacts.RemoteArtifacts(stores.open_with(access), cache, access.configuration.address)
        return store

    own = LocalStore(Path(job.store))
    return Materializer({own.name: own}, opened)
