"""The program that makes the profile of a version: Arrow is loaded here, and not where the profile is shown."""

from __future__ import annotations

import sys
from pathlib import Path

from nbpipe.codec import encode_sparse
from nbpipe.model.datasets import DatasetReference
from nbpipe.workspace.dataset_object import Dataset
from nbpipe.workspace.datasets import Datasets
from nbpipe.workspace.workspace import Workspace


def main(root: str, name: str, number: str) -> None:
    """Write the profile of a version, as JSON, to standard output."""
    folder = Path(root)
    with Workspace.read(folder.parent, folder) as workspace:
        version = Datasets(workspace.context).find_reference(DatasetReference(name, int(number)))
        dataset = Dataset(version.content.recipe, version=version, root=folder)
        sys.stdout.write(encode_sparse(dataset.profile()))


if __name__ == "__main__":
    main(*sys.argv[1:])
