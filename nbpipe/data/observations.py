"""What a step used without declaring it: derived from its kernel's report, and compared with the present."""

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
from nbpipe.model import ComponentKind, Observation, ObservationKind, Reason

ABSENT = "absent"
_FOLDER = "folder"
_SHORT = 8
_CHANGED = re.compile(r"the input `(\w+)` is changed in place, which no other step sees")
_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")
_INSTALLERS = re.compile(r"(?:^|[\s/])(?:pip[\d.]*|conda|mamba|micromamba|pixi|uv|poetry)(?:\s|$)")
_INSTALLING = re.compile(r"\s(?:install|uninstall|remove|add|sync|update)(?:\s|$)")
_SHELLS = ("sh", "bash", "dash", "zsh")
_INTERPRETER = re.compile(r"(python|pypy)[\d.]*|bash|sh|zsh|dash|Rscript|R|julia|perl|ruby|node|make")


@dataclass(slots=True)
class EnvironmentProbe:
    """The current environment of a notebook, cached. ``base`` is its folder, ``roots`` those of local modules."""

    base: Path
    roots: tuple[Path, ...]
    digests: DigestCache
    packages: InstalledPackages
    _states: dict[tuple[ObservationKind, str], str] = field(default_factory=dict)
    _names: dict[Path, frozenset[str]] = field(default_factory=dict)

    def refresh(self) -> None:
        """Discard what is cached."""
        self._states.clear()
        self._names.clear()
        self.packages.refresh()

    def state(self, kind: ObservationKind, name: str) -> str:
        """Return the state that an observation of this kind and name would have now."""
        key = (kind, name)
        if key not in self._states:
            self._states[key] = self._look(kind, name)
        return self._states[key]

    def differences(self, observed: Iterable[Observation]) -> tuple[Reason, ...]:
        """Return a reason for each observation that no longer holds."""
        return tuple(
            Reason.about(ComponentKind(item.kind), state_summary(now), subject=item.name, was=state_summary(item.state))
            for item in observed
            if (now := self.state(item.kind, item.name)) != item.state and now != (item.left or item.state)
        )

    def renewed(self, observed: Iterable[Observation]) -> tuple[Observation, ...]:
        """Return the same observations with their current states."""
        return tuple(
            Observation(item.kind, item.name, self.state(item.kind, item.name), ABSENT if item.left == ABSENT else "")
            for item in observed
        )

    def files(self, observed: Iterable[Observation]) -> list[Path]:
        """Return the files whose bytes these observations are about."""
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
        """Return the digest of all files of code and settings around the notebook."""
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
    report: Mapping[str, Any], around: EnvironmentProbe, project: Path
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Return the observations in a kernel's report, and the reasons to doubt its result.

    ``project`` is the folder that contains the notebook and everything that moves with it.
    """
    observed: list[Observation] = []
    doubts: list[str] = []
    for name, stamp in report["reads"].items():
        state = _read(around, name, stamp)
        if state is None:
            doubts.append(f"`{name}` changed while the step ran")
        else:
            observed.append(Observation(ObservationKind.READ, name, state))
    for name, names in report["listed"].items():
        own_names = report["left"].get(name)
        left = _listing(own_names) if own_names else ""
        observed.append(Observation(ObservationKind.LISTED, name, _listing(names), left))
    for name, state in report["probed"].items():
        left = around.state(ObservationKind.PROBED, name) if name in report["left"] else ""
        observed.append(Observation(ObservationKind.PROBED, name, state, left))
    observed += [
        Observation(ObservationKind.PACKAGE, name, around.packages.state(name))
        for name in _owners(report, around.packages)
    ]
    observed += [Observation(ObservationKind.MISSING, name, ABSENT) for name in report["missing"]]
    if any(_runs_code(words, around.base) for words in report["programs"]):
        observed.append(Observation(ObservationKind.SOURCES, "", around.state(ObservationKind.SOURCES, "")))
    if report["reinstalled"] or any(map(_installs, report["programs"])):
        doubts.append("installed packages changed while the step ran")
    observed = list(
        {(item.kind, item.name): item for each in observed for item in _movable(each, around.base, project)}.values()
    )
    return tuple(sorted(observed, key=lambda item: (item.kind, item.name))), tuple(doubts)


def _movable(item: Observation, base: Path, project: Path) -> Iterator[Observation]:
    """Yield an observation; one of an absolute path in the project also by its relative path.

    It is unknown whether the code contains the absolute path or derives it from the working directory. In a copy of the
    project both must be unchanged; if the project was moved, nothing is left at the absolute path.
    """
    if not Path(item.name).is_relative_to(project):
        yield item
        return
    yield Observation(item.kind, os.path.relpath(item.name, base), item.state, item.left)
    yield Observation(item.kind, item.name, item.state, item.left or ABSENT)


def state_summary(state: str) -> str:
    """Return a short form of a state."""
    return _DIGEST.sub(lambda match: match[0].partition(":")[2][:_SHORT], state)


def changed_input_note(name: str) -> str:
    """Return the note on a step that has changed an input in place."""
    return f"the input `{name}` is changed in place, which no other step sees"


def changed_inputs(notes: Iterable[str]) -> list[str]:
    """Return the inputs that a step has changed in place according to its notes."""
    return [match[1] for note in notes if (match := _CHANGED.fullmatch(note))]


def relative_path(name: str, base: Path) -> str:
    """Return a recorded path, relative to the notebook's folder if it is inside of it."""
    path = os.path.normpath(name)
    return os.path.relpath(path, base) if Path(path).is_relative_to(base) else path


def content_of(path: Path, digests: DigestCache) -> str:
    """Return the digest of a file or folder."""
    return content_digest(path, digests)[0]


def _read(around: EnvironmentProbe, name: str, stamp: Sequence[int]) -> str | None:
    """Return the digest of a file if it is unchanged since it was read, else None."""
    path = around.base / name
    if _stamp(path) != tuple(stamp):
        return None
    state = around.state(ObservationKind.READ, name)
    return state if _stamp(path) == tuple(stamp) else None


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _owners(report: Mapping[str, Any], packages: InstalledPackages) -> list[str]:
    return sorted({owner for module in report["packages"] for owner in packages.owners(module)})


def _listing(names: Iterable[str]) -> str:
    listed = sorted(names)
    text = "\0".join(listed).encode("utf-8", "surrogatepass")
    return f"{len(listed)} names, {bytes_digest(text)}"


def _runs_code(words: Sequence[str], base: Path) -> bool:
    """Return whether a command may run the author's code: by an interpreter, or as a file beside the notebook."""
    return any(
        _INTERPRETER.fullmatch(Path(word).name) or ("/" in word and _lies_around(base / word, base))
        for word in _programs(words)
    )


def _installs(words: Sequence[str]) -> bool:
    message = " ".join(words)
    return bool(_INSTALLERS.search(message)) and bool(_INSTALLING.search(message))


def _lies_around(program: Path, base: Path) -> bool:
    return program.is_relative_to(base) and program.is_file()


def _programs(words: Sequence[str]) -> Iterator[str]:
    """Yield the programs that a command starts: its first words, and those in a shell's command line."""
    *shell, last = words or [""]
    if "-c" in shell and any(Path(word).name in _SHELLS for word in shell):
        for command in re.split(r"[;&|\n]+", last):
            yield from command.split()[:1]
        return
    yield from words[:2]
