"""Functions, methods and partials that code hands on or keeps change what they are called with, wherever that is."""

from __future__ import annotations

import pytest
from sample_cells import fine, wrong


def told(*sources: str) -> list[str]:
    """Get the messages about changes that no declaration hands over."""
    return [warned.message for warned in fine(*sources).warnings if warned.code == "hidden-change"]


@pytest.mark.parametrize(
    "change",
    [
        "from functools import partial\nadd = partial(list.append, x)\nadd(3)",
        "from functools import partial\nadd = partial(x.append, 3)\nadd()",
        "import functools\nfunctools.partial(list.append, x)(3)",
        "from functools import partial\nlist(map(partial(put, value=3), [x]))",
        "from functools import partial\nput_three = partial(put, value=3)\nput_three(x)",
        "from operator import methodcaller\nmethodcaller('append', 3)(x)",
        "from operator import methodcaller\nlist(map(methodcaller('append', 3), [x]))",
        "list(map(list.append, [x], [3]))", "list(map(x.append, [3]))", "getattr(x, 'append')(3)",
        "add = getattr(x, 'append')\nadd(3)", "(lambda each: each.append(3))(x)",
        "f = lambda each: each.append(3)\nf(x)", "f = put\nf(x, 3)", "for f in (put,):\n    f(x, 3)",
        "[f(x, 3) for f in [put]]", "put(*[x], **{'value': 3})",
        "put(*(x, 3))", "both = (x, 3)\nput(*both)", "put(**{'to': x, 'value': 3})", "put(**dict(to=x, value=3))",
        "import heapq\nheapq.heappush(*[x, 3])", "from operator import setitem\nlist(map(setitem, [x], [0], [3]))",
        "x.drop(columns='k', **{'inplace': True})", "t = x.fillna(0, **dict(inplace=True))",
        "import numpy as np\nnp.add(x, 1, **{'out': x})",
    ],
)  # fmt: skip
def test_changes_by_functions_that_are_handed_on_count(change: str):
    put = "def put(to, value):\n    to.append(value)"
    found = told(
        put, "%%step a -o x\nx = [1]", f"%%step b -i x -o n\n{change}\nn = 1", "%%step c -i x -o y\ny = len(x)"
    )
    assert found == ["step `b` (cell 3) changes `x`, an output of `a`, which `c` gets unchanged"]


@pytest.mark.parametrize(
    "harmless",
    [
        "from functools import partial\nadd = partial(list.append, x)", "f = lambda each: each.append(3)",
        "f = len\nf(x)", "(lambda each: each.copy())(x)", "sorted([1], key=x.index)", "print(*x)", "dict(**{'k': x})",
        "from functools import partial\nf = partial(print, x)\nf = partial(f, 1)\nf()", "getattr(x, 'count')(1)",
    ],
)  # fmt: skip
def test_functions_that_are_only_kept_or_only_look_change_nothing(harmless: str):
    assert (
        told("%%step a -o x\nx = [1]", f"%%step b -i x -o n\n{harmless}\nn = 1", "%%step c -i x -o y\ny = len(x)") == []
    )


def test_a_partial_of_a_constant_changes_it_when_it_is_called():
    cells = [
        "from functools import partial\nKEPT = []\nKEEP = partial(list.append, KEPT)",
        "%%step a -o n\nKEEP(3)\nn = 1",
    ]
    assert "step `a` changes it" in wrong(*cells, "%%step b -o y\ny = len(KEPT)")
    assert told(*cells, "%%step b -o y\ny = 1") == []


def test_another_name_of_a_constant_is_the_constant():
    push = "def push(x):\n    KEPT.append(x)\n    return len(KEPT)"
    cells = ["KEPT = [1]", push, "t = KEPT\nt.append(1)", "%%step a -o n\nn = push(2)", "t = push"]
    assert told(*cells) == ["cell 3 changes `KEPT`, which `a` gets as it is defined"]


@pytest.mark.parametrize(
    "change",
    [
        "object.__setattr__(x, 'k', 1)", "[x][0].append(1)", "[*x][0].append(1)", "{**x}['k'].append(1)",
        "sorted(x)[0].append(1)", "dct = dict(k=x)\ndct['k'].append(1)",
        "import collections\ncollections.deque.append(x, 1)",
        "import copy\ncopy.copy(x)[0].append(1)", "import networkx as nx\nnx.set_node_attributes(x, {1: 2}, 'a')",
        "import struct\nstruct.pack_into('i', x, 0, 1)", "import torch\ntorch.nn.init.uniform_(x)",
        "type(x).made = 1",
        "import weakref\nweakref.proxy(x).append(1)", "x.eval()",
        "import collections\ncollections.ChainMap(x)['k'] = 1",
        "import contextlib\nwith contextlib.closing(x) as y:\n    y.append(1)",
        "x.__dict__.update(k=1)", "vars(x)['k'] = 1",
    ],
)  # fmt: skip
def test_changes_through_what_is_made_of_an_object_on_the_spot_count(change: str):
    cells = [
        "%%step a -o x\nimport lib\nx = lib.load()",
        f"%%step b -i x -o n\n{change}\nn = 1",
        "%%step c -i x -o y\ny = len(x)",
    ]
    assert told(*cells) == ["step `b` (cell 2) changes `x`, an output of `a`, which `c` gets unchanged"]
