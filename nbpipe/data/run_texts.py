"""Long texts that many attempts of a run share, such as the sources of local modules: each is stored once in its run.

A text is named by its digest, so that references to it stay valid when the workspace moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbpipe.data.atomic_file import write_file
from nbpipe.data.digests import bytes_digest, short_digest
from nbpipe.data.regular_file import read_regular
from nbpipe.permissions import make_folder

# Never the name of a step's folder.
FOLDER = "_texts"


@dataclass(frozen=True, slots=True)
class RunTexts:
    """The shared texts of the run with this directory."""

    run: Path

    def put(self, text: str) -> str:
        """Store a text, unless it is stored already, and return its name."""
        content = text.encode("utf-8", "surrogatepass")
        name = short_digest(bytes_digest(content), 40)
        path = self.run / FOLDER / name
        if not (path.is_file() and path.read_bytes() == content):
            make_folder(path.parent)
            write_file(path, content, durable=False)
        return name

    def get(self, name: str) -> str:
        """Return a stored text; raise OSError if it is missing."""
        return read_regular(self.run / FOLDER / name).decode("utf-8", "surrogatepass")
