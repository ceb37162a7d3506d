"""Copies of inputs that belong to one step alone, so that it may change them. Shipped as source."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# No output has such a name.
_FOLDER = "-inputs"


def with_copies(inputs: Iterable[Mapping[str, Any]], staging: Path) -> tuple[dict[str, Any], ...]:
    """Return the inputs of a job, with the paths of copies below ``staging`` for those that are private."""
    return tuple(
        {**item, "paths": _copied(item["paths"], staging / _FOLDER / item["name"])} if item.get("private") else {**item}
        for item in inputs
    )


def _copied(paths: list[str], folder: Path) -> list[str]:
    """Copy files and folders, which keep their places relative to each other; the copies are writable."""
    # A rerun begins with fresh copies.
    shutil.rmtree(folder, ignore_errors=True)
    root = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120  # paths are texts in a job
    copies = [folder / os.path.relpath(path, root) for path in paths]
    for path, copy in zip(map(Path, paths), copies, strict=True):
        copy.parent.mkdir(0o700, parents=True, exist_ok=True)
        if path.is_dir():
            # Not with the modes of what is copied: it may be read-only.
            shutil.copytree(path, copy, copy_function=shutil.copyfile, dirs_exist_ok=True)
            _open(copy)
        else:
            shutil.copyfile(path, copy)
    return [str(copy) for copy in copies]


def _open(folder: Path) -> None:
    """Let the step write into the folders of a copy, which have the modes of what was copied."""
    for each in (folder, *(below for below in folder.rglob("*") if below.is_dir())):
        each.chmod(0o700)
