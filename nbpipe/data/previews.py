"""The beginning of a stored output: small, cheap however large the output is, and never more than looked at.

Nothing is unpickled, no code of an output's is run, and of a file only its beginning is read or mapped. Whatever is
damaged becomes a preview that says so.
"""

from __future__ import annotations

import csv
import io
import json
import pickletools
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from nbpipe.data.digests import walk
from nbpipe.data.materializer import Materializer
from nbpipe.data.value_types import library
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import Artifact, Preview, PreviewImage

_ROWS = 8
_COLUMNS = 12
_CELL = 80
_TEXT = 4_000
_HEAD = 64 << 10
_JSON = 1 << 20
_PICTURE = 1_500_000
_PIXELS = 40_000_000
_FILES = 20
_COUNTED = 10_000
_PICTURES = 4

_DAMAGED = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, EOFError, ImportError, AttributeError,
    MemoryError, SyntaxError, struct.error, zlib.error, zipfile.BadZipFile, csv.Error, tokenize.TokenError,
)  # fmt: skip

_Found = dict[str, Any]

_MEDIA: Mapping[str, bytes] = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
}

# What a file holds, by its suffix, for outputs that are declared as plain files.
_BY_SUFFIX: Mapping[str, str] = {
    ".arrow": "arrow", ".feather": "arrow", ".parquet": "parquet", ".csv": "csv", ".json": "json", ".npy": "npy",
    ".npz": "npz", ".safetensors": "safetensors", ".png": "png", ".jpg": "png", ".jpeg": "png", ".gif": "png",
    ".pkl": "cloudpickle", ".pickle": "cloudpickle",
}  # fmt: skip


def preview(artifact: Artifact, materializer: Materializer) -> Preview:
    """Return the beginning of a stored output; one that is gone or damaged is told as such."""
    given: _Found = {"format": artifact.format, "bytes": artifact.bytes}
    try:
        path = materializer.path(artifact.reference)
        found = _folder(path) if artifact.is_folder else _file(path, artifact.format)
    except StoreOutOfReach as error:
        return Preview("missing", error.message, **given)
    except _DAMAGED as error:
        said = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        return Preview("opaque", f"it cannot be shown: {said}", **given)
    return Preview(**{"kind": "opaque", "summary": "", **given, **found})


def _file(path: Path, format: str) -> _Found:
    chosen = _BY_SUFFIX.get(path.suffix.lower(), "file") if format == "file" else format
    return _READERS.get(chosen, _unknown)(path)


# Tables


def _arrow(path: Path) -> _Found:
    mapped = library("pyarrow").memory_map(str(path))
    file = library("pyarrow.ipc").open_file(mapped)
    count = sum(file.get_batch(number).num_rows for number in range(file.num_record_batches))
    head = file.get_batch(0).slice(0, _ROWS) if file.num_record_batches else file.schema.empty_table()
    return _table(head, count, file.schema)


def _parquet(path: Path) -> _Found:
    file = library("pyarrow.parquet").ParquetFile(str(path), memory_map=True)
    schema = file.schema_arrow
    batches = file.iter_batches(batch_size=_ROWS, row_groups=[0] if file.num_row_groups else [], columns=_few(schema))
    head = next(batches, schema.empty_table().select(_few(schema)))
    return _table(head, file.metadata.num_rows, schema)


def _few(schema: Any) -> list[str]:
    return list(dict.fromkeys([*filter(_is_index, schema.names), *schema.names][:_COLUMNS]))


def _table(head: Any, count: int, schema: Any) -> _Found:
    # Read from a damaged file, text would lead out of the mapped bytes.
    head.validate(full=True)
    fields = head.schema
    # What pandas keeps as its index stands last in the file, and first for people.
    order = sorted(range(len(fields)), key=lambda place: not _is_index(fields.field(place).name))[:_COLUMNS]
    columns = tuple((_label(fields.field(place).name), str(fields.field(place).type)) for place in order)
    rows = tuple(tuple(_cell(head.column(place)[row]) for place in order) for row in range(min(_ROWS, head.num_rows)))
    width = sum(not _is_index(name) for name in schema.names)
    summary = f"{_number(count, 'row')} × {_number(width, 'column')}"
    return {"kind": "table", "summary": summary, "columns": columns, "rows": rows}


def _is_index(name: str) -> bool:
    return name.startswith("__index_level_")


def _label(name: str) -> str:
    return "" if _is_index(name) else name


