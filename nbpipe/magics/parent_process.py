"""The process that started this kernel: its command line, its folder and its environment, where they can be read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PARENT = "JPY_PARENT_PID"


@dataclass(frozen=True, slots=True)
class ParentProcess:
    """The process that started this kernel; ``folder`` is its present one, ``environment`` that of its start."""

    words: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]


def parent_process() -> ParentProcess | None:
    """Return the process that started this kernel; None where the system does not tell."""
    process = Path("/proc", os.environ.get(_PARENT) or str(os.getppid()))
    try:
        words = tuple(map(os.fsdecode, (process / "cmdline").read_bytes().split(b"\0")))
        folder = (process / "cwd").readlink()
        settings = os.fsdecode((process / "environ").read_bytes()).split("\0")
    except OSError:
        return None
    return ParentProcess(words, folder, {name: value for name, _, value in (each.partition("=") for each in settings)})
