"""Notebooks read again after edits: with what is kept of earlier readings, the reading is that of a new reader."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nbpipe.errors import Refused
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_cell_cache import ParsedCellCache
from nbpipe.model import Cell

SOURCES = (
    "#| parameters\nsize = 3",
    "#| parameters\nsize = 4\nother = 'x'",
    "import numpy as np",
    "import numpy as np\nnp.random.seed(1)",
    "from math import *",
    "factor = 2",
    "factor = 3",
    "factor.x = 1",
    "def double(x):\n    return x * factor",
    "def double(x):\n    return y * 2",
    "y = compute()",
    "#| shared\nimport random\nrandom.seed(0)",
    "%nbpipe defaults retries=2",
    "exec(text)",
    "broken (",
    "%%step make -o a\na = double(size)",
    "%%step  make -o a\na = double(size)",
    "%%step make -o a\na = [y, sqrt(2)]",
    "%%step use -i a -o b\nb = a + [factor]",
    "%%step use -i a -o b\na.append(1)\nb = np.random.rand()",
    "%%step use -i a -o b\nb = undefined_name + size",
    "%%step more -i b -o c\nimport numpy as np\nnp.set_printoptions(precision=2)\nc = print(b)",
    "%%step more -i b -o c=out.txt\nopen('x.csv').read()",
    "%%step use --append -o d\nd = open('x.csv', 'w')",
    "%%step use -i a -i a -o b\nb = 1",
    "%%step when -o e --when size\ne = 1",
)
CELLS = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=7)


def as_values(item: Any) -> Any:
    """Return a reading with its errors as values, which can be compared."""
    if isinstance(item, Refused):
        return type(item), str(item), item.place, getattr(item, "add", None)
    if dataclasses.is_dataclass(item):
        return [as_values(getattr(item, field.name)) for field in dataclasses.fields(item)]
    if isinstance(item, tuple | list):
        return [as_values(each) for each in item]
    return {key: as_values(value) for key, value in item.items()} if isinstance(item, dict) else item


def numbered(sources: list[str], first: int) -> list[Cell]:
    return [Cell(number, source) for number, source in enumerate(sources, first)]


@settings(max_examples=80)
@given(st.lists(st.tuples(CELLS, st.sampled_from([1, 1, 1, 2])), min_size=2, max_size=4))
def test_another_reading_is_that_of_a_new_reader(notebooks: list[tuple[list[str], int]]) -> None:
    cache = ParsedCellCache()
    for sources, first in notebooks:
        cells = numbered(sources, first)
        assert as_values(parse_cells(cells, cache=cache)) == as_values(parse_cells(cells))


@settings(max_examples=60)
@given(CELLS, st.lists(st.tuples(st.integers(0, 6), st.sampled_from(SOURCES)), max_size=5))
def test_cells_run_one_by_one_are_read_as_by_a_new_reader(sources: list[str], edits: list[tuple[int, str]]) -> None:
    cache = ParsedCellCache()
    for count in range(1, len(sources) + 1):
        cells = numbered(sources[:count], 1)
        assert as_values(parse_cells(cells, cache=cache)) == as_values(parse_cells(cells))
    for at, source in edits:
        sources[at % len(sources)] = source
        cells = numbered(sources, 1)
        assert as_values(parse_cells(cells, cache=cache)) == as_values(parse_cells(cells))


def test_steps_that_have_not_changed_are_not_read_again() -> None:
    cache = ParsedCellCache()
    sources = ["factor = 2", "%%step make -o a\na = factor", "%%step use -i a -o b\nb = a"]
    first = parse_cells(numbered(sources, 1), cache=cache)
    again = parse_cells(numbered([*sources, "%%step more -i b -o c\nc = b"], 1), cache=cache)
    assert all(again.code[name].definitions is first.code[name].definitions for name in ("make", "use"))
