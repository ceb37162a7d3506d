"""Arrays and tensors as npy, npz and safetensors files. Shipped to steps' kernels beside ``formats``."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from nbpipe.data.value_types import UnsupportedValue, kind_of, library


def write_npy(value: Any, path: Path) -> str:
    """Write a plain array; raise UnsupportedValue if npy does not keep its dtype."""
    numpy = library("numpy")
    if type(value) not in (numpy.ndarray, numpy.memmap):
        raise UnsupportedValue("npy takes a plain numpy array")
    try:
        with warnings.catch_warnings(), path.open("wb") as file:
            # A dtype that is not preserved only causes a warning.
            warnings.simplefilter("error")
            numpy.lib.format.write_array(file, value, allow_pickle=False)
    except UserWarning as warning:
        raise UnsupportedValue(f"npy does not keep the dtype {value.dtype!r}") from warning
    back = numpy.load(path, mmap_mode="r" if value.nbytes else None, allow_pickle=False)
    if back.dtype != value.dtype or back.shape != value.shape:
        raise UnsupportedValue(f"npy does not keep the dtype {value.dtype}")
    return ""


def read_npy(path: Path) -> Any:
    """Return the array."""
    return library("numpy").load(path, allow_pickle=False)


def write_npz(value: Any, path: Path) -> str:
    """Write a dict of plain arrays, under any names."""
    numpy = library("numpy")
    if type(value) is not dict or any(type(item) is not numpy.ndarray for item in value.values()):
        raise UnsupportedValue("npz takes a dict of plain numpy arrays")
    # Written member by member, as numpy's own function treats some names as options.
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in value.items():
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                numpy.lib.format.write_array(member, array, allow_pickle=False)
    if list(read_npz(path)) != list(value):
        raise UnsupportedValue("npz does not keep its keys")
    return ""


def read_npz(path: Path) -> Any:
    """Return the arrays by name."""
    with library("numpy").load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def write_safetensors(value: Any, path: Path) -> str:
    """Write a tensor or an array, or a dict of them."""
    many = value if isinstance(value, dict) else {"value": value}
    kinds = {kind_of(item).partition(".")[0] for item in many.values()}
    if kinds == {"torch"}:
        tensors = {key: item.detach().contiguous() for key, item in many.items()}
    elif kinds == {"numpy"}:
        tensors = {key: library("numpy").asarray(item, order="C") for key, item in many.items()}
    else:
        raise UnsupportedValue("safetensors takes a torch tensor, a numpy array, or a dict of them")
    shape = type(value).__name__ if isinstance(value, dict) else "one"
    # A single key: safetensors writes several in a varying order.
    metadata = {"nbpipe": json.dumps({"shape": shape, "framework": min(kinds), "keys": list(many)})}
    library(f"safetensors.{min(kinds)}").save_file(tensors, str(path), metadata=metadata)
    if set(_open_safetensors(path, "numpy").keys()) != set(many):
        raise UnsupportedValue("safetensors does not keep its keys")
    return ""


def _open_safetensors(path: Path, framework: str) -> Any:
    return library("safetensors").safe_open(str(path), framework="pt" if framework == "torch" else "np")


def read_safetensors(path: Path) -> Any:
    """Return what was written, in its library's type and order."""
    text = (_open_safetensors(path, "numpy").metadata() or {}).get("nbpipe")
    if text is None:
        return library("safetensors.numpy").load_file(str(path))
    recorded = json.loads(text)
    tensors = library(f"safetensors.{recorded['framework']}").load_file(str(path))
    if recorded["shape"] == "one":
        return tensors["value"]
    return (OrderedDict if recorded["shape"] == "OrderedDict" else dict)(
        (key, tensors[key]) for key in recorded["keys"]
    )
