"""Drafts of dataset versions that the tests register, and short ways to write them."""

from __future__ import annotations

from nbpipe.model import ObjectReference
from nbpipe.model.datasets import (
    DatasetContent,
    DatasetDraft,
    DatasetKind,
    DatasetOrigin,
    DatasetRecipe,
    RecipeKind,
)

FILE = DatasetRecipe(RecipeKind.FILE)


def draft(name: str = "labels", content: str = "1", recipe: DatasetRecipe = FILE, created: float = 5.0) -> DatasetDraft:
    """Return a kept file of this content, to be registered."""
    reference = ObjectReference("default", f"blake3:{content}", "labels.csv", 10)
    kept = DatasetContent(DatasetKind.KEPT, reference.digest, 10, recipe, reference)
    return DatasetDraft(name, kept, DatasetOrigin(created, "ada", tags={"a": "b"}))
