"""Records what a step has used, except ignored paths and what it created itself. Shipped as source."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import source_from_cache
from typing import Any

from nbpipe.data.directory_listing import names_in
from nbpipe.execution.observation.command_paths import paths_named

Stamp = tuple[int, int, int, int, int]

# The original: step_observer replaces it.
_stat = os.stat
_ADDED = "added"


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what identifies a version of a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(slots=True)
class AccessRecorder:
    """What one step has used. Paths are named as the code spells them: relative to ``base``, or absolute."""

    base: str
    ignored: tuple[str, ...]
    watched: tuple[str, ...]
    declared: frozenset[str]
    children: str
    pid: int = field(default_factory=os.getpid)
    reads: dict[str, Stamp] = field(default_factory=dict)
    listed: dict[str, list[str]] = field(default_factory=dict)
    probed: dict[str, str] = field(default_factory=dict)
    written: dict[str, str | None] = field(default_factory=dict)
    imports: dict[str, None] = field(default_factory=dict)
    programs: dict[str, None] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    first_seen: dict[tuple[str, str], int] = field(default_factory=dict)
    extended: dict[str, os.stat_result | None] = field(default_factory=dict)

    def opened(self, spelled: str, *, reads: bool, writes: bool, fresh: bool = True) -> None:
        """Record an opened file; a compiled module counts as its source. One not ``fresh`` keeps its content."""
        if spelled.endswith(".pyc"):
            spelled = _source_of(spelled)
        path = self._path(spelled)
        if path is None:
            return
        status = stamped(path)
        if reads and path in self.extended:
            self._sees(self._name(spelled, path), path, self.extended.pop(path))
            if path in self.made:
                self.made[path] = time.monotonic_ns()
        elif reads:
            self.looked_at(spelled, status)
        if writes and not (reads or fresh or self._own(path)):
            # Its earlier content matters once the step reads it; a log that is only written to is never read.
            self.extended[path] = status
        if writes and self.extended.get(path) is not None:
            self._keep("written", self._name(spelled, path), _ADDED)
        elif writes:
            self.makes(spelled)

    def looked_at(self, spelled: str, status: os.stat_result | None) -> None:
        """Record that the step looked at a path, and its status."""
        path = self._path(spelled)
        if path is not None and path not in self.extended and not self._own(path):
            self._sees(self._name(spelled, path), path, status)

    def _sees(self, name: str, path: str, status: os.stat_result | None) -> None:
        if status is None:
            self._keep("probed", name, "absent")
        elif stat.S_ISREG(status.st_mode):
            self._keep("reads", name, stamp_of(status))
        elif stat.S_ISDIR(status.st_mode) and not self.base.startswith(path.rstrip("/") + "/") and path != self.base:
            self._keep("probed", name, "folder")

    def lists(self, spelled: str) -> None:
        """Record a listed folder, with the names in it."""
        path = self._path(spelled)
        if path is None or self._own(path):
            return
        name = self._name(spelled, path)
        if name not in self.listed:
            names = names_in(path)
            self._keep(*(("probed", name, "absent") if names is None else ("listed", name, self._foreign(path, names))))

    def makes(self, spelled: str) -> None:
        """Record a path that is written or created."""
        path = self._path(spelled)
        if path is not None:
            self._keep("written", self._name(spelled, path), None)
            self.made.setdefault(path, time.monotonic_ns())

    def starts(self, words: Sequence[str], folder: str | None) -> None:
        """Record a started program, and the files in its command as read."""
        self._keep("programs", json.dumps(list(words)), None)
        for spelled, listed in paths_named(words, folder or ""):
            status = stamped(spelled)
            if listed:
                self.lists(spelled)
            elif status is not None and stat.S_ISREG(status.st_mode):
                self.looked_at(spelled, status)

    def for_children(self) -> dict[str, Any]:
        """Return the settings with which a spawned process records for this one."""
        same = ("base", "ignored", "watched", "declared", "children", "pid", "made")
        return {name: getattr(self, name) for name in same}

    def _keep(self, kind: str, name: str, value: Any) -> None:
        now = time.monotonic_ns()
        self._take(kind, name, value, now)
        if os.getpid() != self.pid:
            # A child process's memory is lost at its end.
            line = json.dumps([kind, name, value, now]) + "\n"
            descriptor = os.open(self.children, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8", "surrogatepass"))
            finally:
                os.close(descriptor)

    def _take(self, kind: str, name: str, value: Any, now: int) -> None:
        getattr(self, kind).setdefault(name, value)
        self.first_seen[kind, name] = min(now, self.first_seen.get((kind, name), now))

    def _path(self, spelled: str) -> str | None:
        """Return an absolute path, or None if it is ignored."""
        path = os.path.normpath(os.path.join(os.getcwd(), spelled))
        if path in self.declared or self._passed_over(path):
            return None
        return path

    def _passed_over(self, path: str) -> bool:
        """Return whether the innermost known folder that contains a path is ignored."""
        ignored = max((len(folder) for folder in self.ignored if _covered(path, folder)), default=-1)
        return ignored > max((len(folder) for folder in self.watched if within(path, folder)), default=-1)

    def _own(self, path: str, by: int | None = None) -> bool:
        """Return whether the step itself has created this or a parent folder, ``by`` a time."""
        while (created_at := self.made.get(path)) is None or (by is not None and created_at > by):
            above = os.path.dirname(path)
            if above == path:
                return False
            path = above
        return True

    def _foreign(self, path: str, names: Iterable[str]) -> list[str]:
        return [name for name in names if os.path.join(path, name) not in self.made]

    def _name(self, spelled: str, path: str) -> str:
        if os.path.isabs(spelled) or os.getcwd() != self.base:
            return path
        return os.path.relpath(path, self.base)

    def take_in_children(self) -> None:
        """Read the records of child processes; what one process has created is no input of another."""
        try:
            with open(self.children, encoding="utf-8", errors="surrogatepass") as lines:
                records = [json.loads(line) for line in lines]
        except FileNotFoundError:
            return
        for kind, name, value, now in records:
            self._take(kind, name, value, now)
            if kind == "written" and value != _ADDED:
                path = os.path.join(self.base, name)
                self.made[path] = min(now, self.made.get(path, now))
        for kind, names in (("reads", self.reads), ("listed", self.listed), ("probed", self.probed)):
            for name in [
                name for name in names if self._own(os.path.join(self.base, name), self.first_seen[kind, name])
            ]:
                del names[name]


def stamped(path: str) -> os.stat_result | None:
    """Return the status of a path without recording it; None if it does not exist."""
    try:
        return _stat(path)
    except (OSError, ValueError):
        return None


def within(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or is inside of it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _covered(path: str, folder: str) -> bool:
    """Return whether a path is inside of a folder; one that ends in ``/.`` means all hidden names in it."""
    return path.startswith(folder) if folder.endswith("/.") else within(path, folder)


def _source_of(compiled: str) -> str:
    try:
        return source_from_cache(compiled)
    except ValueError:
        return compiled
