"""The beginning of a stored output: small and cheap, however large the output is.

Nothing is unpickled, no code of an output is run, and only the beginning of a file is read or mapped. A damaged output
gets a preview that says so.
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
from nbpipe.data.notebook_definitions import LOOKUP
from nbpipe.data.pictures import skip_picture
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

_Fields = dict[str, Any]

_MEDIA: Mapping[str, bytes] = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
}

# The formats of plain file outputs, by suffix.
_BY_SUFFIX: Mapping[str, str] = {
    ".arrow": "arrow", ".feather": "arrow", ".parquet": "parquet", ".csv": "csv", ".json": "json", ".npy": "npy",
    ".npz": "npz", ".safetensors": "safetensors", ".png": "png", ".jpg": "png", ".jpeg": "png", ".gif": "png",
    ".pkl": "cloudpickle", ".pickle": "cloudpickle",
}  # fmt: skip


def preview(artifact: Artifact, materializer: Materializer) -> Preview:
    """Return the preview of a stored output, also if it is missing or damaged."""
    common: _Fields = {"format": artifact.format, "bytes": artifact.bytes}
    try:
        path = materializer.path(artifact)
        fields = _folder(path) if artifact.is_folder else _file(path, artifact.format)
    except StoreOutOfReach as error:
        return Preview("missing", error.message, **common)
    except _DAMAGED as error:
        message = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        return Preview("opaque", f"it cannot be shown: {message}", **common)
    return Preview(**{"kind": "opaque", "summary": "", **common, **fields})


def _file(path: Path, format: str) -> _Fields:
    chosen = _BY_SUFFIX.get(path.suffix.lower(), "file") if format == "file" else format
    return _READERS.get(chosen, _unknown)(path)


# Tables


def _arrow(path: Path) -> _Fields:
    mapped = library("pyarrow").memory_map(str(path))
    file = library("pyarrow.ipc").open_file(mapped)
    count = sum(file.get_batch(number).num_rows for number in range(file.num_record_batches))
    head = file.get_batch(0).slice(0, _ROWS) if file.num_record_batches else file.schema.empty_table()
    return _table(head, count, file.schema)


def _parquet(path: Path) -> _Fields:
    file = library("pyarrow.parquet").ParquetFile(str(path), memory_map=True)
    schema = file.schema_arrow
    batches = file.iter_batches(batch_size=_ROWS, row_groups=[0] if file.num_row_groups else [], columns=_few(schema))
    head = next(batches, schema.empty_table().select(_few(schema)))
    return _table(head, file.metadata.num_rows, schema)


def _few(schema: Any) -> list[str]:
    return list(dict.fromkeys([*filter(_is_index, schema.names), *schema.names][:_COLUMNS]))


def _table(head: Any, count: int, schema: Any) -> _Fields:
    # In a damaged file, offsets of text may point outside of the mapped bytes.
    head.validate(full=True)
    fields = head.schema
    # pandas stores its index last, but people expect it first.
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
    """Return one value as text; read only the beginning of a long one."""
    if not scalar.is_valid:
        return ""
    if type(scalar).__name__.endswith(("ListScalar", "MapScalar", "ListViewScalar")):
        return f"[{_number(len(scalar), 'item')}]"
    if hasattr(scalar, "as_buffer"):
        buffer = scalar.as_buffer()
        data = buffer.slice(0, min(buffer.size, 4 * _CELL)).to_pybytes()
        return _short(data.decode("utf-8", "replace"))
    value = scalar.as_py()
    return _short(f"{value:.6g}" if isinstance(value, float) else str(value))


def _csv(path: Path) -> _Fields:
    text, complete = _text_of(path, _HEAD)
    lines = list(islice(csv.reader(io.StringIO(text)), _ROWS + 1))
    columns, *rows = lines or [[]]
    count = text.count("\n") - 1 if complete else -1
    summary = _number(len(columns), "column") + (f", {_number(max(count, 0), 'line')}" if complete else "")
    few = tuple(tuple(_short(cell) for cell in row[:_COLUMNS]) for row in rows)
    return {"kind": "table", "summary": summary, "columns": tuple((c, "") for c in columns[:_COLUMNS]), "rows": few}


# Arrays


def _npy(path: Path) -> _Fields:
    numpy = library("numpy")
    array = numpy.load(path, mmap_mode="r" if path.stat().st_size > _HEAD else None, allow_pickle=False)
    fields: _Fields = {"kind": "array", "summary": _shape(array.shape, str(array.dtype))}
    if array.dtype.names or array.ndim not in (0, 1, 2) or array.size == 0:
        return fields
    if array.ndim == 2:
        rows = [[_short(_value(value)) for value in row[:_COLUMNS]] for row in array[:_ROWS]]
        return {**fields, "rows": tuple(map(tuple, rows))}
    values = ", ".join(_short(_value(value)) for value in array.flat[: _ROWS * 2])
    return {**fields, "text": values + (", …" if array.size > _ROWS * 2 else "")}


def _value(value: Any) -> str:
    return f"{value:.6g}" if getattr(value, "dtype", None) is not None and value.dtype.kind == "f" else str(value)


def _npz(path: Path) -> _Fields:
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


def _safetensors(path: Path) -> _Fields:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _JSON * 4:
            raise ValueError("its header is too long")
        header = json.loads(file.read(length))
    tensors = [(name, item) for name, item in header.items() if name != "__metadata__"]
    lines = [f"{name}: {_shape(item['shape'], str(item['dtype']))}" for name, item in tensors[:_FILES]]
    return {"kind": "array", "summary": _number(len(tensors), "tensor"), "text": _lines(lines, len(tensors))}


def _shape(shape: Any, dtype: str) -> str:
    return f"{' × '.join(f'{int(length):,}' for length in shape) or 'one'} {dtype}"


# Values and texts


def _json(path: Path) -> _Fields:
    text, complete = _text_of(path, _JSON)
    if not complete:
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


def _text(path: Path) -> _Fields:
    text, complete = _text_of(path, _HEAD)
    summary = _number(text.count("\n") + (not text.endswith("\n")), "line") if complete else "text"
    return {"kind": "text", "summary": summary if text else "empty", "text": text[:_TEXT]}


def _unknown(path: Path) -> _Fields:
    """Preview a file of an unknown kind, as text if it is readable."""
    head = _beginning(path, 4096)
    readable = b"\0" not in head and "\ufffd" not in head[:-4].decode("utf-8", "replace")
    return _text(path) if readable else {"kind": "opaque", "summary": "binary", "text": head[:64].hex(" ", 4)}


def _pickle(path: Path) -> _Fields:
    """Return the type of a pickled object from its first opcodes, without executing them."""
    names: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(_beginning(path, _HEAD)):
            if opcode.name == "STACK_GLOBAL":
                module, name = names[-2:]
                if (module, name) == ("builtins", "eval"):
                    continue
                # A function that rebuilds an object does not name its type.
                is_telling = not module.startswith(("cloudpickle", "copyreg", "builtins")) and not name.startswith("_")
                return {"kind": "opaque", "summary": f"{module}.{name}" if is_telling else "a pickled object"}
            if isinstance(argument, str):
                if names[-2:] == [LOOKUP, "name"]:
                    return {"kind": "opaque", "summary": f"__main__.{argument}"}
                names.append(argument)
    except (ValueError, IndexError):
        # The beginning ends in the middle of an opcode.
        names.clear()
    return {"kind": "opaque", "summary": "a pickled object"}


def _bin(path: Path) -> _Fields:
    return {"kind": "opaque", "summary": "bytes", "text": _beginning(path, 64).hex(" ", 4)}


# Pictures, files and folders


def _image(path: Path) -> _Fields:
    picture = _picture(path, path.name)
    summary = "a picture" if picture is None else _dimensions(picture)
    return {"kind": "image", "summary": summary, "pictures": () if picture is None else (picture,)}


def _figure(path: Path) -> _Fields:
    """Preview a figure by the picture at the beginning of its file."""
    with path.open("rb") as file:
        skip_picture(file)
        end = file.tell()
    if end > _PICTURE:
        return _image(path)
    picture = PreviewImage(path.name, "image/png", _beginning(path, end))
    return {"kind": "image", "summary": f"a figure, {_dimensions(picture)}", "pictures": (picture,)}


def _picture(path: Path, name: str) -> PreviewImage | None:
    """Return a picture, scaled down if it is too large; None if that is not possible."""
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


def _folder(path: Path) -> _Fields:
    paths = list(islice(walk(path), _COUNTED + 1))
    files = tuple((str(each.relative_to(path)), each.stat().st_size) for each in paths[:_FILES])
    pictures = (_picture(each, str(each.relative_to(path))) for each in paths[:_FILES] if _is_picture(each))
    few = tuple(islice((picture for picture in pictures if picture is not None), _PICTURES))
    more = len(paths) > _COUNTED
    summary = f"more than {_COUNTED:,} files" if more else _number(len(paths), "file")
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
    complete = len(data) <= length
    return data[:length].decode("utf-8", "replace"), complete


def _lines(lines: list[str], count: int) -> str:
    return "\n".join([*lines, f"… and {count - len(lines)} more"] if count > len(lines) else lines)


def _short(text: str) -> str:
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_READERS: Mapping[str, Callable[[Path], _Fields]] = {
    "arrow": _arrow,
    "parquet": _parquet,
    "csv": _csv,
    "json": _json,
    "npy": _npy,
    "npz": _npz,
    "safetensors": _safetensors,
    "png": _image,
    "figure": _figure,
    "bin": _bin,
    "text": _text,
    "cloudpickle": _pickle,
}
