"""The contents of a folder that can matter to a step. Shipped to steps' kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CODE = frozenset(
    (".py", ".sh", ".bash", ".r", ".jl", ".pl", ".rb", ".js", ".ts", ".sql", ".c", ".cc", ".cpp", ".h", ".hpp", ".cu",
     ".f90", ".rs", ".go", ".java", ".scala", ".toml", ".yaml", ".yml", ".cfg", ".ini")
)  # fmt: skip
_MADE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


def names_in(folder: str) -> list[str] | None:
    """Return the names in a folder, sorted, without hidden ones and compiled modules; None without such a folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _counts(entry.name))
    except OSError:
        return None


def code_below(folder: str) -> Iterator[str]:
    """Yield the paths of all code and settings files below a folder, except in environments and hidden folders."""
    for above, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _counts(name) and not _is_environment(f"{above}/{name}")]
        yield from (f"{above}/{name}" for name in files if _suffix(name) in _CODE)


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in _MADE


def _is_environment(folder: str) -> bool:
    return Path(folder, "pyvenv.cfg").exists()


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""
