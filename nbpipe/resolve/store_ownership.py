"""Which workspace a datastore of outputs belongs to: each has one, which alone removes what nobody needs any more.

The datastore holds a mark with the id of its workspace and the place where that was. A copy of a workspace has the same
id and another place; it is told from a workspace that was moved by what is still at that place.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from nbpipe.codec import decode, encode_sparse
from nbpipe.data.atomic_file import write_file
from nbpipe.data.regular_file import read_regular
from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.errors import BadUsage, ObjectExists, StoreOutOfReach
from nbpipe.resolve.workspace_layout import WorkspaceLayout

OWNER = "nbpipe-store.json"
"""The key of the mark."""

_ID_LENGTH = 32


@dataclass(frozen=True, slots=True)
class StoreOwner:
    """The workspace of a datastore: its id, and the host and the folder where it was."""

    workspace: str
    host: str
    folder: str


def claim_outputs(store: ObjectStore, layout: WorkspaceLayout) -> None:
    """Make a datastore that of this workspace's outputs.

    Raise BadUsage if it is another workspace's, and StoreOutOfReach if it cannot be read, or written where that is
    needed.
    """
    own = _this(layout)
    found = store.find(OWNER)
    if found is None:
        try:
            store.put_new(OWNER, encode_sparse(own).encode())
        except ObjectExists:
            found = store.find(OWNER)
    if found is not None and _owner(store, own) != own:
        store.put(OWNER, encode_sparse(own).encode())


def require_mark(store: ObjectStore, layout: WorkspaceLayout) -> None:
    """Raise BadUsage unless a datastore has the mark of this workspace."""
    if store.find(OWNER) is None:
        raise BadUsage(f"the datastore `{store.name}` has no mark that says whose outputs it has", "Run a step first.")
    _owner(store, _this(layout))


def _this(layout: WorkspaceLayout) -> StoreOwner:
    return StoreOwner(_workspace_id(layout), socket.gethostname(), str(layout.root))


def _owner(store: ObjectStore, own: StoreOwner) -> StoreOwner:
    """Return the mark of a datastore; raise BadUsage if it is not this workspace's."""
    owner = _read(store)
    if owner.workspace != own.workspace or _is_copy(owner, own):
        message = f"the datastore `{store.name}` has the outputs of another workspace: {owner.folder} on {owner.host}"
        hint = f"Use another prefix in `url` of [datastores.{store.name}], or work in that workspace."
        raise BadUsage(message, hint)
    return owner


def _read(store: ObjectStore) -> StoreOwner:
    try:
        return decode(store.read(OWNER), StoreOwner)
    except ValueError as error:
        message = f"`store:{store.name}/{OWNER}` is not the mark of a workspace: {error}"
        raise StoreOutOfReach(message, "If no workspace uses the datastore, delete it.") from None


def _is_copy(owner: StoreOwner, own: StoreOwner) -> bool:
    """Return whether the workspace that owns the datastore is still at its place, so that this one is a copy."""
    there = Path(owner.folder)
    if owner.host != own.host or there == Path(own.folder):
        return False
    try:
        return _id_at(there) == owner.workspace and not there.samefile(own.folder)
    except OSError:
        return False


def _workspace_id(layout: WorkspaceLayout) -> str:
    """Return the workspace's id, which is made when it is first needed."""
    try:
        return _id_at(layout.root)
    except FileNotFoundError:
        write_file(layout.id_file, secrets.token_hex(_ID_LENGTH // 2).encode(), durable=True)
        return _id_at(layout.root)


def _id_at(root: Path) -> str:
    return read_regular(WorkspaceLayout(root).id_file)[:_ID_LENGTH].decode("ascii", "replace")
