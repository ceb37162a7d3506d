"""Keeps what a step has used: what is none of its business, or its own work, is left out. Shipped as source."""

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

# The real one: whoever hears of questions puts another in its place.
_stat = os.stat
_ADDED = "added"


def stamp_of(found: os.stat_result) -> Stamp:
    """Return what tells whether a file is still the one it was."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@dataclass(slots=True)
class UsageRecorder:
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
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    extended: dict[str, os.stat_result | None] = field(default_factory=dict)

    def opened(self, spelled: str, *, reads: bool, writes: bool, fresh: bool = True) -> None:
        """Hear that a file is opened; a compiled module stands for its source. One not ``fresh`` keeps what it held."""
        if spelled.endswith(".pyc"):
            spelled = _source_of(spelled)
        path = self._path(spelled)
        if path is None:
            return
        found = stamped(path)
        if reads and path in self.extended:
            self._sees(self._name(spelled, path), path, self.extended.pop(path))
            if path in self.made:
                self.made[path] = time.monotonic_ns()
        elif reads:
            self.asked(spelled, found)
        if writes and not (reads or fresh or self._own(path)):
            # What it held before matters once the step reads it, and a log that is only written to is never read.
            self.extended[path] = found
        if writes and self.extended.get(path) is not None:
            self._keep("written", self._name(spelled, path), _ADDED)
        elif writes:
            self.makes(spelled)

    def asked(self, spelled: str, found: os.stat_result | None) -> None:
        """Hear that somebody looks at a path, and what is there."""
        path = self._path(spelled)
        if path is not None and path not in self.extended and not self._own(path):
            self._sees(self._name(spelled, path), path, found)

    def _sees(self, name: str, path: str, found: os.stat_result | None) -> None:
        if found is None:
            self._keep("probed", name, "absent")
        elif stat.S_ISREG(found.st_mode):
            self._keep("reads", name, stamp_of(found))
        elif stat.S_ISDIR(found.st_mode) and not self.base.startswith(path.rstrip("/") + "/") and path != self.base:
            self._keep("probed", name, "folder")

    def lists(self, spelled: str) -> None:
        """Hear that a folder is listed: the names in it count."""
        path = self._path(spelled)
        if path is None or self._own(path):
            return
        name = self._name(spelled, path)
        if name not in self.listed:
            found = names_in(path)
            self._keep(*(("probed", name, "absent") if found is None else ("listed", name, self._foreign(path, found))))

    def makes(self, spelled: str) -> None:
        """Hear that a path is written or made."""
        path = self._path(spelled)
        if path is not None:
            self._keep("written", self._name(spelled, path), None)
            self.made.setdefault(path, time.monotonic_ns())

    def starts(self, words: Sequence[str], folder: str | None) -> None:
        """Hear that a program is started: files that its command names are read."""
        self._keep("programs", json.dumps(list(words)), None)
        for spelled, listed in paths_named(words, folder or ""):
            found = stamped(spelled)
            if listed:
                self.lists(spelled)
            elif found is not None and stat.S_ISREG(found.st_mode):
                self.asked(spelled, found)

    def for_children(self) -> dict[str, Any]:
        """Return what a process that is no fork of this one needs to record for it."""
        same = ("base", "ignored", "watched", "declared", "children", "pid", "made")
        return {name: getattr(self, name) for name in same}

    def _keep(self, kind: str, name: str, value: Any) -> None:
        now = time.monotonic_ns()
        self._take(kind, name, value, now)
        if os.getpid() != self.pid:
            # A child's memory is lost with it.
            line = json.dumps([kind, name, value, now]) + "\n"
            descriptor = os.open(self.children, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8", "surrogatepass"))
            finally:
                os.close(descriptor)

    def _take(self, kind: str, name: str, value: Any, now: int) -> None:
        getattr(self, kind).setdefault(name, value)
        self.seen[kind, name] = min(now, self.seen.get((kind, name), now))

    def _path(self, spelled: str) -> str | None:
        """Return a path from the root, unless it is none of the step's business."""
        path = os.path.normpath(os.path.join(os.getcwd(), spelled))
        if path in self.declared or self._passed_over(path):
            return None
        return path

    def _passed_over(self, path: str) -> bool:
        """Return whether the longest of the folders that hold a path is one to be ignored."""
        ignored = max((len(folder) for folder in self.ignored if _covered(path, folder)), default=-1)
        return ignored > max((len(folder) for folder in self.watched if within(path, folder)), default=-1)

    def _own(self, path: str, by: int | None = None) -> bool:
        """Return whether the step itself has made this, or a folder that holds it, ``by`` a time."""
        while (made := self.made.get(path)) is None or (by is not None and made > by):
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
        """Take over what children have written down; what one process has made is no input to another."""
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
            for name in [name for name in names if self._own(os.path.join(self.base, name), self.seen[kind, name])]:
                del names[name]


def stamped(path: str) -> os.stat_result | None:
    """Return what is at a path, without being heard; None when nothing is."""
    try:
        return _stat(path)
    except (OSError, ValueError):
        return None


def within(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _covered(path: str, folder: str) -> bool:
    """Return whether a path lies in a folder; one that ends in ``/.`` means all hidden names in that folder."""
    return path.startswith(folder) if folder.endswith("/.") else within(path, folder)


def _source_of(compiled: str) -> str:
    try:
        return source_from_cache(compiled)
    except ValueError:
        return compiled