def _cell(scalar: Any) -> str:
    """Return one value as text; of a long one only the beginning is read."""
    if not scalar.is_valid:
        return ""
    if type(scalar).__name__.endswith(("ListScalar", "MapScalar", "ListViewScalar")):
        return f"[{_number(len(scalar), 'item')}]"
    if hasattr(scalar, "as_buffer"):
        held = scalar.as_buffer()
        data = held.slice(0, min(held.size, 4 * _CELL)).to_pybytes()
        return _short(data.decode("utf-8", "replace"))
    value = scalar.as_py()
    return _short(f"{value:.6g}" if isinstance(value, float) else str(value))


def _csv(path: Path) -> _Found:
    text, whole = _text_of(path, _HEAD)
    lines = list(islice(csv.reader(io.StringIO(text)), _ROWS + 1))
    columns, *rows = lines or [[]]
    count = text.count("\n") - 1 if whole else -1
    summary = _number(len(columns), "column") + (f", {_number(max(count, 0), 'line')}" if whole else "")
    few = tuple(tuple(_short(cell) for cell in row[:_COLUMNS]) for row in rows)
    return {"kind": "table", "summary": summary, "columns": tuple((c, "") for c in columns[:_COLUMNS]), "rows": few}


# Arrays


def _npy(path: Path) -> _Found:
    numpy = library("numpy")
    array = numpy.load(path, mmap_mode="r" if path.stat().st_size > _HEAD else None, allow_pickle=False)
    found: _Found = {"kind": "array", "summary": _shape(array.shape, str(array.dtype))}
    if array.dtype.names or array.ndim not in (0, 1, 2) or array.size == 0:
        return found
    if array.ndim == 2:
        rows = [[_short(_value(value)) for value in row[:_COLUMNS]] for row in array[:_ROWS]]
        return {**found, "rows": tuple(map(tuple, rows))}
    values = ", ".join(_short(_value(value)) for value in array.flat[: _ROWS * 2])
    return {**found, "text": values + (", …" if array.size > _ROWS * 2 else "")}


def _value(value: Any) -> str:
    return f"{value:.6g}" if getattr(value, "dtype", None) is not None and value.dtype.kind == "f" else str(value)


def _npz(path: Path) -> _Found:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        lines = [f"{name.removesuffix('.npy')}: {_header(archive, name)}" for name in names[:_FILES]]
    return {"kind": "array", "summary": _number(len(names), "array"), "text": _lines(lines, len(names))}


def _header(archive: zipfile.ZipFile, name: str) -> str:
    layout = library("numpy").lib.format
    with archive.open(name) as member:
        major, _ = layout.read_magic(member)
        read = layout.read_array_header_1_0 if major == 1 else layout.read_array_header_2_0
        shape, _, dtype = read(member)
    return _shape(shape, str(dtype))


def _safetensors(path: Path) -> _Found:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _JSON * 4:
            raise ValueError("its header is too long")
        told = json.loads(file.read(length))
    tensors = [(name, item) for name, item in told.items() if name != "__metadata__"]
    lines = [f"{name}: {_shape(item['shape'], str(item['dtype']))}" for name, item in tensors[:_FILES]]
    return {"kind": "array", "summary": _number(len(tensors), "tensor"), "text": _lines(lines, len(tensors))}


def _shape(shape: Any, dtype: str) -> str:
    return f"{' × '.join(f'{int(length):,}' for length in shape) or 'one'} {dtype}"


# Values and texts


def _json(path: Path) -> _Found:
    text, whole = _text_of(path, _JSON)
    if not whole:
        return {"kind": "text", "summary": "JSON", "text": text[:_TEXT]}
    value = json.loads(text)
    if isinstance(value, dict):
        summary = _number(len(value), "key")
    elif isinstance(value, list):
        summary = _number(len(value), "item")
    else:
        summary = type(value).__name__ if value is not None else "None"
    return {"kind": "text", "summary": summary, "text": _json_text(value)[:_TEXT]}


def _json_text(value: Any) -> str:
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= _CELL else json.dumps(value, indent=1, ensure_ascii=False)


def _text(path: Path) -> _Found:
    text, whole = _text_of(path, _HEAD)
    summary = _number(text.count("\n") + (not text.endswith("\n")), "line") if whole else "text"
    return {"kind": "text", "summary": summary if text else "empty", "text": text[:_TEXT]}


