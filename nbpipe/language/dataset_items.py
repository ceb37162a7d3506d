"""The parts of a declaration about datasets: ``OUTPUT=NAME`` of ``register``, and sources ``ds:NAME[@VERSION]``."""

from __future__ import annotations

import re

from nbpipe.language.declaration_items import identifier
from nbpipe.language.source_text import LocatedText, split_commas, unquote
from nbpipe.model.datasets import NAME_RULE, is_name

_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


def registrations_in(span: LocatedText) -> tuple[tuple[str, str], ...]:
    """Read ``OUTPUT=NAME`` between commas: outputs with the datasets that they become versions of."""
    pairs: dict[str, str] = {}
    for item in split_commas(span):
        left, equals, _ = item.text.partition("=")
        output = identifier(item.part(0, len(left)), "output name")
        if not equals:
            raise item.wrong(f"`{item.text}` names no dataset", f"Write the dataset's name after it: {output}={output}")
        dataset = unquote(item.part(len(left) + 1)).text
        if not is_name(dataset):
            raise item.wrong(f"`{dataset}` is not the name of a dataset", f"{NAME_RULE}{_suggestion(output, dataset)}")
        if output in pairs:
            raise item.wrong(f"`{output}` is registered twice", "An output becomes a version of one dataset.")
        if dataset in pairs.values():
            raise item.wrong(f"two outputs are registered as `{dataset}`", "Give each its own dataset.")
        pairs[output] = dataset
    return tuple(pairs.items())


def _suggestion(output: str, dataset: str) -> str:
    name = _NO_NAME.sub("_", dataset.partition("@")[0]).strip("_.-")
    return f" For example: {output}={name}" if is_name(name) else ""
