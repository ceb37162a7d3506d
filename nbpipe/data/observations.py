"""What a step used without declaring it: made from what its kernel tells, and compared with what is so now."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbpipe.data.digests import DigestCache, bytes_digest, content_digest, remembered_digest, tree_digest
from nbpipe.data.directory_listing import code_below, names_in
from nbpipe.data.installed_packages import InstalledPackages, holds
from nbpipe.errors import FileMissing
from nbpipe.model import Observation, ObservationKind, Reason

ABSENT = "absent"
_FOLDER = "folder"
_SHORT = 8
_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")
_INSTALLERS = re.compile(r"(?:^|[\s/])(?:pip[\d.]*|conda|mamba|micromamba|pixi|uv|poetry)(?:\s|$)")
_INSTALLING = re.compile(r"\s(?:install|uninstall|remove|add|sync|update)(?:\s|$)")
_SHELLS = ("sh", "bash", "dash", "zsh")
_INTERPRETER = re.compile(r"(python|pypy)[\d.]*|bash|sh|zsh|dash|Rscript|R|julia|perl|ruby|node|make")


@dataclass(slots=True)
class EnvironmentProbe:
    """What is around a notebook now. ``base`` is its folder, ``roots`` those of local modules; each is asked once."""

    base: Path
    roots: tuple[Path, ...]
    digests: DigestCache
    packages: InstalledPackages
    _known: dict[tuple[ObservationKind, str], str] = field(default_factory=dict)
    _names: dict[Path, frozenset[str]] = field(default_factory=dict)

    def refresh(self) -> None:
        """Forget what was so: time has passed."""
        self._known.clear()
        self._names.clear()
        self.packages.refresh()

    def state(self, kind: ObservationKind, name: str) -> str:
        """Get the state that an observation of this kind and name would have now."""
        key = (kind, name)
        if key not in self._known:
            self._known[key] = self._look(kind, name)
        return self._known[key]

    def differences(self, observed: Iterable[Observation]) -> tuple[Reason, ...]:
        """Get a reason for each observation that is not so any more."""
        return tuple(
            Reason(
                f"{item.kind}:{item.name}" if item.name else item.kind, state_summary(item.state), state_summary(now)
            )
            for item in observed
            if (now := self.state(item.kind, item.name)) != item.state and now != (item.left or item.state)
        )

    def renewed(self, observed: Iterable[Observation]) -> tuple[Observation, ...]:
        """Get the same observations as they are now."""
        return tuple(Observation(item.kind, item.name, self.state(item.kind, item.name)) for item in observed)

    def files(self, observed: Iterable[Observation]) -> list[Path]:
        """Get the files whose bytes these observations are about."""
        return [self.base / item.name for item in observed if item.kind is ObservationKind.READ]

    def _look(self, kind: ObservationKind, name: str) -> str:
        path = self.base / name
        if kind is ObservationKind.PACKAGE:
            return self.packages.state(name)
        if kind is ObservationKind.MISSING:
            local = any(holds(self._in(root), name) for root in (self.base, *self.roots))
            return "importable" if local or self.packages.importable(name) else ABSENT
        if kind is ObservationKind.LISTED:
            names = names_in(str(path))
            return ABSENT if names is None else _listing(names)
        if kind is ObservationKind.SOURCES:
            return self._sources()
        if not path.exists():
            return ABSENT
        if path.is_dir():
            return _FOLDER
        return self._content(path)

    def _in(self, root: Path) -> frozenset[str]:
        if root not in self._names:
            self._names[root] = frozenset(names_in(str(root)) or ())
        return self._names[root]

    def _sources(self) -> str:
        """Get the digest of all files of code and settings around the notebook."""
        roots = (self.base, *self.roots)
        paths = dict.fromkeys(path for root in roots for path in map(Path, code_below(str(root))) if path.is_file())
        members = ((os.path.relpath(path, self.base), 0, remembered_digest(path, self.digests)) for path in paths)
        return tree_digest(members)

    def _content(self, path: Path) -> str:
        try:
            return remembered_digest(path, self.digests)
        except (OSError, FileMissing) as error:
            return f"unreadable ({getattr(error, 'strerror', None) or error})"


def settle_observations(
    told: Mapping[str, Any], around: EnvironmentProbe
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Get the observations that a kernel's report comes to, and what makes its result doubtful."""
    found: list[Observation] = []
    doubts: list[str] = []
    for name, stamp in told["reads"].items():
        state = _read(around, name, stamp)
        if state is None:
            doubts.append(f"`{name}` changed while the step ran")
        else:
            found.append(Observation(ObservationKind.READ, name, state))
    for name, names in told["listed"].items():
        left = told["left"].get(name)
        found.append(Observation(ObservationKind.LISTED, name, _listing(names), _listing(left) if left else ""))
    for name, state in told["probed"].items():
        found.append(
            Observation(
                ObservationKind.PROBED,
                name,
                state,
                around.state(ObservationKind.PROBED, name) if name in told["left"] else "",
            )
        )
    found += [
        Observation(ObservationKind.PACKAGE, name, around.packages.state(name))
        for name in _owners(told, around.packages)
    ]
    found += [Observation(ObservationKind.MISSING, name, ABSENT) for name in told["missing"]]
    if any(_runs_code(words, around.base) for words in told["programs"]):
        found.append(Observation(ObservationKind.SOURCES, "", around.state(ObservationKind.SOURCES, "")))
    if told["reinstalled"] or any(map(_installs, told["programs"])):
        doubts.append("installed packages changed while the step ran")
    return tuple(sorted(found, key=lambda item: (item.kind, item.name))), tuple(doubts)


def state_summary(state: str) -> str:
    """Get a state in few words."""
    return _DIGEST.sub(lambda match: match[0].partition(":")[2][:_SHORT], state)


def content_of(path: Path, digests: DigestCache) -> str:
    """Get the digest of a file or folder."""
    return content_digest(path, digests)[0]


def _read(around: EnvironmentProbe, name: str, stamp: Sequence[int]) -> str | None:
    """Get the digest of a file that is still the one that was read, else None."""
    path = around.base / name
    if _stamp(path) != tuple(stamp):
        return None
    state = around.state(ObservationKind.READ, name)
    return state if _stamp(path) == tuple(stamp) else None


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _owners(told: Mapping[str, Any], packages: InstalledPackages) -> list[str]:
    return sorted({owner for module in told["packages"] for owner in packages.owners(module)})


def _listing(names: Iterable[str]) -> str:
    listed = sorted(names)
    text = "\0".join(listed).encode("utf-8", "surrogatepass")
    return f"{len(listed)} names, {bytes_digest(text)}"


def _runs_code(words: Sequence[str], base: Path) -> bool:
    """Say whether a program may run code of the author's: an interpreter, or a file that lies around."""
    return any(
        _INTERPRETER.fullmatch(Path(word).name) or ("/" in word and _lies_around(base / word, base))
        for word in _programs(words)
    )


def _installs(words: Sequence[str]) -> bool:
    said = " ".join(words)
    return bool(_INSTALLERS.search(said)) and bool(_INSTALLING.search(said))


def _lies_around(program: Path, base: Path) -> bool:
    return program.is_relative_to(base) and program.is_file()


def _programs(words: Sequence[str]) -> Iterator[str]:
    """Get the programs that a command starts: its first words, and those of a command line given to a shell."""
    *shell, last = words or [""]
    if "-c" in shell and any(Path(word).name in _SHELLS for word in shell):
        for command in re.split(r"[;&|\n]+", last):
            yield from command.split()[:1]
        return
    yield from words[:2]
