"""Values as files: choosing a format, writing a value, and reading it back.

This file is shipped to steps' kernels as source. It imports the standard library at the top and other packages on use,
so that an environment needs only those that its own data need.

A reader gets exactly what was saved, including its type, which is recorded with the data. Three formats cannot record
it: ``png`` is read as an ``IPython.display.Image`` with the stored bytes in ``data``; ``json`` and ``csv``, when chosen
by name, return what JSON and CSV can represent.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.data import array_formats, format_packages, pickles, pictures, plain_formats, table_formats
from nbpipe.data.shared_objects import SharedObjects
from nbpipe.data.unpicklable import culprit
from nbpipe.data.value_format import ValueFormat
from nbpipe.data.value_types import UnsupportedValue, kind_of, library, type_name
from nbpipe.entry_points import FORMATS as ADDED
from nbpipe.entry_points import load_offered, offered
from nbpipe.errors import BadUsage, FormatUnavailable, NbpipeError


class NotStorable(Exception):
    """A value that its output's format cannot store; the message has the output, its type and a hint in one line."""


@dataclass(frozen=True, slots=True)
class SavedValue:
    """What was written; ``note`` is a message for the author, or empty."""

    format: str
    basename: str
    note: str


# Formats that lose little if a value is pickled instead; the others show a preview, or are read without being loaded.
_PICKLED_TO_SHARE = frozenset({"npy", "safetensors"})
_MAX_BASENAME = 200
_PATH_FORMAT = re.compile(r"file(\.[A-Za-z0-9][A-Za-z0-9._+-]*)?|dir")


def known(format: str) -> bool:
    """Return whether ``format`` is valid in a declaration."""
    return is_own(format) or bool(format_packages.offered_as(format))


def is_own(format: str) -> bool:
    """Return whether ``format`` is one of nbpipe's own, not another package's."""
    return format in FORMATS or format in ALIASES or is_path(format)


def names() -> tuple[str, ...]:
    """Return all formats by name, for suggestions."""
    added = dict.fromkeys(each.name for each in offered(ADDED))
    return (*FORMATS, *ALIASES, "file", "dir", *(name for name in added if not is_own(name)))


def libraries(format: str) -> tuple[str, ...]:
    """Return the modules that must be importable to write ``format``; none for files and folders."""
    if is_own(format):
        return () if is_path(format) else _format(format).libraries
    return tuple(each.module for each in format_packages.offered_as(format))


def writers(declared: Iterable[str | None]) -> set[str]:
    """Return the modules of other packages that write these formats: what they write depends on their versions.

    They are imported after a step's own code, when nobody observes any more what it uses.
    """
    return {module for format in declared if format and not is_own(format) for module in libraries(format)}


def is_path(format: str) -> bool:
    """Return whether ``format`` is ``file``, ``file.SUFFIX`` or ``dir``."""
    return _PATH_FORMAT.fullmatch(format) is not None


def basename(name: str, suffix: str) -> str:
    """Return ``name`` with ``suffix`` as a file name, shortened if it is too long for a file system."""
    if len(os.fsencode(name + suffix)) <= _MAX_BASENAME:
        return name + suffix
    # Not BLAKE3 as elsewhere: a kernel has only the standard library. Readers' keys contain this name.
    mark = "-" + hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    room = _MAX_BASENAME - len(mark) - len(os.fsencode(suffix))
    return os.fsencode(name)[:room].decode("utf-8", "ignore") + mark + suffix


def can_share(value: Any, format: str | None) -> bool:
    """Return whether the objects that a value shares with others can be kept: it is or can be pickled."""
    chosen = _choose(value)[0] if format is None else ALIASES.get(format, format)
    return chosen in FORMATS and (FORMATS[chosen].is_pickled or (format is None and chosen in _PICKLED_TO_SHARE))


