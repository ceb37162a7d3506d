"""Inputs that are bound to versions of datasets: the interface to what binds them, and what cannot be bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nbpipe.errors import BadPipeline, Refused, UnknownDataset
from nbpipe.model import Step
from nbpipe.model.datasets import DatasetFiles, PinnedDataset, RecipeKind
from nbpipe.planning.graph import is_dataset


class DatasetInputs(Protocol):
    """Binds inputs to versions of datasets."""

    def pin(self, text: str) -> PinnedDataset:
        """Return the version that ``ds:NAME[@VERSION]`` names."""

    def stage(self, pinned: PinnedDataset) -> DatasetFiles:
        """Return the version's files on this machine; raise DataGone or DataChanged if they cannot be had."""

    def is_unchanged(self, pinned: PinnedDataset) -> bool:
        """Return whether the version's files are still what was registered."""


def no_datasets() -> DatasetInputs:
    """Raise UnknownDataset: outside of a workspace there are no datasets."""
    raise UnknownDataset("there are no datasets here", "Open a workspace: nbpipe init")


def datasets_with_a_format(step: Step, datasets: Mapping[str, PinnedDataset]) -> list[Refused]:
    """Return errors for formats of datasets that are not single files: the others know how they are read."""
    return [
        BadPipeline(
            f"`{item.name}` is `{datasets[item.name].version}`, which is not a file to be read as {item.format}",
            f"Leave the format out: {item.name}={item.source.text}", item.place,
        )
        for item in step.inputs
        if item.format is not None and item.name in datasets and is_dataset(item.source)
        and datasets[item.name].version.content.recipe.kind is not RecipeKind.FILE
    ]  # fmt: skip
