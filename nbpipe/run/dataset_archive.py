"""The records of datasets as files, from which a lost database gets its versions and labels back.

Each dataset has a folder with a file for each version, and one for its labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nbpipe.codec import ALWAYS, decode, encode_sparse
from nbpipe.data.atomic_file import write_file
from nbpipe.data.regular_file import read_regular
from nbpipe.history.sequences import is_plausible
from nbpipe.history.store import History
from nbpipe.model import ExecutionRecord
from nbpipe.model.datasets import DatasetVersion, is_name, parse_reference
from nbpipe.permissions import make_folder
from nbpipe.resolve.workspace_layout import WorkspaceLayout

_LABELS = "labels.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArchivedVersion:
    """A version as it was registered, or last changed."""

    dataset: DatasetVersion
    version: Literal[1] = field(default=1, metadata=ALWAYS)


@dataclass(frozen=True, slots=True)
class ArchivedLabels:
    """The labels of a dataset with the numbers that they stand for."""

    name: str
    labels: Mapping[str, int]
    version: Literal[1] = field(default=1, metadata=ALWAYS)


def keep_version(layout: WorkspaceLayout, version: DatasetVersion) -> None:
    """Write the record of a version; it is needed only if the history is lost."""
    _write(layout.datasets / version.name / f"{version.number}.json", ArchivedVersion(version))


def keep_versions(layout: WorkspaceLayout, history: History, record: ExecutionRecord) -> None:
    """Write the records of the versions that an execution's outputs are."""
    if history.is_private:
        return
    for reference in dict.fromkeys(artifact.dataset for artifact in record.artifacts if artifact.dataset):
        version = history.datasets.find(parse_reference(reference))
        if version is not None:
            keep_version(layout, version)


def keep_labels(layout: WorkspaceLayout, history: History, name: str) -> None:
    """Write the record of a dataset's labels."""
    labels = history.datasets.labels(name).get(name, {})
    _write(layout.datasets / name / _LABELS, ArchivedLabels(name, labels))


def archived_datasets(layout: WorkspaceLayout) -> Iterator[tuple[Path, DatasetVersion | ArchivedLabels | str]]:
    """Yield every record of a version or of labels with its file, or the reason why it cannot be read."""
    for path in sorted(layout.datasets.glob("*/*.json")):
        try:
            yield path, _read(path)
        except (OSError, ValueError) as error:
            yield path, f"is not a kept record of a dataset: {error}"


def restore_datasets(layout: WorkspaceLayout, history: History) -> int:
    """Record the kept versions and labels that the history does not have; return how many versions there were."""
    kept = [record for _, record in archived_datasets(layout)]
    versions = [record for record in kept if isinstance(record, DatasetVersion)]
    labels = [
        (record.name, label, number)
        for record in kept
        if isinstance(record, ArchivedLabels)
        for label, number in record.labels.items()
    ]
    return history.datasets.restore(sorted(versions, key=lambda each: each.number), labels)


def _write(path: Path, record: ArchivedVersion | ArchivedLabels) -> None:
    try:
        make_folder(path.parent)
        write_file(path, encode_sparse(record).encode(), durable=False)
    except OSError as error:
        _LOG.warning("the record %s of a dataset could not be written: %s", path, error)


def _read(path: Path) -> DatasetVersion | ArchivedLabels:
    text, folder = read_regular(path), path.parent.name
    if path.name == _LABELS:
        labels = decode(text, ArchivedLabels)
        if labels.name != folder or not all(map(is_name, labels.labels)):
            raise ValueError("it is of another dataset, or has labels that are none")
        return labels
    version = decode(text, ArchivedVersion).dataset
    if not is_name(version.name) or (version.name, f"{version.number}.json") != (folder, path.name):
        raise ValueError("it is of another version")
    if version.number < 1 or not is_plausible(version.number):
        raise ValueError(f"no dataset has {version.number} versions")
    return version
