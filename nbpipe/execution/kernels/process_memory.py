"""Memory use of a process and its descendants, their limit, and the state of a process.

Only ``/proc`` is read, so this works inside a supervisor, which has nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PAUSE_SECONDS = 0.025
# The share of the time for measuring: the exact measure walks all pages of a large process.
_SHARE = 0.05
# What one process may reserve above twice the limit before it gets a MemoryError: thread stacks and arenas are reserved
# but hardly used.
_RESERVE = 1 << 30
# How much rather a kernel than its worker is killed when memory runs out; 1000 is the maximum of the scale.
_WORSE = 500
_WORST = 1000


class MemoryWatch:
    """Watches the memory of a process's descendants; ``took`` is the bytes that exceeded the limit, or 0."""

    def __init__(self, root: int, limit: int) -> None:
        self.took = 0
        self.pause = _PAUSE_SECONDS
        self._root = root
        self._limit = limit

    def exceeded(self) -> bool:
        """Return whether the limit is or was exceeded."""
        started_at = time.monotonic()
        below = [pid for child in children(self._root) for pid in (child, *_descendants(child))]
        # Shared pages count for each process here: if this sum is below the limit, the exact one is too.
        if sum(map(_resident, below)) > self._limit:
            used = sum(map(_proportional, below))
            self.took = used if used > self._limit else self.took
        self.pause = max(_PAUSE_SECONDS, (time.monotonic() - started_at) / _SHARE)
        return self.took > 0


def state(pid: int) -> str:
    """Return Linux's letter for a process's state, ``T`` for a stopped one; empty on other systems."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    return ""


def offer() -> None:
    """Make the system prefer to kill this process and its children when it runs out of memory."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(_WORST, int(score.read_bytes()) + _WORSE)))


def oom_kills() -> int:
    """Return how many processes this system has killed for lack of memory; 0 if unknown."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/vmstat").read_bytes().partition(b"\noom_kill ")[2].split()[0])
    return 0


def restrain(limit: int) -> None:
    """Refuse reservations far beyond the limit in this process: a MemoryError shows the author's line."""
    if limit:
        most = 2 * limit + _RESERVE
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def children(pid: int) -> list[int]:
    """Return the ids of a process's children; empty without ``/proc``."""
    listed: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            listed += map(int, (thread / "children").read_bytes().split())
    except FileNotFoundError:
        return _children_by_parent(pid)
    return listed


def _children_by_parent(pid: int) -> list[int]:
    """Return children where the system has no lists of them, or the process has ended."""
    pids: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat") if Path(f"/proc/{pid}").exists() else ():
        with contextlib.suppress(OSError, IndexError):
            if int(entry.read_bytes().rpartition(b")")[2].split()[1]) == pid:
                pids.append(int(entry.parent.name))
    return pids


def _descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from _descendants(child)


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    """Return a process's proportional set size, or its resident set size if that is unknown."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return _resident(pid)
