"""The calls behind the verbs about datasets, and their responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbpipe.model.datasets import DatasetDifference, DatasetVersion
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.dataset_options import table_reading
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.dataset_sources import find_source
from nbpipe.workspace.datasets import (
    DatasetDetails,
    DatasetLineage,
    Datasets,
    Keeping,
    RegisteredVersion,
)
from nbpipe.workspace.table_registration import QuerySource, register_query, register_table_files


@dataclass(frozen=True, slots=True)
class DatasetListResponse:
    """The newest version of each dataset, with the labels of the dataset; ``now`` is in seconds since the epoch."""

    datasets: Sequence[tuple[DatasetVersion, tuple[str, ...]]]
    now: float


@dataclass(frozen=True, slots=True)
class DatasetResponse:
    """A version; ``now`` is in seconds since the epoch."""

    details: DatasetDetails
    now: float


@dataclass(frozen=True, slots=True)
class DatasetRegisteredResponse:
    """A version that was registered."""

    registered: RegisteredVersion


@dataclass(frozen=True, slots=True)
class DatasetDifferenceResponse:
    """The difference between two versions."""

    difference: DatasetDifference


@dataclass(frozen=True, slots=True)
class DatasetLineageResponse:
    """What a version was made from, and what from it."""

    lineage: DatasetLineage


@dataclass(frozen=True, slots=True)
class DatasetChangeResponse:
    """A version that was labelled or kept; ``change`` says so."""

    version: DatasetVersion
    change: str


def datasets_list(_invocation: Invocation, caller: Caller) -> DatasetListResponse:
    """Return the newest version of each dataset."""
    return DatasetListResponse(_datasets(caller).newest(), caller.workspace.now())


def datasets_show(invocation: Invocation, caller: Caller) -> DatasetResponse:
    """Return a version of a dataset."""
    return DatasetResponse(_datasets(caller).details(invocation[options.DATASET]), caller.workspace.now())


def datasets_register(invocation: Invocation, caller: Caller) -> DatasetRegisteredResponse:
    """Register files, as they are or as a table, or the result of a query as a version."""
    read = table_reading(invocation)
    datasets, name, source = _datasets(caller), invocation[options.NEW_DATASET], invocation[options.SOURCE]
    description, tags = invocation[options.DESCRIPTION], invocation[options.DATASET_TAG]
    if isinstance(read, QuerySource):
        return DatasetRegisteredResponse(register_query(datasets, name, read, description=description, tags=tags))
    keeping = Keeping.COPY if invocation[options.COPY] else Keeping.BY_SIZE
    keeping = Keeping.REFERENCE if invocation[options.REFERENCE] else keeping
    if read is None:
        registered = datasets.register(
            name, source, caller.folder, keeping, transfer=caller.transfer, description=description, tags=tags
        )
    else:
        registered = register_table_files(
            datasets, name, find_source(datasets.context, source, caller.folder), read, keeping,
            transfer=caller.transfer, description=description, tags=tags,
        )  # fmt: skip
    return DatasetRegisteredResponse(registered)


def datasets_diff(invocation: Invocation, caller: Caller) -> DatasetDifferenceResponse:
    """Return the difference between two versions."""
    first, second = invocation[options.DATASET], invocation[options.OTHER_DATASET]
    return DatasetDifferenceResponse(_datasets(caller).difference(first, second))


def datasets_lineage(invocation: Invocation, caller: Caller) -> DatasetLineageResponse:
    """Return what a version was made from, and what from it."""
    return DatasetLineageResponse(_datasets(caller).lineage(invocation[options.DATASET]))


def datasets_label(invocation: Invocation, caller: Caller) -> DatasetChangeResponse:
    """Give a version a label."""
    label = invocation[options.LABEL]
    version = _datasets(caller).label(invocation[options.DATASET], label)
    return DatasetChangeResponse(version, f"has the label {label}")


def datasets_pin(invocation: Invocation, caller: Caller) -> DatasetChangeResponse:
    """Keep a copy of a referenced version's bytes."""
    return DatasetChangeResponse(_datasets(caller).keep(invocation[options.DATASET], caller.transfer), "is kept")


def _datasets(caller: Caller) -> Datasets:
    caller.workspace.require_trust()
    return Datasets(caller.workspace.context)
