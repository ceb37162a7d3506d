"""nbpipe's modules for kernels, stored as plain source, so that a step's environment needs only ipykernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from nbpipe.data.atomic_file import write_file
from nbpipe.data.digests import bytes_digest, short_digest, tree_digest

_IMPORT = re.compile(r"^from (nbpipe[\w.]*) import (\([^)]*\)|[^(\n]+)", re.MULTILINE)
_FIRST = "nbpipe.execution.kernel_runtime.step_runtime"
_DOCSTRING = b'"""What a step\'s kernel has of nbpipe."""\n'
_API_NAMES = "context", "log_image", "log_metric", "log_table", "progress"
_ROOT = (
    _DOCSTRING
    + f"from nbpipe.execution.kernel_runtime.step_api import {', '.join(_API_NAMES)}\n".encode()
    + f"__all__ = {list(_API_NAMES)!r}\n".encode()
)


def write_bundle(store: Path) -> Path:
    """Return the folder for a kernel's ``sys.path``, and write missing or damaged files in it."""
    sources = _sources()
    digest = tree_digest((name, len(content), bytes_digest(content)) for name, content in sources.items())
    folder = store / "kernel" / short_digest(digest, 40)
    for name, content in sources.items():
        path = folder / name
        if not (path.is_file() and path.read_bytes() == content):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content, mode=0o644, durable=True)
    return folder


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
