"""Notebooks as they were read before: a memory in the workspace, asked by a command that has just been started.

A reading depends on the cells, on the Python and the IPython that read them, and on nbpipe's own code: all of these
name it. Whatever is not exactly as it was written counts as never read.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nbpipe import errors, language, model
from nbpipe.data.atomic_file import write_file
from nbpipe.data.digests import bytes_digest, short_digest
from nbpipe.language.notebook_parser import ParsedNotebook, parse_cells
from nbpipe.language.parsed_notebook_codec import decode_notebook, encode_notebook
from nbpipe.model import Cell

_FORM = "1"
# Source that is younger may have changed since it was loaded.
_YOUNG_SECONDS = 10.0
_LOADED = time.time()


class ParseCache:
    """What a folder remembers of notebooks; it is made when there is something to remember."""

    def __init__(self, folder: Path, now: float) -> None:
        self._folder = folder
        self._now = now

    def read(self, notebook: Path, cells: Sequence[Cell]) -> ParsedNotebook:
        """Return what the cells say: as it was read before, or read now, and remembered."""
        try:
            name = _name(cells, self._now)
        except (OSError, UnicodeEncodeError):
            return parse_cells(cells)
        # Relative, so that a workspace that was moved still knows its notebooks.
        called = os.fsencode(os.path.relpath(notebook, self._folder))
        path = self._folder / f"{short_digest(bytes_digest(called), 32)}.txt"
        known = _recall(path, name)
        if known is not None:
            return known
        reading = parse_cells(cells)
        if name is not None and _is_ours(self._folder.parent):
            _remember(path, name, encode_notebook(reading))
        return reading


def _is_ours(folder: Path) -> bool:
    """Return whether the workspace is there and this user's own: in another one, whoever only looks leaves nothing."""
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _recall(path: Path, name: str | None) -> ParsedNotebook | None:
    try:
        head, _, text = path.read_bytes().partition(b"\n") if name is not None else (b"", b"", b"")
        return decode_notebook(text.decode("ascii")) if head.decode("ascii") == _head(name or "", text) else None
    except (OSError, ValueError, RecursionError):
        return None


def _remember(path: Path, name: str, text: str | None) -> None:
    # Never a reason to fail: a command that cannot remember has read the cells itself.
    with suppress(OSError):
        if text is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(exist_ok=True)
        payload = text.encode("ascii")
        write_file(path, _head(name, payload).encode("ascii") + b"\n" + payload, durable=False)


def _head(name: str, text: bytes) -> str:
    return f"{name} {bytes_digest(text)}"


def reading_digest(cells: Iterable[Cell]) -> str | None:
    """Return the digest of cells and of the code that reads them in this process, however long that has run.

    None where that code cannot be told, because its files may have changed since they were loaded, and for cells that
    are no valid text.
    """
    code = _loaded_code()
    try:
        return None if code is None else _digest([code.encode(), *_cell_parts(cells)])
    except UnicodeEncodeError:
        return None


@cache
def _loaded_code() -> str | None:
    try:
        # Some installers keep the time at which a file was written: only the other one tells when it came here.
        if any(_LOADED - path.stat().st_ctime < _YOUNG_SECONDS for path in _sources()):
            return None
        parts = _code_parts(_LOADED)
    except OSError:
        return None
    return None if parts is None else _digest(parts)


def _name(cells: Iterable[Cell], now: float) -> str | None:
    """Return the digest of all that a reading depends on; None while our own source may be newer than what runs."""
    code = _code_parts(now)
    return None if code is None else _digest([*code, *_cell_parts(cells)])


def _code_parts(now: float) -> list[bytes] | None:
    parts = [_FORM.encode(), sys.version.encode(), _ipython().encode()]
    for path in _sources():
        if now - path.stat().st_mtime < _YOUNG_SECONDS:
            return None
        parts += [path.name.encode(), path.read_bytes()]
    return parts


def _cell_parts(cells: Iterable[Cell]) -> list[bytes]:
    texts = ((str(cell.number), cell.source, cell.id, ",".join(sorted(cell.tags))) for cell in cells)
    return [text.encode("utf-8") for each in texts for text in each]


def _digest(parts: Iterable[bytes]) -> str:
    # Each with its length, so that no two lists of parts are taken alike.
    return bytes_digest(b"".join(len(part).to_bytes(8, "big") + part for part in parts))


def _sources() -> list[Path]:
    """Return the files of the modules that a reading is made by."""
    folders = [Path(folder) for package in (language, model) for folder in package.__path__]
    return [*sorted(path for folder in folders for path in folder.glob("*.py")), Path(errors.__file__)]


def _ipython() -> str:
    try:
        return version("ipython")
    except PackageNotFoundError:
        return ""
