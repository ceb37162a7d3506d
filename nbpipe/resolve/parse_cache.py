"""Cache of parsed notebooks in the workspace, for commands that have just been started.

A parsed notebook depends on the cells, on the versions of Python and IPython, and on nbpipe's own code: its name is a
digest of all of these. A damaged entry counts as missing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nbpipe import errors, language, model
from nbpipe.data.atomic_file import write_file
from nbpipe.data.digests import bytes_digest, short_digest
from nbpipe.data.regular_file import read_regular
from nbpipe.entry_points import load_entry_point
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.language.parsed_notebook_codec import decode_notebook, encode_notebook
from nbpipe.model import Cell
from nbpipe.permissions import make_folder

# Loaded by its name: a command that finds its notebook in the cache waits for no parser.
_PARSE = "nbpipe.language.notebook_parser:parse_cells"

_FORM = "2"
# Newer source files may have changed since they were loaded.
_YOUNG_SECONDS = 10.0
_LOADED = time.time()


class ParseCache:
    """Parsed notebooks in a folder, which is created with the first entry; ``more_settings`` are the workspace's."""

    def __init__(self, folder: Path, now: float, more_settings: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._folder = folder
        self._now = now
        self._more_settings = more_settings or {}

    def read(self, notebook: Path, cells: Sequence[Cell]) -> ParsedNotebook:
        """Return the parsed cells: from the cache, or parsed now and cached."""
        path, name = self._entry(notebook, cells)
        cached = _recall(path, name)
        if cached is not None:
            return cached
        reading = parse(cells, self._more_settings)
        # The parser may have been loaded just now, and its source replaced since the name was made.
        if name is not None and _is_ours(self._folder.parent) and self._entry(notebook, cells) == (path, name):
            _remember(path, name, encode_notebook(reading))
        return reading

    def recall(self, notebook: Path, cells: Sequence[Cell]) -> ParsedNotebook:
        """Return the parsed cells: from the cache, or parsed now; nothing is written."""
        return _recall(*self._entry(notebook, cells)) or parse(cells, self._more_settings)

    def _entry(self, notebook: Path, cells: Sequence[Cell]) -> tuple[Path, str | None]:
        """Return the file of a notebook's entry and the name that a valid one has; None if nothing can be cached."""
        # Relative, so that the cache stays valid when the workspace moves.
        relative = os.fsencode(os.path.relpath(notebook, self._folder))
        path = self._folder / f"{short_digest(bytes_digest(relative), 32)}.txt"
        try:
            return path, _name(cells, self._now, self._more_settings)
        except (OSError, UnicodeEncodeError):
            return path, None


def parse(cells: Sequence[Cell], more_settings: Mapping[str, tuple[str, ...]]) -> ParsedNotebook:
    """Return the cells, parsed now with these settings beyond the table."""
    reading: ParsedNotebook = load_entry_point(_PARSE)(cells, more_settings)
    return reading


def _is_ours(folder: Path) -> bool:
    """Return whether the workspace exists and belongs to this user: readers leave nothing in another one."""
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _recall(path: Path, name: str | None) -> ParsedNotebook | None:
    try:
        head, _, text = read_regular(path).partition(b"\n") if name is not None else (b"", b"", b"")
        return decode_notebook(text.decode("ascii")) if head.decode("ascii") == _head(name or "", text) else None
    except (OSError, ValueError, RecursionError):
        return None


def _remember(path: Path, name: str, text: str | None) -> None:
    # Failing to cache is not an error: the cells have been parsed.
    with suppress(OSError):
        if text is None:
            path.unlink(missing_ok=True)
            return
        make_folder(path.parent)
        payload = text.encode("ascii")
        write_file(path, _head(name, payload).encode("ascii") + b"\n" + payload, durable=False)


def _head(name: str, text: bytes) -> str:
    return f"{name} {bytes_digest(text)}"


def reading_digest(cells: Iterable[Cell], more_settings: Mapping[str, tuple[str, ...]] | None = None) -> str | None:
    """Return the digest of cells, of the workspace's settings, and of the code that parses them in this process.

    None if that code is unknown, because its files may have changed since they were loaded, and for cells that are not
    valid text.
    """
    code = _loaded_code()
    try:
        return None if code is None else _digest([code.encode(), *_cell_parts(cells, more_settings or {})])
    except UnicodeEncodeError:
        return None


@cache
def _loaded_code() -> str | None:
    try:
        # Some installers preserve the modification time: only the change time says when a file was installed.
        if any(_LOADED - path.stat().st_ctime < _YOUNG_SECONDS for path in _sources()):
            return None
        parts = _code_parts(_LOADED)
    except OSError:
        return None
    return None if parts is None else _digest(parts)


def _name(cells: Iterable[Cell], now: float, more_settings: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the digest of everything that parsing depends on; None while our source may be newer than the code."""
    code = _code_parts(now)
    return None if code is None else _digest([*code, *_cell_parts(cells, more_settings)])


def _code_parts(now: float) -> list[bytes] | None:
    parts = [_FORM.encode(), sys.version.encode(), _ipython().encode()]
    for path in _sources():
        if now - path.stat().st_mtime < _YOUNG_SECONDS:
            return None
        parts += [path.name.encode(), path.read_bytes()]
    return parts


def _cell_parts(cells: Iterable[Cell], more_settings: Mapping[str, tuple[str, ...]]) -> list[bytes]:
    texts = [(str(cell.number), cell.source, cell.id, ",".join(sorted(cell.tags))) for cell in cells]
    set_up = [("setting", name, *users) for name, users in more_settings.items()]
    return [text.encode("utf-8") for each in (*texts, *set_up) for text in each]


def _digest(parts: Iterable[bytes]) -> str:
    # Each with its length, so that different lists of parts have different digests.
    return bytes_digest(b"".join(len(part).to_bytes(8, "big") + part for part in parts))


def _sources() -> list[Path]:
    """Return the source files of the modules that parse notebooks."""
    folders = [Path(folder) for package in (language, model) for folder in package.__path__]
    return [*sorted(path for folder in folders for path in folder.glob("*.py")), Path(errors.__file__)]


def _ipython() -> str:
    try:
        return version("ipython")
    except PackageNotFoundError:
        return ""
