"""Cache of the cells of text notebooks in the workspace: without it, each command would wait until jupytext is loaded.

An entry is valid for the bytes of the notebook, the version of jupytext, and our own code that reads its cells. A
damaged entry counts as missing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nbpipe import language
from nbpipe.codec import decode, encode_sparse
from nbpipe.data.atomic_file import write_file
from nbpipe.data.digests import bytes_digest, short_digest
from nbpipe.data.regular_file import read_regular
from nbpipe.language.notebook_file import NotebookFile, is_text_notebook, read_notebook
from nbpipe.model import Cell
from nbpipe.permissions import make_folder

_READER = "text_notebook.py"


@dataclass(frozen=True, slots=True)
class _Entry:
    """What was read of a notebook: ``key`` is the digest of all that it depends on, ``cells`` have sorted tags."""

    key: str
    cells: tuple[tuple[int, str, str, tuple[str, ...]], ...]
    kernel: str | None = None
    language: str | None = None


def read_cached_notebook(path: Path, folder: Path, *, keep: bool) -> NotebookFile:
    """Return a notebook; the cells of a text notebook come from the cache in a folder, and are cached with ``keep``.

    Raise NotebookUnreadable if it cannot be read.
    """
    key = _key(path) if is_text_notebook(path) else None
    if key is None:
        return read_notebook(path)
    place = folder / f"{short_digest(bytes_digest(os.fsencode(os.path.relpath(path, folder))), 32)}.cells.json"
    with suppress(OSError, ValueError, RecursionError):
        found = decode(read_regular(place), _Entry)
        if found.key == key:
            cells = tuple(Cell(number, source, id_, frozenset(tags)) for number, source, id_, tags in found.cells)
            return NotebookFile(path, cells, found.kernel, found.language)
    notebook = read_notebook(path)
    if keep and key == _key(path):
        _remember(place, key, notebook)
    return notebook


def _remember(place: Path, key: str, notebook: NotebookFile) -> None:
    cells = tuple((cell.number, cell.source, cell.id, tuple(sorted(cell.tags))) for cell in notebook.cells)
    # Failing to cache is not an error: the notebook has been read.
    with suppress(OSError, ValueError):
        if place.parent.parent.stat().st_uid == os.geteuid():
            make_folder(place.parent)
            payload = encode_sparse(_Entry(key, cells, notebook.kernel, notebook.language)).encode()
            write_file(place, payload, durable=False)


def _key(path: Path) -> str | None:
    """Return the digest of all that the cells depend on; None if that is unknown."""
    try:
        reader = Path(language.__path__[0], _READER).read_bytes()
        parts = [path.read_bytes(), reader, version("jupytext").encode()]
    except (OSError, PackageNotFoundError):
        return None
    return bytes_digest(b"".join(len(part).to_bytes(8, "big") + part for part in parts))
