"""The distributions installed in an environment, read from the names of their folders. Shipped to steps' kernels.

importlib.metadata would read every distribution's metadata; a plan needs only a few versions, and must be fast.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_FOLDERS = ("site-packages", "dist-packages")
_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_SUFFIXES = (".py", *EXTENSION_SUFFIXES)
_SEPARATORS = re.compile(r"[-_.]+")


def site_folders(paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of an import path's folders in which distributions are installed."""
    return tuple(path for path in paths if Path(path).name in _FOLDERS and Path(path).is_dir())


def installed(folders: Iterable[str]) -> list[str]:
    """Return the names of the folders that describe the installed distributions."""
    return sorted(name for folder in folders for name in _names(folder) if _INFO.fullmatch(name))


def canonical(name: str) -> str:
    """Return the normalised name of a distribution (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution: ``info`` is the folder that describes it."""

    name: str
    version: str
    info: Path


@dataclass(slots=True)
class InstalledPackages:
    """The packages installed in some folders, listed once. ``digest`` returns the digest of a file or folder."""

    folders: tuple[str, ...]
    digest: Callable[[Path], str]
    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _distributions: dict[str, Distribution] | None = None
    _owners: dict[str, list[str]] | None = None
    _states: dict[str, str] = field(default_factory=dict)
    _ages: tuple[int, ...] = ()

    def refresh(self) -> None:
        """Discard what is cached if packages were installed or removed since the last call."""
        ages = tuple(_age(folder) for folder in self.folders)
        if ages != self._ages:
            self._ages, self._distributions, self._owners = ages, None, None
            self._names.clear()
            self._states.clear()

    def state(self, name: str) -> str:
        """Return a distribution's version, or ``absent``.

        A distribution that was not installed from an index may change without a new version, so its list of files
        counts too. A module that belongs to no distribution counts by its content.
        """
        if name not in self._states:
            distribution = self._all().get(name)
            self._states[name] = self._version(distribution) if distribution else self._content(name)
        return self._states[name]

    def owners(self, module: str) -> tuple[str, ...]:
        """Return the distributions that contain a top-level module; the module's own name if none does."""
        if canonical(module) in self._all():
            return (canonical(module),)
        if self._owners is None:
            self._owners = {}
            for distribution in self._all().values():
                for top in _top_level(distribution.info):
                    self._owners.setdefault(top, []).append(distribution.name)
        return tuple(self._owners.get(module, (module,)))

    def importable(self, module: str) -> bool:
        """Return whether one of the folders contains a top-level module of this name."""
        return any(holds(self._in(folder), module) for folder in self.folders)

    def all(self) -> list[str]:
        """Return every distribution as ``name==version``."""
        return sorted(f"{distribution.name}=={self.state(distribution.name)}" for distribution in self._all().values())

    def _in(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            self._names[folder] = frozenset(_names(folder))
        return self._names[folder]

    def _all(self) -> dict[str, Distribution]:
        if self._distributions is None:
            self._distributions = {}
            for folder in self.folders:
                for info in sorted(self._in(folder)):
                    match = _INFO.fullmatch(info)
                    if match:
                        name = canonical(match["name"])
                        # As on Python's import path, the first folder wins.
                        self._distributions.setdefault(name, Distribution(name, match["version"], Path(folder, info)))
        return self._distributions

    def _version(self, distribution: Distribution) -> str:
        if not (distribution.info / "direct_url.json").exists():
            return distribution.version
        record = distribution.info / "RECORD"
        return f"{distribution.version} {self.digest(record)}" if record.exists() else distribution.version

    def _content(self, name: str) -> str:
        for folder in self.folders:
            for path in (Path(folder, name), Path(folder, f"{name}.py")):
                if path.exists():
                    return self.digest(path)
        return "absent"


def holds(names: frozenset[str], module: str) -> bool:
    """Return whether the names in a folder include a module or package of that name."""
    return not names.isdisjoint((module, *(module + suffix for suffix in _SUFFIXES)))


def _age(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def _top_level(info: Path) -> Iterator[str]:
    """Return the top-level modules of a distribution, from its own list or from its files."""
    try:
        yield from (info / "top_level.txt").read_text(encoding="utf-8").split()
    except OSError:
        yield from dict.fromkeys(_recorded(info / "RECORD"))


def _recorded(record: Path) -> Iterator[str]:
    try:
        with record.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                first = row[0].partition("/")[0] if row else ""
                if first and not first.endswith((".dist-info", ".data", "..")):
                    yield first.partition(".")[0]
    except OSError:
        return
