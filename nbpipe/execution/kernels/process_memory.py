"""How much memory a process and all that it started take, the limit that they may not pass, and what it is doing.

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
# Looking may take this share of the time: the exact measure walks all of a large process's pages.
_SHARE = 0.05
# What one process may reserve above the limit, twice over, before it gets a MemoryError where it asks: thread stacks
# and arenas are reserved and hardly used.
_RESERVE = 1 << 30
# How much sooner than its worker a kernel is ended when memory runs out; 1000 is the system's own end of the scale.
_WORSE = 500
_WORST = 1000


class MemoryWatch:
    """Watches all below one process, itself not counted; ``took`` is the bytes that were too many, or 0."""

    def __init__(self, root: int, limit: int) -> None:
        self.took = 0
        self.pause = _PAUSE_SECONDS
        self._root = root
        self._limit = limit

    def exceeded(self) -> bool:
        """Return whether the limit is passed now, or was before."""
        begun = time.monotonic()
        below = [pid for child in children(self._root) for pid in (child, *_descendants(child))]
        # Pages that processes share count for each of them here: what stays below the limit so, is below it.
        if sum(map(_resident, below)) > self._limit:
            taken = sum(map(_proportional, below))
            self.took = taken if taken > self._limit else self.took
        self.pause = max(_PAUSE_SECONDS, (time.monotonic() - begun) / _SHARE)
        return self.took > 0


def state(pid: int) -> str:
    """Return Linux's letter for a process's state, ``T`` for one that was stopped; nothing elsewhere."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    return ""


def offer() -> None:
    """Have the system end this process and what it starts before others, when it has no memory left for all."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(_WORST, int(score.read_bytes()) + _WORSE)))


def oom_kills() -> int:
    """Return how many processes this system has ended for want of memory; 0 where it does not tell."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/vmstat").read_bytes().partition(b"\noom_kill ")[2].split()[0])
    return 0


def restrain(limit: int) -> None:
    """Have single reservations far beyond a limit refused in this process: a MemoryError tells the author's line."""
    if limit:
        most = 2 * limit + _RESERVE
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def children(pid: int) -> list[int]:
    """List a process's children; none where there is no ``/proc``."""
    listed: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            listed += map(int, (thread / "children").read_bytes().split())
    except FileNotFoundError:
        return _children_by_parent(pid)
    return listed


def _children_by_parent(pid: int) -> list[int]:
    """List children where the kernel keeps no lists of them, or the process is gone."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat") if Path(f"/proc/{pid}").exists() else ():
        with contextlib.suppress(OSError, IndexError):
            if int(entry.read_bytes().rpartition(b")")[2].split()[1]) == pid:
                found.append(int(entry.parent.name))
    return found


def _descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from _descendants(child)


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    """Return a process's memory with shared pages divided among those that share them; all of them where not told."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return _resident(pid)