def _unknown(path: Path) -> _Found:
    """Look at a file of a kind that nobody told: a text is shown as one."""
    head = _beginning(path, 4096)
    readable = b"\0" not in head and "\ufffd" not in head[:-4].decode("utf-8", "replace")
    return _text(path) if readable else {"kind": "opaque", "summary": "binary", "text": head[:64].hex(" ", 4)}


def _pickle(path: Path) -> _Found:
    """Tell what a pickle makes, by its first instructions: they are read, not followed."""
    names: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(_beginning(path, _HEAD)):
            if opcode.name == "STACK_GLOBAL":
                module, name = names[-2:]
                # What rebuilds an object says nothing of what it is.
                told = not module.startswith(("cloudpickle", "copyreg", "builtins")) and not name.startswith("_")
                return {"kind": "opaque", "summary": f"{module}.{name}" if told else "a pickled object"}
            if isinstance(argument, str):
                names.append(argument)
    except (ValueError, IndexError):
        # The beginning ends in the middle of an instruction.
        names.clear()
    return {"kind": "opaque", "summary": "a pickled object"}


def _bin(path: Path) -> _Found:
    return {"kind": "opaque", "summary": "bytes", "text": _beginning(path, 64).hex(" ", 4)}


# Pictures, files and folders


def _image(path: Path) -> _Found:
    picture = _picture(path, path.name)
    summary = "a picture" if picture is None else _dimensions(picture)
    return {"kind": "image", "summary": summary, "pictures": () if picture is None else (picture,)}


def _picture(path: Path, name: str) -> PreviewImage | None:
    """Return a picture that is small enough to be shown, made smaller where that can be done."""
    head = _beginning(path, 32)
    media = next((media for media, magic in _MEDIA.items() if head.startswith(magic)), None)
    if media is None:
        return None
    if media == "image/png" and _png_pixels(head) > _PIXELS:
        return None
    if path.stat().st_size <= _PICTURE:
        return PreviewImage(name, media, path.read_bytes())
    return _smaller(path, name)


def _smaller(path: Path, name: str) -> PreviewImage | None:
    try:
        images = library("PIL.Image")
    except ImportError:
        return None
    try:
        image = images.open(path)
    except images.DecompressionBombError:
        return None
    if image.width * image.height > _PIXELS:
        return None
    image.thumbnail((1200, 1200))
    target = io.BytesIO()
    image.convert("RGB").save(target, format="JPEG", quality=85)
    return PreviewImage(name, "image/jpeg", target.getvalue())


def _png_pixels(head: bytes) -> int:
    width, height = struct.unpack(">II", head[16:24])
    return int(width) * int(height)


def _dimensions(picture: PreviewImage) -> str:
    if picture.media != "image/png":
        return "a picture"
    width, height = struct.unpack(">II", picture.data[16:24])
    return f"{width} × {height} pixels"


def _folder(path: Path) -> _Found:
    found = list(islice(walk(path), _COUNTED + 1))
    files = tuple((str(each.relative_to(path)), each.stat().st_size) for each in found[:_FILES])
    pictures = (_picture(each, str(each.relative_to(path))) for each in found[:_FILES] if _is_picture(each))
    few = tuple(islice((picture for picture in pictures if picture is not None), _PICTURES))
    more = len(found) > _COUNTED
    summary = f"more than {_COUNTED:,} files" if more else _number(len(found), "file")
    return {"kind": "files", "summary": summary, "files": files, "pictures": few}


def _is_picture(path: Path) -> bool:
    return _BY_SUFFIX.get(path.suffix.lower()) == "png" and path.stat().st_size <= _PICTURE // _PICTURES


# Reading no more than the beginning


def _beginning(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def _text_of(path: Path, length: int) -> tuple[str, bool]:
    """Return the beginning of a text, and whether it is all of it."""
    data = _beginning(path, length + 1)
    whole = len(data) <= length
    return data[:length].decode("utf-8", "replace"), whole


def _lines(lines: list[str], count: int) -> str:
    return "\n".join([*lines, f"… and {count - len(lines)} more"] if count > len(lines) else lines)


def _short(text: str) -> str:
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_READERS: Mapping[str, Callable[[Path], _Found]] = {
    "arrow": _arrow,
    "parquet": _parquet,
    "csv": _csv,
    "json": _json,
    "npy": _npy,
    "npz": _npz,
    "safetensors": _safetensors,
    "png": _image,
    "bin": _bin,
    "text": _text,
    "cloudpickle": _pickle,
}
