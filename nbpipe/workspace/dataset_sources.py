"""The files that become a version of a dataset: found where they are, copied or listed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from nbpipe.data.artifacts import publish
from nbpipe.data.dataset_manifest import content_of_members, write_manifest
from nbpipe.data.dataset_tables import schema_to_text, write_table
from nbpipe.data.datastores import DRAFT
from nbpipe.data.file_pinning import glob_root, pin_files
from nbpipe.data.materializer import DistantStore
from nbpipe.data.secret_files import secret_files
from nbpipe.errors import BadUsage, DataChanged, FileMissing, StoreOutOfReach
from nbpipe.model import ObjectReference, PinnedKind, UnreadFiles
from nbpipe.model.datasets import (
    Column,
    DatasetContent,
    DatasetFiles,
    DatasetKind,
    DatasetMember,
    DatasetRecipe,
    RecipeKind,
)
from nbpipe.permissions import make_folder
from nbpipe.resolve.store_path import SCHEME, StorePath, parse_store_path
from nbpipe.workspace.context import WorkspaceContext

_FILE_URL = "file://"
_OF_STEPS = ("ds:", "param:")


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Files with their digests; ``name`` is that of the file, or of the folder that they are in."""

    name: str
    is_folder: bool
    members: tuple[DatasetMember, ...]

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum(member.size for member in self.members)

    @property
    def place(self) -> str:
        """Return the folder, or the place in a datastore, that the paths of the files begin at."""
        first = self.members[0]
        root = first.uri.removesuffix(first.path) if first.uri.startswith(SCHEME) else unquote(urlsplit(first.uri).path)
        return root.removesuffix(first.path).rstrip("/") or "/"

    @property
    def recipe(self) -> DatasetRecipe:
        """Return how the files are read if nothing else is said: as what they are."""
        return DatasetRecipe(RecipeKind.FOLDER if self.is_folder else RecipeKind.FILE)


def find_source(context: WorkspaceContext, text: str, base: Path) -> DatasetSource:
    """Return the files that a source names now: a path or a glob relative to ``base``, or a place in a datastore.

    Raise FileMissing if there are none, BadUsage for what only a step reads.
    """
    if not text or text.startswith(_OF_STEPS) or ("://" in text and not text.startswith(_FILE_URL)):
        hint = "Name a path, a glob or store:NAME/path. A step that reads it can register its output instead."
        raise BadUsage(f"`{text}` is not a source of files for a dataset", hint)
    source = _in_store(context, text) if text.startswith(SCHEME) else _on_disk(context, text, base)
    if not source.members:
        raise FileMissing(f"`{text}` has no files", "Name a folder with files, or a file.")
    return source


def _on_disk(context: WorkspaceContext, text: str, base: Path) -> DatasetSource:
    pattern = text.removeprefix(_FILE_URL)
    pinned = pin_files(pattern, base, context.digests)
    if pinned.kind is PinnedKind.FILE:
        path = Path(pinned.paths[0])
        only = DatasetMember(path.as_uri(), path.name, pinned.bytes, pinned.digest)
        return DatasetSource(path.name, is_folder=False, members=(only,))
    root = Path(pinned.paths[0]) if pinned.kind is PinnedKind.DIR else glob_root(pattern, base)
    if pinned.kind is PinnedKind.DIR:
        _require_no_secrets(text, secret_files(root, (path for path, _, _ in pinned.members)))
    members = tuple(DatasetMember((root / path).as_uri(), path, size, digest) for path, size, digest in pinned.members)
    return DatasetSource(root.name or "files", is_folder=True, members=members)


def _require_no_secrets(text: str, found: list[str]) -> None:
    """Raise BadUsage for a folder with secrets, which a version would keep, and a datastore would get."""
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        message = f"the folder `{text}` holds what looks like a secret: `{found[0]}`{more}"
        raise BadUsage(message, f"Move it out, or name the files that are the data: {text.rstrip('/')}/**/*.csv")


