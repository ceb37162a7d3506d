"""Files that two unordered steps of a run share: no result may be from bytes that the run has rewritten.

The order that counts is the notebook's: a step below the writer reads what was written, a step above it does not.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbpipe.model import ExecutionRecord, Failure, FailureKind, Observation, ObservationKind
from nbpipe.planning.reachability import ancestors

_RAISED = "FileBetweenSteps"


@dataclass(frozen=True, slots=True)
class FileConflict:
    """Why a result cannot stand; after ``again`` the step reads what was written, so another attempt can succeed.

    ``outdated`` are the executions that have ended with the file as it was before, each with a note that says so.
    """

    failure: Failure
    again: bool
    outdated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Ended:
    id: str
    step: str
    position: int
    at: float


@dataclass(slots=True)
class FileConflicts:
    """What the ended executions of a run have read and written without declaring it, by path."""

    _readers: dict[str, list[_Ended]] = field(default_factory=lambda: defaultdict(list))
    _writers: dict[str, list[_Ended]] = field(default_factory=lambda: defaultdict(list))

    def add(self, record: ExecutionRecord, read: Iterable[str], written: Iterable[str], now: float) -> None:
        """Record what an execution read and wrote; one that reused a result has read what that result was made from."""
        ended = _Ended(record.id, record.step, record.position, now)
        for path in read:
            self._readers[path].append(ended)
        for path in _with_folders(written):
            self._writers[path].append(ended)

    def may_concern(self, written: Iterable[str]) -> bool:
        """Return whether an execution that wrote these files can be in a conflict at all: most runs write none."""
        return bool(self._writers) or any(path in self._readers for path in _with_folders(written))

    def find(
        self,
        record: ExecutionRecord,
        needs: Mapping[str, Iterable[str]],
        read: Collection[str],
        written: Collection[str],
        doubts: Iterable[str],
    ) -> FileConflict | None:
        """Return why an execution that is about to succeed may not; ``needs`` are those of all executions."""
        above, changed = ancestors(record.id, needs), " ".join(doubts)
        touched = {*read, *(path for path in self._writers if f"`{path}` changed" in changed)}
        for path in sorted(touched & self._writers.keys()):
            for writer in self._writers[path]:
                if writer.id in above or writer.id == record.id:
                    continue
                is_below = record.position > writer.position
                if not is_below or record.started is None or record.started < writer.at:
                    return FileConflict(_failure(path, writer.step, record.step), is_below)
        return self._rewritten(record, above, written)

    def _rewritten(
        self, record: ExecutionRecord, above: Collection[str], written: Collection[str]
    ) -> FileConflict | None:
        """Return the conflict of an execution that wrote files which steps below it have read before."""
        first, outdated = None, dict[str, str]()
        for path in sorted(_with_folders(written) & self._readers.keys()):
            for reader in self._readers[path]:
                if reader.id not in above and reader.id != record.id and reader.position > record.position:
                    first = first or _failure(path, record.step, reader.step)
                    outdated[reader.id] = f"its result is from `{path}` as it was before `{record.step}` wrote it"
        return None if first is None else FileConflict(first, again=False, outdated=outdated)


def paths_read(observed: Iterable[Observation], declared: Iterable[str]) -> set[str]:
    """Return the files that a step has read, declared or not, or looked for; listed folders end with a slash."""
    paths = {item.name for item in observed if item.kind in (ObservationKind.READ, ObservationKind.PROBED)}
    paths |= {f"{item.name}/" for item in observed if item.kind is ObservationKind.LISTED}
    return paths | set(map(os.path.normpath, declared))


def _with_folders(written: Iterable[str]) -> set[str]:
    """Return these files and, each with a slash, the folders whose listings they may change."""
    paths = set(written)
    return paths | {f"{Path(path).parent}/" for path in paths}


def _failure(path: str, writer: str, reader: str) -> Failure:
    message = (
        f"`{writer}` writes `{path}`, which `{reader}` reads, and no declaration puts them in order: declare the file "
        f"as an output of `{writer}` and an input of `{reader}`"
    )
    return Failure(FailureKind.INPUT, _RAISED, message, message)
