"""What is written as typed JSON is read back as it was, or refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from nbpipe.codec import ALWAYS, convert, decode, encode, encode_exact, encode_sparse


class Colour(StrEnum):
    """A kind."""

    RED = "red"


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Something in something."""

    name: str
    note: str = ""
    count: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Whole:
    """Every type that is used."""

    path: Path
    colour: Colour
    parts: tuple[Part, ...] = ()
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ratio: float = 0.0
    missing: str | None = None
    on: bool = True
    version: int = dataclasses.field(default=1, metadata=ALWAYS)


UNDECODABLE = b"caf\xe9".decode("utf-8", "surrogateescape")
WHOLES = [
    Whole(Path("/a/b"), Colour.RED),
    Whole(
        Path(UNDECODABLE), Colour.RED, (Part("a"), Part("b", "n", 0)), {"x": [1, {"y": None}]}, math.inf, "m", on=False
    ),
    Whole(Path(), Colour.RED, values={"empty": {}, "zero": 0}),
]


@pytest.mark.parametrize("whole", WHOLES)
@pytest.mark.parametrize("write", [encode, encode_exact, encode_sparse])
def test_what_is_written_is_read_back(write, whole):
    text = write(whole)

    assert text.isascii()
    assert decode(text, Whole) == decode(text.encode(), Whole) == convert(json.loads(text), Whole) == whole


def test_sparse_leaves_out_defaults_at_every_depth():
    """What a mapping holds is the author's and stays, and so does a version."""
    text = encode_sparse(Whole(Path("p"), Colour.RED, (Part("", count=0), Part("b")), {"empty": {}}))
    parts = [{"name": "", "count": 0}, {"name": "b"}]

    assert json.loads(text) == {"path": "p", "colour": "red", "parts": parts, "values": {"empty": {}}, "version": 1}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"path": 1, "colour": "red"}', '{"path": "p", "colour": "blue"}', "[" * 100_000]
)
def test_what_is_none_of_it_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        decode(text, Whole)


def test_what_cannot_be_read_back_is_shown_or_refused():
    thing = complex(1, 2)

    assert json.loads(encode({"x": thing})) == {"x": "(1+2j)"}
    with pytest.raises(TypeError, match="cannot hold a complex"):
        encode_exact({"x": thing})
