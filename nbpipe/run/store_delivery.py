"""Delivers outputs to places in datastores, and replaces there only what nbpipe has put there itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from nbpipe.data.digests import NoDigestCache, folder_members
from nbpipe.data.materializer import Materializer
from nbpipe.data.object_keys import object_key
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.data.stores.remote_artifacts import is_same_object
from nbpipe.data.stores.stored_digest import stored_digest
from nbpipe.errors import ObjectExists, StoreOutOfReach
from nbpipe.history.deliveries import Delivery, DeliveryRepository
from nbpipe.model import Artifact
from nbpipe.model.datastores import ObjectInfo
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.store_path import StorePath
from nbpipe.resolve.workspace_layout import WorkspaceLayout

_AT_ONCE = 16


def open_delivery(
    run: str,
    layout: WorkspaceLayout,
    environ: Mapping[str, str],
    deliveries: DeliveryRepository,
    materializer: Materializer,
) -> StoreDelivery:
    """Return what delivers the outputs of a run to the datastores of a workspace."""
    return StoreDelivery(run, OpenDatastores.of(layout, environ), deliveries, materializer)


@dataclass(frozen=True, slots=True)
class _File:
    """A file to deliver: the key of its object, where it is on this machine, its size and digest."""

    key: str
    path: Path
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class StoreDelivery:
    """Delivers the outputs of one run."""

    run: str
    datastores: OpenDatastores
    deliveries: DeliveryRepository
    materializer: Materializer

    def deliver(self, step: str, artifact: Artifact, place: StorePath) -> None:
        """Write an output to a place: a folder below it, a file to it, or into it if it ends with a slash.

        Raise ObjectExists, before anything is written, if something is there that nbpipe did not put there and that
        has other bytes; StoreOutOfReach if the datastore cannot be used.
        """
        store = self.datastores.store(place.store, writes=True)
        address = self.datastores.configuration(place.store).address
        files = self._files(artifact, place)
        known = self.deliveries.find(address, [each.key for each in files])
        there = dict(zip([each.key for each in files], store.find_many([each.key for each in files]), strict=True))
        surplus = self._surplus(store, address, place, files) if artifact.is_folder else []
        for each in files:
            _require_own(store, each, there[each.key], known.get(each.key))
        new = [each for each in files if not _is_delivered(each, there[each.key], known.get(each.key))]
        begun = [
            Delivery(address, ObjectInfo(each.key, each.size), each.digest, self.run, step, artifact.name)
            for each in new
        ]
        self.deliveries.note(begun)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            written = list(pool.map(lambda each: self._write(store, each, there[each.key], artifact), new))
        self.deliveries.note([replace(each, info=info) for each, info in zip(begun, written, strict=True)])
        store.delete(surplus)
        self.deliveries.forget(address, surplus)

    def _files(self, artifact: Artifact, place: StorePath) -> list[_File]:
        path = self.materializer.path(artifact)
        if not artifact.is_folder:
            key = f"{place.key}{artifact.basename}" if place.is_folder else place.key
            return [_File(key, path, artifact.bytes, artifact.digest)]
        members = folder_members(path, NoDigestCache())
        return [_File(place.below(name).key, path / name, size, digest) for name, size, digest in members]

    def _surplus(self, store: ObjectStore, address: str, place: StorePath, files: Sequence[_File]) -> list[str]:
        """Return the keys of earlier deliveries below a folder that are no longer part of it.

        Raise ObjectExists if there is something else.
        """
        present = {each.key for each in files}
        others = {info.key: info for info in store.list(place.key) if info.key not in present}
        known = self.deliveries.find(address, list(others))
        for key, info in others.items():
            if key not in known or not is_same_object(known[key].info, info):
                message = f"`{place}` has `{key}`, which the output does not have and nbpipe did not put there"
                raise ObjectExists(message, "Name another folder, or one for each run: {run-id}.")
        return list(others)

    def _write(self, store: ObjectStore, file: _File, there: ObjectInfo | None, artifact: Artifact) -> ObjectInfo:
        source = artifact.reference.store
        same = (
            source in self.datastores.configured
            and not artifact.is_folder
            and (self.datastores.configuration(source).address == self.datastores.configuration(store.name).address)
        )
        if same:
            info = store.copy(object_key(artifact.reference), file.key)
        else:
            info = (store.put_new if there is None else store.put)(file.key, file.path)
        if info.size != file.size:
            message = f"`store:{store.name}/{file.key}` has {info.size} bytes and not {file.size}"
            raise StoreOutOfReach(message, "Check the datastore, then run again.")
        return info


def _is_delivered(file: _File, there: ObjectInfo | None, known: Delivery | None) -> bool:
    """Return whether an object has the bytes of a file already, as far as its datastore vouches for it."""
    return there is not None and known is not None and known.digest == file.digest and is_same_object(known.info, there)


def _require_own(store: ObjectStore, file: _File, there: ObjectInfo | None, known: Delivery | None) -> None:
    """Raise ObjectExists if an object is there that nbpipe did not put there, and that has other bytes."""
    if there is None or (known is not None and is_same_object(known.info, there)):
        return
    # A delivery that broke off may have written its object, and equal bytes need no permission.
    expected = {each.digest for each in (known,) if each is not None and not each.info.etag} | {file.digest}
    if stored_digest(store, file.key) in expected:
        return
    message = f"`store:{store.name}/{file.key}` is there already, and nbpipe did not put it there"
    raise ObjectExists(message, "Remove it, or name another place, for example one for each run: {run-id}.")