def save(
    value: Any, *, name: str, format: str | None, folder: Path, together: SharedObjects | None = None
) -> SavedValue:
    """Write ``value`` as one file into ``folder`` and return what was written; whoever stores it flushes it.

    If ``format`` is None, the type decides. ``together`` are the objects that the value shares with others.
    """
    if format is not None:
        canonical = ALIASES.get(format, format)
        return _written(value, name, canonical, folder, "", together=together)
    chosen, why = _choose(value)
    if together is not None and chosen in _PICKLED_TO_SHARE:
        chosen, why = "cloudpickle", "it shares an object with another output"
    if chosen != "cloudpickle":
        try:
            return _written(value, name, chosen, folder, "", together=together)
        except NotStorable as error:
            cause = error.__cause__
            if cause is None or _is_outage(cause):
                raise
            why = _reason(cause)
        if chosen == "figure":
            note = f"output `{name}` is stored as a picture, not as a figure: {why}"
            return _written(value, name, "png", folder, note, together=None)
    note = f"output `{name}` ({type_name(value)}) is stored by cloudpickle: {why}; readers need the same packages"
    return _written(value, name, "cloudpickle", folder, note, together=together)


def load(path: Path, format: str, together: dict[int, Any] | None = None) -> Any:
    """Return the value that was saved at ``path``; the path itself for files and folders.

    ``together`` collects the objects that values from one step share: pass the same dict for all of them.
    """
    if is_path(format):
        return path
    value_format = _format(format)
    return value_format.read(path, together) if value_format.is_pickled else value_format.read(path)


def load_here(path: Path, format: str, what: str, together: dict[int, Any] | None = None) -> Any:
    """Return the value as :func:`load` does; raise BadUsage that names ``what`` if that fails."""
    try:
        return load(path, format, together)
    except NbpipeError:
        raise
    except Exception as error:
        message = f"{what} ({format}) cannot be loaded here: {type(error).__name__}: {error}"
        raise BadUsage(
            message, "%nbpipe pull STEP.OUTPUT --to FILE writes its bytes; %nbpipe verify checks all outputs."
        ) from error


def _written(
    value: Any, name: str, canonical: str, folder: Path, note: str, *, together: SharedObjects | None
) -> SavedValue:
    target = _format(canonical)
    suffix = table_formats.CSV_SUFFIXES.get(kind_of(value), ".csv") if canonical == "csv" else target.suffix
    path = folder / basename(name, suffix)
    try:
        format_note = target.write(value, path, together) if target.is_pickled else target.write(value, path)
    except Exception as error:  # libraries and the author's classes may raise anything
        path.unlink(missing_ok=True)
        raise NotStorable(
            f"output `{name}` ({type_name(value)}) cannot be stored as {canonical}: {_reason(error)}"
            f"{_place(value, name, error)}{_cure(canonical, error)}"
        ) from error
    return SavedValue(canonical, path.name, note or format_note)


def _place(value: Any, name: str, error: Exception) -> str:
    place = culprit(value, name, error)
    return f", which is `{place}`" if place else ""


def _cure(canonical: str, error: Exception) -> str:
    if _is_outage(error):
        return ""
    if canonical == "cloudpickle":
        return "; keep it out of the outputs, or save what can be rebuilt from it"
    return "; declare another format, or none to let the type decide"


