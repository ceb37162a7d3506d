"""A format that cannot store an output's evident type is refused before anything runs."""

from __future__ import annotations

import pytest

from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import Cell


def errors(*cells: str) -> list[str]:
    """Get the errors of a notebook."""
    return [error.message for error in parse_cells([Cell(n, text) for n, text in enumerate(cells, 1)]).errors]


@pytest.mark.parametrize(
    "declared, cell, error",
    [
        ("x:parquet", "x = [1]", "output `x` is a value of type list, but parquet takes a table"),
        ("x:csv", "x: dict = {'a': [1]}", "output `x` is a value of type dict, but csv takes a table"),
        ("x:npy", "x = [n for n in (1, 2)]", "output `x` is a value of type list, but npy takes a NumPy array"),
        ("x:text", "x = 3", "output `x` is a value of type int, but text takes a str"),
        ("x:figure", "x = 'fig'", "output `x` is a value of type str, but figure takes a matplotlib figure"),
        ("x:json", "y = 1\nx = {y}", "output `x` is a value of type set, but json takes what JSON can represent"),
        ("x:json", "x = lambda: 1", "output `x` is a value of type function, but json takes what JSON can represent"),
        ("x", "x = (n for n in [1])", "output `x` is a generator, which cannot be stored"),
        ("x", "x = open('f.txt', 'w')", "output `x` is an open file, which cannot be stored"),
        (
            "x",
            "from pathlib import Path\nx = Path().open(mode='ab')",
            "output `x` is an open file, which cannot be stored",
        ),
        ("x", "import sqlite3\nx = sqlite3.connect('f.db')", "output `x` is a connection, which cannot be stored"),
        ("x", "import threading\nx = threading.Lock()", "output `x` is a lock, which cannot be stored"),
        ("x", "import multiprocessing as mp\nx = mp.Pool()", "output `x` is a pool of workers, which cannot be stored"),
        ("x:bin", "x = f'{1}'", "output `x` is a value of type str, but bin takes bytes"),
    ],
)
def test_an_evident_type_is_refused_before_the_work(declared, cell, error):
    assert errors(f"%%step s -o {declared}\n{cell}") == [error]


@pytest.mark.parametrize(
    "declared, cell",
    [
        ("x:json", "x = [1]"), ("x:json", "x = (1, 2)"), ("x:text", "x = f'{1}'"), ("x:npz", "x = {}"),
        ("x", "x = open('w')"), ("x", "x = open('f.txt', 'rb')"), ("x", "x = lambda: 1"),
        ("x:cloudpickle", "x = {1}"), ("x:parquet", "x = list([1])"), ("x:png", "x = b'png'"), ("x:bytes", "x = b''"),
        ("x:parquet", "x = [1]\nx = to_table(x)\ndef to_table(x): ..."), ("x:npy", "x = [1]\nfor x in [2]: pass"),
        ("x:npy", "x = [1]\nglobals()['x'] = 2"), ("x:npy", "x = [1]\nimport numpy as x"), ("x:json", "x = None"),
        ("x:csv", "x = [1]\ndef f():\n    global x\n    x = 2\nf()"), ("x:file.csv", "x.write_text('')\ny = [x]"),
        ("x:csv", "x = []\nif x is not None: x = frame()\ndef frame(): ..."),
    ],
)  # fmt: skip
def test_what_may_be_stored_is_not_refused(declared, cell):
    assert errors(f"%%step s -o {declared}\n{cell}") == []
