"""Stored outputs as tests meet them: references that are made up, and the files that a workspace keeps."""

from __future__ import annotations

from pathlib import Path

from nbpipe.data.datastores import DEFAULT_STORE, LocalStore
from nbpipe.data.materializer import Materializer
from nbpipe.model import Artifact, ObjectReference
from nbpipe.resolve.workspace_layout import find_workspace


def artifact_of(
    name: str,
    format: str,
    digest: str = "blake3:1",
    size: int = 10,
    *,
    basename: str = "",
    store: str = DEFAULT_STORE,
) -> Artifact:
    """Return an artifact of which only the record is there."""
    return Artifact(name, format, ObjectReference(store, digest, basename or f"{name}.{format}", size))


def materializer_of(folder: Path) -> Materializer:
    """Return what finds the stored objects of the workspace in a folder."""
    return Materializer({DEFAULT_STORE: LocalStore(find_workspace(folder).store)})


def path_in(folder: Path, artifact: Artifact) -> Path:
    """Return where the workspace in a folder keeps an output, or would keep it."""
    return materializer_of(folder).locate(artifact)
