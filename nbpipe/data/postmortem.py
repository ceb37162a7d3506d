"""The variables of a failing frame, kept for later inspection. Shipped to steps' kernels as source.

Plain values, arrays and tables are kept unchanged, others as a short text. Time and size are limited to about a second
and some megabytes, so that a failure does not become worse. Names that sound like secrets, and values that contain an
environment variable's value, are left out; only the owner can read the folder.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

from nbpipe.data import formats
from nbpipe.data.atomic_file import create_file
from nbpipe.data.regular_file import read_regular

FOLDER = "postmortem"
_INDEX = "frame.json"
_SECONDS = 1.0
_BYTES = 16_000_000
_NAMES = 200
_SHOWN = 2_000
_LEAVES = 20_000
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_SECRET = re.compile(r"secret|passw|token|api_?key|credential|private_?key", re.IGNORECASE)
_ORDINARY = re.compile(r"PATH|HOME|USER|TMPDIR|LANG|LC_\w+|TZ|PWD|SHLVL|_|\w*_NUM_THREADS|JPY_\w+|MPLBACKEND|TERM\w*")
_SHELLS = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})
# Shorter values of variables appear in too many texts by chance.
_TELLING = 6


class ValueText(str):
    """The text of a value that could not be kept itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Postmortem:
    """A failing frame: the function, its line in its file, and the values of its names."""

    function: str
    line: int
    held: Mapping[str, Any]


@dataclass(slots=True)
class _ValueSaver:
    """Saves values one by one; ``entries`` are complete after each."""

    folder: Path
    hidden: tuple[str, ...]
    deadline: float
    bytes_left: int = _BYTES
    entries: dict[str, dict[str, str]] = field(default_factory=dict)

    def keep(self, names: Mapping[str, Any]) -> None:
        for name, value in names.items():
            if time.monotonic() > self.deadline:
                return
            try:
                entry = (
                    {"text": "(left out: its name sounds like a secret)"} if _SECRET.search(name) else self._one(value)
                )
            except Exception as error:  # noqa: BLE001  # an author's class may raise anything when it is looked at
                entry = {"text": f"(cannot be shown: {type(error).__name__})"}
            self.entries[name] = entry

    def _one(self, value: Any) -> dict[str, str]:
        if isinstance(value, str | bytes) and len(value) > self.bytes_left:
            # The time for all values would be spent on a text of which only the beginning is shown.
            return self._shown(value[: 2 * _SHOWN])
        if _is_plain(value):
            text = repr(value)
            if len(text) <= self.bytes_left and not self._reveals(text) and _is_literal(text):
                self.bytes_left -= len(text)
                return {"plain": text}
        size, format = _measured(value)
        if format and size <= self.bytes_left:
            self.bytes_left -= size
            # A value that its format cannot store is kept as text.
            with contextlib.suppress(formats.NotStorable):
                saved = formats.save(value, name=f"value-{len(self.entries)}", format=format, folder=self.folder)
                (self.folder / saved.basename).chmod(0o600)
                return {"file": saved.basename, "format": saved.format}
        return self._shown(value)

    def _shown(self, value: Any) -> dict[str, str]:
        text = repr(value)
        return {"text": "(left out: it holds an environment variable)" if self._reveals(text) else text[:_SHOWN]}

    def _reveals(self, text: str) -> bool:
        return any(secret in text for secret in self.hidden)


def keep_postmortem(
    error: BaseException, folder: Path, own: Callable[[str], bool], known: Collection[str] = ()
) -> None:
    """Save the innermost frame of the author's code, in files for which ``own`` is true, as far as possible.

    ``known`` names are left out of a cell's frame: they can be restored without it.
    """
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if own(frame.f_code.co_filename)]
    if not frames or not isinstance(error, Exception) or isinstance(error, MemoryError):
        return
    frame, line = frames[-1]
    place = folder / FOLDER
    try:
        place.mkdir(mode=0o700)
    except OSError:
        return
    saver = _ValueSaver(place, tuple(_environment()), time.monotonic() + _SECONDS)
    # A thread, because the author's code may take arbitrarily long to represent a value.
    worker = threading.Thread(target=saver.keep, args=(_names(frame, known),), daemon=True)
    worker.start()
    worker.join(_SECONDS)
    index = {"function": frame.f_code.co_name, "line": line, "values": dict(saver.entries)}
    try:
        create_file(place / _INDEX, json.dumps(index).encode("utf-8", "surrogatepass"), mode=0o600, durable=False)
    except OSError:
        return


def read_postmortem(folder: Path) -> Postmortem | None:
    """Return the postmortem in an attempt's folder, or None."""
    place = folder / FOLDER
    try:
        index = json.loads(read_regular(place / _INDEX).decode("utf-8", "surrogatepass"))
        values = {name: _value(place, entry) for name, entry in index["values"].items()}
        return Postmortem(index["function"], index["line"], values)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def names_kept(folder: Path) -> tuple[str, ...]:
    """Return the names that were kept in an attempt's folder, without their values."""
    try:
        index = json.loads(read_regular(folder / FOLDER / _INDEX).decode("utf-8", "surrogatepass"))
        return tuple(index["values"])
    except (OSError, ValueError, LookupError, TypeError):
        return ()


def _value(place: Path, entry: Mapping[str, str]) -> Any:
    if "plain" in entry:
        return ast.literal_eval(entry["plain"])
    if entry.get("format") not in ("npy", "arrow"):
        return ValueText(entry["text"])
    try:
        return formats.load(place / Path(entry["file"]).name, entry["format"])
    except (OSError, ValueError, TypeError, ImportError) as error:
        return ValueText(f"(cannot be read: {error})")


def _names(frame: FrameType, known: Collection[str]) -> dict[str, Any]:
    """Return a frame's names and values; for a cell's frame without code and IPython's names."""
    names = dict(frame.f_locals)
    if frame.f_code.co_name == "<module>":
        code = (ModuleType, FunctionType, type)
        names = {
            name: value
            for name, value in names.items()
            if not name.startswith("_") and name not in _SHELLS and name not in known and not isinstance(value, code)
        }
    return dict(list(names.items())[:_NAMES])


def _environment() -> Iterator[str]:
    return (value for name, value in os.environ.items() if len(value) >= _TELLING and not _ORDINARY.fullmatch(name))


def _is_plain(value: Any) -> bool:
    """Return whether a value consists only of Python's plain types, and is not too large."""
    todo, count = [(value, 0)], 0
    while todo:
        item, depth = todo.pop()
        count += 1
        kind = type(item)
        if count > _LEAVES or depth > 20:
            return False
        if kind is dict:
            todo += [(part, depth + 1) for pair in item.items() for part in pair]
        elif kind in (list, tuple, set):
            todo += [(part, depth + 1) for part in item]
        elif kind not in _PLAIN:
            return False
    return True


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _measured(value: Any) -> tuple[int, str]:
    """Return the approximate size of an array or a table, and its format; an empty format for anything else."""
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if kind == "numpy.ndarray":
        return (value.nbytes, "npy") if not value.dtype.hasobject else (0, "")
    if kind in ("pandas.DataFrame", "pandas.Series"):
        used = value.memory_usage(index=True)
        # Texts are counted as pointers.
        return int(getattr(used, "sum", lambda: used)()) * 4, "arrow"
    if kind in ("polars.DataFrame", "polars.Series"):
        return int(value.estimated_size()), "arrow"
    return (int(value.nbytes), "arrow") if kind == "pyarrow.Table" else (0, "")
