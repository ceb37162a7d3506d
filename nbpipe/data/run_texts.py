"""Long texts that many attempts of a run share, such as the sources of local modules: each is stored once in its run.

A text is named by its digest, so that an attempt refers to it wherever its workspace lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbpipe.data.atomic_file import write_file
from nbpipe.data.digests import bytes_digest, short_digest

# No step's folder has this name.
FOLDER = "_texts"


@dataclass(frozen=True, slots=True)
class RunTexts:
    """The shared texts of the run with this directory."""

    run: Path

    def put(self, text: str) -> str:
        """Store a text, unless it is there, and return its name."""
        content = text.encode("utf-8", "surrogatepass")
        name = short_digest(bytes_digest(content), 40)
        path = self.run / FOLDER / name
        if not (path.is_file() and path.read_bytes() == content):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(path, content, mode=0o600, durable=False)
        return name

    def get(self, name: str) -> str:
        """Return a stored text; raise OSError when it is not there."""
        return (self.run / FOLDER / name).read_bytes().decode("utf-8", "surrogatepass")
