"""Content-addressed data: pinned files and stored outputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_STORE = "default"
"""The name of the datastore in the workspace's own folder."""

DISPLAY = "display"
"""The format of what a step displayed and printed."""


class PinnedKind(StrEnum):
    """What a declared path names."""

    FILE = "file"
    DIR = "dir"
    GLOB = "glob"


@dataclass(frozen=True, slots=True)
class PinnedFiles:
    """Files pinned by content: ``members`` are (relative path, bytes, digest)."""

    kind: PinnedKind
    paths: tuple[str, ...]
    digest: str
    bytes: int
    members: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class UnreadFiles:
    """Files elsewhere that are too large to read only for a plan: their source as written, and the bytes to read.

    The bytes are negative if nobody knows them yet.
    """

    text: str
    kind: PinnedKind
    bytes: int


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """A stored object; ``store`` is the name of its datastore, never a path or an address.

    ``basename`` is the name that readers see, ``bytes`` the size of the file, or of all files of the folder.
    """

    store: str
    digest: str
    basename: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored output: its name, its format, and a reference to its bytes.

    ``dataset`` is the version that an execution registered it as, ``NAME@NUMBER``; empty if it is in none.
    """

    name: str
    format: str
    reference: ObjectReference
    dataset: str = ""

    @property
    def is_display(self) -> bool:
        """Return whether this is what the step displayed, which no reader receives."""
        return self.format == DISPLAY

    @property
    def digest(self) -> str:
        """Return the digest of the output's bytes."""
        return self.reference.digest

    @property
    def bytes(self) -> int:
        """Return the output's size."""
        return self.reference.bytes

    @property
    def basename(self) -> str:
        """Return the name of the stored file or folder."""
        return self.reference.basename

    @property
    def is_path(self) -> bool:
        """Return whether readers receive a path instead of a value."""
        return self.format in ("file", "dir")

    @property
    def is_folder(self) -> bool:
        """Return whether the output is a folder."""
        return self.format == "dir"
