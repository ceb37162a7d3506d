"""Inputs ``ds:NAME[@VERSION]``: bound to a version when a run is submitted, for the whole of the run."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

from nbpipe.errors import NbpipeError, UnknownDataset
from nbpipe.history.datasets import DatasetRepository
from nbpipe.language.source_text import nearest
from nbpipe.model.datasets import (
    NAME_RULE,
    DatasetFiles,
    DatasetReference,
    DatasetVersion,
    PinnedDataset,
    parse_reference,
)
from nbpipe.resolve.dataset_bytes import DatasetBytes

SCHEME = "ds:"
_REGISTER = "Register one: nbpipe datasets register NAME SOURCE, or `#| register: OUTPUT=NAME` on a step."


@dataclass(slots=True)
class DatasetInputs:
    """Binds inputs to versions; ``pins`` has the numbers that a run's inputs were bound to before, by their texts."""

    datasets: DatasetRepository
    bytes: DatasetBytes
    pins: MutableMapping[str, int]

    def pin(self, text: str) -> PinnedDataset:
        """Return the version that ``ds:NAME[@VERSION]`` names, the one that it named first in this run.

        Raise UnknownDataset if there is none, DataGone or DataChanged if it is not what was registered.
        """
        reference = reference_in(text.removeprefix(SCHEME))
        if text in self.pins:
            reference = DatasetReference(reference.name, self.pins[text])
        version = find_version(self.datasets, reference)
        self.bytes.check(version)
        self.pins[text] = version.number
        return PinnedDataset(version, version.basename)

    def stage(self, pinned: PinnedDataset) -> DatasetFiles:
        """Return the version's files on this machine; raise DataGone or DataChanged if they cannot be had."""
        return self.bytes.local(pinned.version)

    def is_unchanged(self, pinned: PinnedDataset) -> bool:
        """Return whether the version's files are still what was registered."""
        try:
            self.bytes.check(pinned.version)
        except NbpipeError:
            return False
        return True


def reference_in(text: str) -> DatasetReference:
    """Return what ``NAME[@VERSION]`` asks for; raise UnknownDataset if it cannot be the name of a version."""
    try:
        return parse_reference(text)
    except ValueError as error:
        raise UnknownDataset(str(error), f"Write NAME, NAME@3 or NAME@LABEL. {NAME_RULE}") from None


def find_version(datasets: DatasetRepository, reference: DatasetReference) -> DatasetVersion:
    """Return a version; raise UnknownDataset, with the nearest name, number or label, if there is none."""
    version = datasets.find(reference)
    if version is not None:
        return version
    name, known = reference.name, datasets.versions(reference.name)
    if not known:
        names = datasets.names()
        hint = nearest(name, names) or (f"There are: {', '.join(names[:10])}." if names else _REGISTER)
        raise UnknownDataset(f"there is no dataset `{name}`", hint)
    if reference.label:
        labels = datasets.labels(name).get(name, {})
        newest = f"Its newest version is {known[-1]}; labels are set with: nbpipe datasets label {known[-1]} LABEL"
        hint = nearest(reference.label, labels) or (f"It has: {', '.join(labels)}." if labels else newest)
        raise UnknownDataset(f"the dataset `{name}` has no label `{reference.label}`", hint)
    numbers = [each.number for each in known]
    near = min(numbers, key=lambda number: abs(number - (reference.number or 0)))
    message = f"the dataset `{name}` has no version {reference.number}"
    raise UnknownDataset(message, f"Did you mean `{name}@{near}`? Its newest version is {numbers[-1]}.")