def _in_store(context: WorkspaceContext, text: str) -> DatasetSource:
    place = parse_store_path(text)
    remote = context.remote_inputs(context.environ)()
    pinned = remote.pin(text)
    if isinstance(pinned, UnreadFiles):
        with context.transfer(f"reading {text}", max(pinned.bytes, 0)) as progress:
            pinned = remote.read(text, progress)
    listed = remote.objects(text)
    found = context.dataset_bytes(context.environ).datastores().store(place.store).find_many(
        info.key for _, info, _ in listed
    )  # fmt: skip
    members = []
    for (path, info, digest), now in zip(listed, found, strict=True):
        # A listing has no ids of versions.
        if now is None or not info.is_still(now):
            message = f"`{StorePath(place.store, info.key)}` changed while it was registered"
            raise DataChanged(message, "Register it again.")
        uri = str(StorePath(place.store, info.key))
        members.append(DatasetMember(uri, path, info.size, digest, now.etag, now.version))
    is_folder = pinned.kind is not PinnedKind.FILE
    name = Path(pinned.paths[0]).name if pinned.kind is not PinnedKind.GLOB else place.store
    return DatasetSource(name, is_folder, tuple(members))


def reference_content(context: WorkspaceContext, source: DatasetSource, recipe: DatasetRecipe) -> DatasetContent:
    """Store the list of a source's files, and return the content of a version that refers to them."""
    digest = content_of_members(source.members, folder=recipe.is_folder)
    with _draft_folder(context) as folder:
        path = write_manifest(folder, source.name, source.members)
        reference = _published(context, path, "file")
    return DatasetContent(DatasetKind.REFERENCED, digest, source.bytes, recipe, reference)


def kept_content(
    context: WorkspaceContext,
    source: DatasetSource,
    recipe: DatasetRecipe,
    files: DatasetFiles,
    progress: Callable[[int], None],
) -> DatasetContent:
    """Store copies of a source's ``files``, and return the content of a version that nbpipe keeps.

    Raise DataChanged if a file is no longer what it was.
    """
    digest = content_of_members(source.members, folder=recipe.is_folder)
    with _draft_folder(context) as folder:
        staged = folder / source.name
        _copy(files, staged, progress, is_folder=recipe.is_folder)
        reference = _published(context, staged, "dir" if recipe.is_folder else "file")
    if reference.digest != digest:
        raise DataChanged(f"files of `{source.name}` changed while they were copied", "Try again later.")
    return DatasetContent(DatasetKind.KEPT, digest, source.bytes, recipe, reference)


def table_content(context: WorkspaceContext, name: str, table: Any) -> DatasetContent:
    """Store an Arrow table, and return the content of a version that it is."""
    with _draft_folder(context) as folder:
        staged = folder / name
        try:
            make_folder(staged)
            write_table(table, staged / "part-0.arrow")
        except OSError as error:
            raise _not_written(staged, error) from error
        reference = _published(context, staged, "dir")
    columns = tuple(Column(field.name, str(field.type)) for field in table.schema)
    return DatasetContent(
        DatasetKind.KEPT, reference.digest, reference.bytes, DatasetRecipe(RecipeKind.ARROW), reference, columns,
        table.num_rows, schema_to_text(table.schema),
    )  # fmt: skip


def _copy(files: DatasetFiles, staged: Path, progress: Callable[[int], None], *, is_folder: bool) -> None:
    try:
        for relative, path in files.files:
            target = staged / relative if is_folder else staged
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            progress(target.stat().st_size)
    except OSError as error:
        message = f"`{error.filename}` could not be copied into the workspace: {error.strerror or error}"
        raise StoreOutOfReach(message, "Free some space there, or register it with --reference.") from error


def _published(context: WorkspaceContext, staged: Path, format: str) -> ObjectReference:
    """Store a file or folder where the outputs of steps are stored, and return what it is stored as."""
    context.claim_output_store()
    store = context.materializer.store(context.layout.default_store)
    reference = publish(store, staged, name=staged.name, format=format).reference
    if isinstance(store, DistantStore):
        context.history.object_digests.remember(store.take_written())
    return reference


@contextmanager
def _draft_folder(context: WorkspaceContext) -> Iterator[Path]:
    """Yield a new folder beside the stored objects, so that what is written there is moved and not copied again."""
    folder = context.layout.store / f"{DRAFT}{uuid4().hex}"
    try:
        make_folder(folder)
    except OSError as error:
        raise _not_written(folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _not_written(path: Path, error: OSError) -> StoreOutOfReach:
    """Return the error for what the workspace has no room for; Arrow says the reason in a long text."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StoreOutOfReach(f"`{path}` could not be written: {reason}", "Free some space there, and register it again.")
