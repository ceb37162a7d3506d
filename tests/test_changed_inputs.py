"""A step's change of an input is told wherever it is one: the cases run, and what they change is compared."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import pytest
from sample_cells import read

DEFINITIONS = """import collections, copy, itertools, operator, random
import numpy as np
import pandas as pd
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from functools import partial, reduce
from operator import attrgetter, itemgetter, methodcaller
from types import SimpleNamespace
from PIL import Image
from sklearn import preprocessing
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler, normalize, scale
def fix(a):
    a.append(9)
    return a
def clean(t):
    t['z'] = 1
    return t
def zero(a):
    a[0] = 0
    return a
class Worker:
    def __init__(self, data):
        self.data = data
    def run(self):
        self.data.append(5)
        return self
    def run_on(self, d):
        d.append(5)
    @property
    def first(self):
        return self.data
class Frame:
    def __init__(self, df):
        self.df = df
    def add(self):
        self.df['new'] = 1
        return self
class Thing:
    def __init__(self):
        self.n = [1]
    def scale(self, k):
        self.n.append(k)
        return self
    def get(self):
        return self.n
    def __repr__(self):
        return repr(self.n)
"""
MADE = {
    "array": "np.arange(4.0)",
    "numbers": "[3, 1, 2]",
    "rows": "[[3], [1, 2]]",
    "lists": "{'a': [1], 'b': [2]}",
    "table": "pd.DataFrame({'a': [1.0, None, 3.0], 'b': [3.0, 1.0, 2.0]})",
    "queue": "deque([1, 2, 3])",
    "counts": "Counter('aab')",
    "picture": "Image.new('L', (4, 3))",
    "thing": "Thing()",
    "packed": "array('d', [1.0, 2.0])",
    "records": "[{'a': 1}, {'a': 2}]",
    "nested": "{'p': {'q': 1}}",
    "arrays": "[np.zeros(2), np.zeros(2)]",
}
CHANGES = {
    "array": [
        "x.resize(5, refcheck=False)", "np.clip(x, 1, 2, x)", "x.clip(1, 2, x)", "np.cumsum(x, 0, None, x)",
        "np.exp(x, out=(x,))", "np.round(x + .5, 0, x)", "np.dot(np.eye(4), x + 1, x)",
        "np.take(x, [3,2,1,0], 0, x)", "np.ndarray.fill(x, 1)", "np.ndarray.resize(x, 5, refcheck=False)",
        "np.ndarray.__setitem__(x, 0, 9)", "v = x.transpose()\nv[0] = 9", "v = np.ma.array(x)\nv[0] = 9",
        "v = np.ma.masked_array(x, x > 2)\nv[0] = 9",
        "with np.nditer(x, op_flags=['readwrite']) as it:\n    for v in it:\n        v[...] = 2 * v",
        "StandardScaler(copy=False).fit_transform(x.reshape(-1, 1))",
        "s = StandardScaler(copy=False)\ns.fit_transform(x.reshape(-1, 1))", "scale(x, copy=False)",
        "preprocessing.scale(x, copy=False)", "normalize(x.reshape(1, -1), copy=False)",
        "operator.__setitem__(x, 0, 9)", "operator.methodcaller('fill', 4)(x)", "g = methodcaller('fill', 4)\ng(x)",
        "getattr(x, 'fill')(4)", "f = x.fill\nf(4)", "v = [x][0]\nv[0] = 9", "v = dict(k=x)['k']\nv[0] = 9",
        "eval('x.fill(9)')",
    ],
    "numbers": [
        "v = [x][0]\nv.append(1)", "v = (x, 1)[0]\nv.append(1)", "v = {'k': x}['k']\nv.append(1)",
        "v = [x] * 3\nv[0].append(1)", "v = dict.fromkeys('ab', x)\nv['a'].append(1)",
        "v = SimpleNamespace(a=x)\nv.a.append(1)", "v = list(itertools.repeat(x, 2))\nv[0].append(1)",
        "v = list(itertools.chain([x]))\nv[0].append(1)", "(lambda v=x: v.append(1))()",
        "f = lambda v=x: v.append(1)\nf()", "def f(v=x):\n    v.append(1)\nf()", "Worker(x).run()",
        "Worker(x).data.append(1)", "w = Worker(x)\nw.data.append(1)", "w = Worker(x)\nw.first.append(1)",
        "g = attrgetter('append')\ng(x)(1)", "x.__getattribute__('append')(1)", "eval('x.append(1)')",
        "globals()['x'].append(1)", "vars()['x'].append(1)", "locals()['x'].append(1)",
        "def f(*a):\n    a[0].append(1)\nf(x)", "def f(**k):\n    k['v'].append(1)\nf(v=x)",
        "def f(v, *a):\n    for k in a:\n        k.append(1)\nf(1, x)",
        "def f():\n    yield x\nfor k in f():\n    k.append(1)", "def f():\n    yield x\nnext(f()).append(1)",
        "def f(v):\n    return [v]\nf(x)[0].append(1)", "def f(v):\n    return {'k': v}\nf(x)['k'].append(1)",
        "def f(v):\n    return v, 1\na, b = f(x)\na.append(1)",
    ],
    "rows": [
        "itemgetter(0)(x).append(1)", "g = itemgetter(0)\ng(x).append(1)", "v = itemgetter(0)(x)\nv.append(1)",
        "for row in x[:1]:\n    row.append(1)", "for row in x.copy():\n    row.append(1)",
        "for row in itertools.chain(x):\n    row.append(1)", "for row in filter(None, x):\n    row.append(1)",
        "for row in (r for r in x):\n    row.append(1)", "for row in [r for r in x if r]:\n    row.append(1)",
        "for row in itertools.islice(x, 1):\n    row.append(1)", "v = x.copy()\nv[0].append(1)",
        "v = x + []\nv[0].append(1)", "v = x * 2\nv[0].append(1)", "v = list(filter(None, x))\nv[0].append(1)",
        "v = sorted(x)[0]\nv.append(1)", "v = next(k for k in x)\nv.append(1)",
        "v = next((k for k in x if len(k) > 1), None)\nv.append(1)", "v = x[-1]\nv.append(1)",
        "v = x[len(x) - 1]\nv.append(1)", "v = random.choice(x)\nv.append(1)", "v = [x[0], x[1]]\nv[0].append(1)",
        "w = Worker(x)\nw.data[0].append(1)", "list(map(Worker.run_on, [None, None], x))",
    ],
    "records": [
        "v = next(r for r in x if r['a'] == 2)\nv['a'] = 9",
        "v = list(filter(lambda r: r['a'] > 1, x))\nv[0]['a'] = 9",
        "g = collections.defaultdict(list)\nfor r in x:\n    g[r['a']].append(r)\ng[1][0]['a'] = 9",
    ],
    "lists": [
        "v = x | {}\nv['a'].append(1)", "v = x.copy()\nv['a'].append(1)", "v = list(x.values())[0]\nv.append(1)",
        "v = OrderedDict(x)\nv['a'].append(1)", "v = defaultdict(list, x)\nv['a'].append(1)",
        "def f(a, b):\n    a.append(1)\nf(**x)", "v = SimpleNamespace(**x)\nv.a.append(1)",
    ],
    "nested": [
        "v = x.copy()\nv['p']['q'] = 2", "def f(cfg):\n    c = cfg.copy()\n    c['p']['q'] = 2\nf(x)",
    ],
    "table": [
        "for d in [x, 1][:1]:\n    d['k'] = 1", "Frame(x).add()", "f = Frame(x)\nf.df['k'] = 1",
        "pd.DataFrame.insert(x, 0, 'k', 1)", "StandardScaler(copy=False).fit_transform(x)",
    ],
    "queue": [
        "x.rotate(1)", "x.rotate()",
    ],
    "counts": [
        "x.subtract('a')", "x.subtract({'a': 1})",
    ],
    "picture": [
        "x.paste(5, (0, 0, 1, 1))", "x.thumbnail((2, 2))",
        "from PIL import ImageDraw\nImageDraw.Draw(x).rectangle((0, 0, 2, 2), fill=9)",
        "from PIL import ImageDraw\nd = ImageDraw.Draw(x)\nd.rectangle((0, 0, 2, 2), fill=9)",
    ],
    "thing": [
        "v = attrgetter('n')(x)\nv.append(1)", "g = attrgetter('n')\ng(x).append(1)", "f = x.scale\nf(3)",
        "list(map(x.scale, [1]))",
    ],
    "packed": [
        "x.frombytes(b'12345678')", "x.fromlist([1.0])",
    ],
    "arrays": [
        "for a in x:\n    a += 1", "v = x[0]\nv += 1",
    ],
}  # fmt: skip
HARMLESS = {
    "numbers": [
        "a, *b = x\nb.append(1)", "for k in x:\n    k += 1", "sum(x)", "x.copy()", "x[0]", "sorted(x)",
        "copy.copy(x).append(1)", "len(x)", "v = itertools.cycle(x)\nnext(v)", "next(iter(x))",
        "v = iter(x)\nnext(v)",
    ],
    "rows": [
        "v = [list(k) for k in x]\nv[0].append(1)", "v = [k[:] for k in x]\nv[0].append(1)",
        "v = [k + [1] for k in x]\nv[0].append(1)", "for row in map(list, x):\n    row.append(1)",
        "v = x[0] + x[1]\nv.append(1)", "v = list(x[0])\nv.append(1)",
        "v = [k for row in x for k in row]\nv.append(1)", "v = {tuple(k) for k in x}\nv.add(1)",
        "v = x[0][:]\nv.append(1)", "v = list(itertools.chain(*x))\nv.append(1)",
        "for row in x:\n    row = row + [1]\n    row.append(2)",
    ],
    "records": [
        "v = [dict(r, b=1) for r in x]\nv[0]['a'] = 9", "v = dict(x[0])\nv['a'] = 9",
        "v = [dict(r, b=1) for r in x]\nv[0]['a'] = 9", "v = [r.get('a') for r in x]\nv.append(1)",
        "totals = {}\nfor r in x:\n    totals[r['a']] = totals.get(r['a'], 0) + 1",
        "def f(r):\n    r = {**r}\n    r['b'] = 1\n    return r\nv = [f(r) for r in x]",
        "def f(rows):\n    out = []\n    for r in rows:\n        out.append({'b': r['a']})\n    return out\nv = f(x)",
        "df = pd.DataFrame(x)\ndf.loc[0, 'a'] = 9", "import json\nv = json.loads(json.dumps(x))\nv[0]['a'] = 9",
    ],
    "lists": [
        "v = {k: list(w) for k, w in x.items()}\nv['a'].append(1)",
        "v = {k: sorted(w) for k, w in x.items()}\nv['a'].append(1)",
        "v = {k: list(w) for k, w in x.items()}\nv['a'].append(1)", "v = x['a'] + x['b']\nv.append(1)", "x['a']",
        "v = dict(x)\nv['c'] = 1", "df = pd.DataFrame(x)\ndf['a'] = 1", "v = sum(x.values(), [])\nv.append(1)",
        "def f(**k):\n    k['c'] = 1\nf(**x)", "x.keys()",
    ],
    "table": [
        "x.set_index('a')", "x.reset_index()", "x.add_prefix('k')", "x.set_axis(['k', 'l'], axis=1)",
        "def f(d):\n    d = d.dropna()\n    d['k'] = 1\n    return d\nf(x)", "x.explode('a')", "x.shape",
        "x.sort_values('b')", "x.diff()", "x.pow(2)", "x.sort_index()", "v = x['a']\nv += 1",
    ],
    "arrays": [
        "v = [a * 2 for a in x]\nv[0][0] = 9", "for a in x:\n    a = a + 1", "v = [a * 2 for a in x]\nv[0][0] = 9",
        "v = np.stack(x)\nv[0] = 9", "v = [a.copy() for a in x]\nv[0][0] = 9", "v = np.array(x)\nv += 1",
    ],
    "array": [
        "v = x[[0, 1]]\nv[0] = 9", "np.nan_to_num(x)", "v = x.astype(float)\nv[0] = 9", "zero(x.copy())",
        "d = pd.Series(x)\nd[0] = 9", "np.clip(x, 0, 1)", "x.max()", "np.sort(x)",
    ],
    "nested": [
        "params = x['p'] | {'q': 3}\nparams['q'] = 4", "v = dict(x['p'], k=1)\nv['q'] = 2",
        "def f(q, **kw):\n    kw['r'] = q\nf(**x['p'])", "v = {**x['p'], 'k': 1}\nv['q'] = 2",
        "def f(cfg):\n    c = copy.deepcopy(cfg)\n    c['p']['q'] = 2\nf(x)",
    ],
    "queue": [
        "x.count(1)", "v = deque(x)\nv.rotate(1)", "v = x.copy()\nv.rotate(1)", "x.copy().append(1)",
    ],
    "thing": [
        "v = copy.copy(x)\nv.n = 1", "x.get()", "v = x.n + [1]\nv.append(1)", "v = list(x.n)\nv.append(1)",
    ],
    "packed": [
        "x.tolist()",
    ],
}  # fmt: skip


def told(made: str, change: str) -> list[str]:
    """Get the warnings about changes in a notebook whose second step makes this change of its input."""
    reading = read(
        DEFINITIONS,
        f"%%step a -o x\nx = {MADE[made]}",
        f"%%step b -i x -o n\nn = 1\n{change}",
        "%%step c -i x -o y\ny = x",
    )
    assert not reading.errors
    return [each.message for each in reading.warnings if each.code == "hidden-change"]


def differs(made: str, change: str) -> bool:
    """Run a change, and get whether its input is then another value."""
    namespace: dict[str, Any] = {}
    exec(DEFINITIONS, namespace)  # noqa: S102  # the cases are written above
    exec(f"x = {MADE[made]}", namespace)  # noqa: S102
    before = shown(namespace["x"])
    with redirect_stdout(io.StringIO()):
        exec(change, namespace)  # noqa: S102
    return before != shown(namespace["x"])


def shown(value: Any) -> str:
    """Get all of a value as a text."""
    if hasattr(value, "tobytes") and hasattr(value, "size"):
        return repr((value.size, value.tobytes()))
    if hasattr(value, "to_dict"):
        return repr(value.to_dict())
    return repr(value)


@pytest.mark.parametrize("made, change", [(made, each) for made, changes in CHANGES.items() for each in changes])
def test_a_change_of_an_input_is_told(made: str, change: str):
    assert differs(made, change)
    assert len(told(made, change)) == 1


@pytest.mark.parametrize("made, harmless", [(made, each) for made, cases in HARMLESS.items() for each in cases])
def test_what_leaves_an_input_as_it_is_is_not_told(made: str, harmless: str):
    assert not differs(made, harmless)
    assert told(made, harmless) == []
