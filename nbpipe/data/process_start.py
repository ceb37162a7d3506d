"""When a process started: together with its number it identifies a process, as numbers are used again."""

from __future__ import annotations

import os
from pathlib import Path


def start_of(pid: int) -> str | None:
    """Return the start of a process in clock ticks since the boot; None if it has ended.

    On systems without ``/proc`` it is an empty text for every process that exists.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _signalled(pid)
    except (OSError, IndexError):
        return None


def _signalled(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return ""