def _is_outage(error: BaseException) -> bool:
    """Return whether the system failed, not the format: a full disk affects every format."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)


def _reason(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return f"the package {(error.name or str(error)).partition('.')[0]} is not installed in this environment"
    try:
        text = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 - `str()` of an author's error may fail
        text = []
    name = type(error).__name__
    if not text:
        return name
    # Messages of built-in exceptions and ours are complete; others need their class name.
    return (
        text[0] if type(error).__module__ == "builtins" or isinstance(error, UnsupportedValue) else f"{name}: {text[0]}"
    )


def _format(format: str) -> ValueFormat:
    return FORMATS.get(ALIASES.get(format, format)) or _added(format)


def _added(format: str) -> ValueFormat:
    """Return a format of another package, which is imported now."""
    offer = format_packages.require_usable(format)
    try:
        added = load_offered(offer)
    except Exception as error:
        message = f"the format `{format}` of {offer.package} cannot be loaded: {type(error).__name__}: {error}"
        raise FormatUnavailable(message, "Install another version of the package.") from error
    return format_packages.as_value_format(offer, added)


# The default format of each type. Libraries are recognised only if the author has imported them already.

_BY_KIND: Mapping[str, str] = {
    "pandas.DataFrame": "arrow",
    "pandas.Series": "arrow",
    "polars.DataFrame": "arrow",
    "polars.Series": "arrow",
    "pyarrow.Table": "arrow",
    "pyarrow.RecordBatch": "arrow",
    "numpy.ndarray": "npy",
    "numpy.memmap": "npy",
    "torch.Tensor": "safetensors",
    "matplotlib.figure.Figure": "figure",
}


def _choose(value: Any) -> tuple[str, str]:
    """Return the default format for a value and, for cloudpickle, the reason."""
    kind = kind_of(value)
    if kind:
        return _BY_KIND[kind], ""
    if type(value) is bytes:
        return "bin", ""
    if isinstance(value, dict) and value and all(kind_of(item) == "torch.Tensor" for item in value.values()):
        return "safetensors", ""
    if type(value) not in plain_formats.JSON_TYPES:
        return "cloudpickle", "no other format holds this type"
    return ("json", "") if plain_formats.is_plain(value) else ("cloudpickle", "json does not preserve it exactly")


# A pickle is loaded again by its writer, as some objects can be pickled but not loaded. A larger one takes too long.
_CHECKED_BYTES = 64 << 20


def _write_pickle(value: Any, path: Path, together: SharedObjects | None = None) -> str:
    cloudpickle = library("cloudpickle")
    with path.open("wb") as file:
        pickles.dump(cloudpickle, value, file, together)
    _require_loadable(path)
    return ""


def _require_loadable(path: Path, *, is_figure: bool = False) -> None:
    if path.stat().st_size > _CHECKED_BYTES:
        return
    try:
        with path.open("rb") as file:
            if is_figure:
                pictures.skip_picture(file)
            pickles.CheckingUnpickler(file).read()
    except Exception as error:
        if _is_outage(error):
            raise
        raise UnsupportedValue(f"it could be written, but not read again: {_reason(error)}") from error


def _read_pickle(path: Path, together: dict[int, Any] | None = None) -> Any:
    # The one place where a pickle is loaded: in a step's or the author's own kernel, never by a server or a driver.
    with path.open("rb") as file:
        return pickles.NotebookUnpickler(file, together).read()


# Figures: they keep a picture for showing


def _write_figure(value: Any, path: Path, together: SharedObjects | None = None) -> str:
    pictures.require_figure(value)
    cloudpickle = library("cloudpickle")
    pictures.write_png(value, path)
    with path.open("ab") as file:
        pickles.dump(cloudpickle, value, file, together)
    _require_loadable(path, is_figure=True)
    return ""


def _read_figure(path: Path, together: dict[int, Any] | None = None) -> Any:
    with path.open("rb") as file:
        pictures.skip_picture(file)
        figure = pickles.NotebookUnpickler(file, together).read()
    pictures.show_figures()
    return figure


FORMATS: Mapping[str, ValueFormat] = {
    "arrow": ValueFormat(".arrow", ("pyarrow",), table_formats.write_arrow, table_formats.read_arrow),
    "parquet": ValueFormat(".parquet", ("pyarrow",), table_formats.write_parquet, table_formats.read_parquet),
    "csv": ValueFormat(".csv", ("pandas",), table_formats.write_csv, table_formats.read_csv),
    "json": ValueFormat(".json", (), plain_formats.write_json, plain_formats.read_json),
    "npy": ValueFormat(".npy", ("numpy",), array_formats.write_npy, array_formats.read_npy),
    "npz": ValueFormat(".npz", ("numpy",), array_formats.write_npz, array_formats.read_npz),
    "safetensors": ValueFormat(
        ".safetensors", ("safetensors",), array_formats.write_safetensors, array_formats.read_safetensors
    ),
    "figure": ValueFormat(".png", ("matplotlib", "cloudpickle"), _write_figure, _read_figure, is_pickled=True),
    "png": ValueFormat(".png", (), pictures.write_png, pictures.read_png),
    "bin": ValueFormat(".bin", (), plain_formats.write_bin, Path.read_bytes),
    "text": ValueFormat(".txt", (), plain_formats.write_text, plain_formats.read_text),
    "cloudpickle": ValueFormat(".pkl", ("cloudpickle",), _write_pickle, _read_pickle, is_pickled=True),
}
ALIASES: Mapping[str, str] = {
    "feather": "arrow",
    "bytes": "bin",
    "txt": "text",
    "str": "text",
    "pickle": "cloudpickle",
    "pkl": "cloudpickle",
}
