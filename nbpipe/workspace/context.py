"""The context that the services of a workspace share: its folders, history, store, clock and environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.data.materializer import ArtifactStore, Materializer
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import WorkspaceUntrusted
from nbpipe.history.claims import Claim, CollectionUnderWay
from nbpipe.history.store import History
from nbpipe.model import DEFAULT_STORE, PipelineWarning
from nbpipe.resolve.bound_datasets import DatasetInputs
from nbpipe.resolve.resolved_request import RemoteInputPinner
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.resolve.workspace_trust import TrustObjection, trust_hint, untrusted_words
from nbpipe.run.process_identity import is_alive, this_owner
from nbpipe.run.recovery import recover_runs

# Loaded by its name: most notebooks have no inputs in datastores.
_REMOTE = "nbpipe.resolve.remote_inputs:open_remote_inputs"
_DATASET_INPUTS = "nbpipe.resolve.dataset_inputs:DatasetInputs"
_DATASET_BYTES = "nbpipe.resolve.dataset_bytes:open_dataset_bytes"
_PAUSE = 0.2
# Nothing is collected while its owner lives: this is for owners on machines that nothing is known of.
_STORING_LEASE = 24 * 3600.0
_OWNERSHIP = "nbpipe.resolve.remote_artifacts:claim_default_store"
_ARTIFACTS = "nbpipe.resolve.remote_artifacts:artifact_store"


ShowTransfer = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a transfer, given what it is and its size; the function is told the bytes since the last."""


def _unseen(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _count: None)


@dataclass(slots=True)
class WorkspaceContext:
    """An open workspace without its services; ``clock`` returns seconds since the epoch.

    One with a reason for ``distrust`` is only looked into: nothing is loaded from it that could act. ``transfer`` shows
    the progress of what a plan reads from elsewhere.
    """

    layout: WorkspaceLayout
    history: History
    own_store: ArtifactStore
    digests: PersistentDigestCache
    distrust: tuple[TrustObjection, ...] = ()
    clock: Callable[[], float] = time.time
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    materializer: Materializer = field(init=False)
    transfer: ShowTransfer = _unseen

    def __post_init__(self) -> None:
        self.materializer = Materializer({self.own_store.name: self.own_store}, self._artifacts_in)

    def remote_inputs(self, environ: Mapping[str, str]) -> Callable[[], RemoteInputPinner]:
        """Return a function that returns what pins inputs in datastores, made when it is first called."""
        digests = self.history.object_digests
        return cache(lambda: load_entry_point(_REMOTE)(self.layout, digests, environ, self.transfer))

    def dataset_inputs(self, environ: Mapping[str, str], pins: MutableMapping[str, int]) -> Callable[[], DatasetInputs]:
        """Return a function that returns what binds inputs to versions of datasets, made when it is first called.

        ``pins`` are the numbers of the versions that inputs were bound to before, by their texts; it is added to.
        """
        return cache(
            lambda: load_entry_point(_DATASET_INPUTS)(self.history.datasets, self.dataset_bytes(environ), pins)
        )

    def dataset_bytes(self, environ: Mapping[str, str]) -> Any:
        """Return what reads the versions of datasets."""
        return load_entry_point(_DATASET_BYTES)(self.layout, self.materializer, self.digests, environ)

    def _artifacts_in(self, name: str) -> ArtifactStore:
        """Return the outputs in a configured datastore; raise KeyError if there is none of this name."""
        if name not in self.layout.datastores:
            raise KeyError(name)
        store: ArtifactStore = load_entry_point(_ARTIFACTS)(
            self.layout, self.history.object_digests, self.environ, name
        )
        return store

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Have nothing collected until the block ends, so that it may store bytes first and record them then."""
        claim = self._begin_storing()
        try:
            yield
        finally:
            self.history.claims.release(claim)

    def _begin_storing(self) -> Claim:
        owner = this_owner("storing")
        while True:
            try:
                return self.history.claims.begin_storing(owner=owner, now=self.clock(), lease=_STORING_LEASE)
            except CollectionUnderWay:
                # It takes seconds, or ends with its lease.
                time.sleep(_PAUSE)

    def claim_output_store(self) -> None:
        """Make the datastore of outputs this workspace's; raise BadUsage if it is another's."""
        if self.layout.default_store != DEFAULT_STORE:
            load_entry_point(_OWNERSHIP)(self.layout, self.environ)

    def recover(self) -> None:
        """End the runs that dead processes have left behind."""
        if self.distrust:
            return
        recover_runs(self.layout, self.history, self.digests, self.materializer, alive=is_alive, now=self.clock())

    def require_trust(self) -> None:
        """Raise WorkspaceUntrusted if nothing may be loaded from the workspace."""
        if self.distrust:
            raise WorkspaceUntrusted(untrusted_words(self.layout.root, self.distrust), trust_hint(self.layout.root))

    def warnings(self) -> tuple[PipelineWarning, ...]:
        """Return warnings about which workspace and settings are used, and which are not."""
        root = self.layout.root
        untrusted = PipelineWarning("workspace", untrusted_words(root, self.distrust), trust_hint(root))
        hint = "If it is to be used, let it and the folders down to the notebook belong to you."
        passed_over = [PipelineWarning("workspace", sentence, hint) for sentence in self.layout.passed_over]
        return (*([untrusted] if self.distrust else []), *passed_over)
