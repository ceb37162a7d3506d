"""nbpipe's modules for kernels, stored as plain source, so that a step's environment needs only ipykernel."""

from __future__ import annotations

import hashlib
import io
import marshal
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

from nbpipe.data.atomic_file import write_file
from nbpipe.permissions import make_folder

_IMPORT = re.compile(r"^from (nbpipe[\w.]*) import (\([^)]*\)|[^(\n]+)", re.MULTILINE)
_FIRST = "nbpipe.execution.kernel_runtime.step_runtime"
_DOCSTRING = b'"""What a step\'s kernel has of nbpipe."""\n'
_API_NAMES = "context", "log_image", "log_metric", "log_table", "progress"
# Datasets are bound to a step's inputs when it is submitted; its environment needs no nbpipe.
_MISSING = b"""
def __getattr__(name):
    if name in ("Dataset", "Workspace"):
        hint = "declare the data as an input of the step, for example: -i labels=ds:labels"
        raise ImportError(f"`nbpipe.{name}` is not available in a step: {hint}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
"""
_ROOT = (
    _DOCSTRING
    + f"from nbpipe.execution.kernel_runtime.step_api import {', '.join(_API_NAMES)}\n".encode()
    + f"__all__ = {list(_API_NAMES)!r}\n".encode()
    + _MISSING
)
# What a kernel runs first. It needs nothing but the standard library, and leaves one name.
_LOADING = """\
import sys as _sys
with open({path!r}, "rb") as _nbpipe:
    if __import__("hashlib").sha256(_nbpipe.read()).hexdigest() != {digest!r}:
        raise ImportError("what nbpipe needs in this kernel is not what nbpipe wrote: run the pipeline again")
_sys.path[:] = dict.fromkeys([{path!r}, *_sys.path])
"""


@dataclass(frozen=True, slots=True)
class RuntimeBundle:
    """The archive to put on a kernel's ``sys.path``, and the SHA-256 of its bytes."""

    path: Path
    digest: str

    @property
    def loading(self) -> str:
        """Code that puts the archive first on ``sys.path``, once it has the bytes that nbpipe gave it."""
        return _LOADING.format(path=str(self.path), digest=self.digest)


def write_bundle(store: Path) -> RuntimeBundle:
    """Return the bundle for a kernel's ``sys.path``; an archive that is missing or damaged is written anew.

    One archive, and no folder: nothing can be added to it, and Python writes no bytecode beside what it holds. It lies
    in the store because executed notebooks name it, but what counts is its digest.
    """
    content = _archive()
    digest = hashlib.sha256(content).hexdigest()
    path = store / "kernel" / f"{digest[:40]}.zip"
    if path.is_symlink() or not (path.is_file() and path.read_bytes() == content):
        make_folder(path.parent)
        write_file(path, content, durable=True)
    return RuntimeBundle(path, digest)


@lru_cache(maxsize=1)
def _archive() -> bytes:
    """Return the archive: every source, and what this interpreter compiles it to; another one compiles it itself."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in sorted(_sources().items()):
            archive.writestr(zipfile.ZipInfo(name), source)
            archive.writestr(zipfile.ZipInfo(f"{name}c"), _compiled(name, source))
    return buffer.getvalue()


def _compiled(name: str, source: bytes) -> bytes:
    """Return a source as PEP 552's bytecode that is not compared with its source: the archive's digest covers both."""
    code = compile(source, name, "exec", dont_inherit=True)
    # Marshalled without references, which depend on what else a process holds: the same bytes in every process.
    return MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source) + marshal.dumps(code, 2)


@lru_cache(maxsize=1)
def _sources() -> dict[str, bytes]:
    """Return the bundle by file name: the module that kernels import, and the modules that it needs in turn."""
    sources: dict[str, bytes] = {}
    waiting = [_FIRST]
    while waiting:
        name = waiting.pop()
        source = _source(name)
        path = name.replace(".", "/")
        if source is None or f"{path}.py" in sources:
            # A package, or a name in a module: packages consist of a docstring only.
            continue
        sources[f"{path}.py"] = source
        sources |= {f"{parent}/__init__.py": _DOCSTRING for parent in map(str, list(Path(path).parents)[:-1])}
        sources["nbpipe/__init__.py"] = _ROOT
        waiting += _imported(source)
    return sources


def _source(name: str) -> bytes | None:
    path = files("nbpipe").joinpath(*name.split(".")[1:-1], f"{name.rpartition('.')[2]}.py")
    return path.read_bytes() if path.is_file() else None


def _imported(source: bytes) -> Iterator[str]:
    """Yield the dotted names under ``nbpipe`` that a source may import.

    Read by pattern: CPython 3.11's ``ast.parse`` may raise SystemError when several threads use it at once.
    """
    for module, names in _IMPORT.findall(source.decode()):
        yield module
        yield from (f"{module}.{name.strip()}" for name in names.strip("()\n ").split(",") if name.strip())
