"""What a later step would see changed in one kernel, and does not see in the pipeline, is told beforehand."""

from __future__ import annotations

import pytest
from sample_cells import fine, read, wrong

LOAD = "%%step load -o df\nimport pandas as pd\ndf = pd.DataFrame({'x': [1.0, None, 90.0]})"
USE = "%%step use -i df -o total\ntotal = [len(df), float(df.x.sum())]"
B = "%%step b -o y\ny = "


def told(*sources: str) -> list[str]:
    """Get the messages about changes that no declaration hands over."""
    return [warned.message for warned in fine(*sources).warnings if warned.code == "hidden-change"]


# Ordinary cells between steps


def test_a_cell_between_that_changes_an_output_is_told_with_what_to_do():
    warnings = fine(LOAD, "df['x'] = df['x'].fillna(100)", "df = df[df.x < 95]", USE).warnings
    assert [warned.message for warned in warnings] == [
        "cell 2 changes `df`, an output of `load`, which `use` gets unchanged",
        "cell 3 rebinds `df`, an output of `load`, which `use` gets unchanged",
    ]
    assert [(warned.place.cell, warned.place.line) for warned in warnings] == [(2, 1), (3, 1)]
    assert "%%step NAME -i df=load.df -o df" in warnings[0].hint
    assert "#| local" in warnings[0].hint


@pytest.mark.parametrize(
    "change",
    [
        "df.loc[0, 'x'] = 1", "df.x = 1", "del df['x']", "df += 1", "df.drop('x', axis=1, inplace=True)",
        "df.insert(0, 'y', 1)", "df.x.values[0] = 1", "other = df\nother['y'] = 1",
        "first, other = 1, df\nother['y'] = 1",
        "for part in (df,):\n    part['y'] = 1", "if True:\n    df['y'] = 1", "with open('f') as f:\n    df['y'] = 1",
        "setattr(df, 'y', 1)", "np.copyto(df.x, 1)", "np.add(df, 1, out=df)", "def f(t):\n    t['y'] = 1\nf(df)",
        "def f():\n    df['y'] = 1\nf()", "(lambda: df.pop('x'))()", "[part.update(y=1) for part in [df]]",
        "try:\n    df['y'] = 1\nexcept KeyError:\n    pass", "%time df['y'] = 1", "model = df\nmodel.fit(1)",
    ],
)  # fmt: skip
def test_every_change_in_place_counts(change: str):
    assert told(LOAD, change, USE) == ["cell 2 changes `df`, an output of `load`, which `use` gets unchanged"]


@pytest.mark.parametrize(
    "change",
    [
        "df = df.dropna()", "df: object = None", "df = 1", "for df in []:\n    pass", "with open('f') as df:\n    pass",
        "if (df := None): pass", "import pandas as df", "def df(): pass", "class df: pass", "del df",
        "def f():\n    global df\n    df = 1\nf()", "globals()['df'] = 1",
        "try:\n    pass\nexcept KeyError as df:\n    pass",
        "match 1:\n    case df: pass", "[df, _] = 1, 2", "%time df = df[1:]", "%%time\ndf = 1", "df = !ls",
        "[0 for _ in [1] if (df := 1)]",
    ],
)  # fmt: skip
def test_every_way_to_bind_an_output_again_counts(change: str):
    assert told(LOAD, change, USE) == ["cell 2 rebinds `df`, an output of `load`, which `use` gets unchanged"]


@pytest.mark.parametrize(
    "harmless",
    [
        "df.head()", "other = df[df.x > 1]\nother['y'] = 1", "other = df.copy()\nother['y'] = 1", "x = df['x'] * 2",
        "#| local\ndf['y'] = 1", "for i, row in df.iterrows():\n    row['x'] = 1", "def df_of(df):\n    df['y'] = 1",
        "def f():\n    df = {}\n    df['y'] = 1\nf()", "[df for df in []]", "np.append(df, 1)",
        "lambda df: df.pop('x')",
        "class C:\n    df = 1", "rows = [df]\nrows.append(1)", "df['x'].plot()", "print(df)", "# df = 1",
    ],
)  # fmt: skip
def test_what_leaves_an_output_as_it_is_is_not_told(harmless: str):
    assert told("import numpy as np", LOAD, harmless, USE) == []


def test_only_what_lies_between_the_two_steps_counts():
    assert told("df = 1\ndf += 1", LOAD, USE, "df['y'] = 1") == []
    assert told(LOAD, USE, "df['y'] = 1", "%%step more -i total -o z\nz = total") == []
    assert len(told(LOAD, USE, "df['y'] = 1", "%%step more -i df -o z\nz = len(df)")) == 1


def test_a_change_in_the_middle_of_a_step_counts():
    assert len(told(LOAD, "%%step use -i df -o n\nn = 0", "df['y'] = 1", "%%step use --append\nn += len(df)")) == 1


@pytest.mark.parametrize(
    "change", ["n = 5", "for n in range(3): pass", "del n", "rows.append(2)", "more = rows\nmore.clear()", "import n",
               "%%step b -o n\nn = 7", "%%step b -o k\nrows = k = 1"],
)  # fmt: skip
def test_a_change_between_the_cells_of_a_step_of_what_it_has_bound_counts(change: str):
    first, last = "%%step a -o x\nn = 1\nrows = [n]", "%%step a --append\nx = n + len(rows)"
    assert len(told(first, change, last)) == 1
    assert told(first, change, "%%step a --append\nn, rows = 1, []\nx = n") == []
    assert told(first, "m = n + len(rows)", last) == []
    assert len(told(f"{first}\nx = n, rows", "x = 1", "%%step a --append\nk = 1")) == 1


def test_readers_of_one_change_are_told_together():
    messages = told(LOAD, "df['y'] = 1", USE, "%%step more -i df -o z\nz = len(df)")
    assert messages == ["cell 2 changes `df`, an output of `load`, which `use` and `more` get unchanged"]


# Steps that change what another one gets


@pytest.mark.parametrize(
    "change",
    ["df['y'] = 1", "df = df[1:]", "d = df\nd['y'] = 1", "def f(t): t.pop('x')\nf(df)", "for df in [df]: pass"],
)
def test_a_step_that_changes_an_input_which_a_later_step_gets_is_told(change: str):
    messages = told(LOAD, f"%%step a -i df -o n\n{change}\nn = 1", USE)
    assert len(messages) == 1
    assert messages[0].startswith("step `a` (cell 2) ")
    assert messages[0].endswith("`df`, an output of `load`, which `use` gets unchanged")


def test_a_change_that_is_handed_over_is_not_told():
    change = "%%step a -i df=load.df -o df\ndf['y'] = 1"
    assert told(LOAD, change, "%%step use -i df=a.df -o n\nn = len(df)") == []
    assert told(LOAD, change, "%%step use -i df=load.df -o n\nn = len(df)") == []
    assert told(LOAD, "%%step a -i df -o n\nd = df.copy()\nd['y'] = 1\nn = 1", USE) == []


def test_a_copy_of_an_input_may_be_changed():
    assert fine(LOAD, "%%step a -i df -o n\ndf = df.copy()\ndf['y'] = 1\nn = len(df)").warnings == ()


def test_an_alias_that_another_step_made_is_followed():
    alias = "%%step a -i df -o same\nsame = df"
    messages = told(LOAD, alias, "%%step c -i same -o n\nsame['y'] = 1\nn = 1", USE)
    assert messages == ["step `c` (cell 3) changes `df`, an output of `load`, which `use` gets unchanged"]


# Definitions


def test_a_constant_that_a_step_changes_and_another_reads_is_refused():
    error = wrong("results = {}", "%%step a -o x\nx = 1\nresults['a'] = x", "%%step b -i x -o y\ny = dict(results), x")
    assert "`results` is defined in cell 1, and step `a` changes it in cell 2, line 3: results['a'] = x" in error
    assert "`b` reads it" in error
    assert "Declare `-o results` in `a` and `-i results` in `b`." in error


@pytest.mark.parametrize(
    "change",
    [
        "r['a'] = 1", "r.update(a=1)", "r |= {'a': 1}", "r = {}", "add('a')", "d = r\nd['a'] = 1",
        "both = r, 1\nr.clear()",
        "Store().put('a')", "list(map(add, 'ab'))", "rebind()", "for r['a'] in [1]: pass", "get()['a'] = 1", "del r",
    ],
)  # fmt: skip
def test_every_way_to_change_a_constant_is_refused(change: str):
    defined = (
        "r = {}\ndef add(k): r[k] = 1\ndef get(): return r\ndef rebind():\n    global r\n    r = 1\n"
        "class Store:\n    def put(self, k): r[k] = 1"
    )
    assert "step `a` changes it in cell 2" in wrong(defined, f"%%step a -o x\nx = 1\n{change}", f"{B}dict(r)")


def test_a_constant_that_only_one_step_uses_or_that_is_handed_over_is_fine():
    change = "%%step a -o x\nr['a'] = 1\nx = len(r)"
    assert told("r = {}", change, f"{B}1") == []
    assert told("r = {}", f"{B}len(r)", change) == []
    assert told("r = {}", "%%step a -o r\nr['a'] = 1", "%%step b -i r -o y\ny = len(r)") == []
    assert told("import numpy as np", "%%step a -o x\nimport numpy as np\nx = 1", f"{B}np.ones(1)") == []


def test_a_cache_and_a_shared_cell_are_told_but_not_refused():
    cache = "kept = {}\ndef get(k):\n    if k not in kept: kept[k] = k\n    return kept[k]"
    message = "step `a` (cell 2) changes `kept`, which `b` gets as it is defined"
    assert told(cache, "%%step a -o x\nx = get(1)", f"{B}get(2)") == [message]
    assert told("#| shared\nkept = {}", "%%step a -o x\nkept[1] = x = 1", f"{B}kept") == [message]


def test_the_state_of_a_class_is_told():
    counting = (
        "class Model:\n    made = 0\n    seen = []\n    def __init__(self):\n        type(self).made += 1\n"
        "    def fit(self):\n        self.seen.append(1)\n    def tag(self):\n        self.__class__.made = 1"
    )
    message = "step `a` (cell 2) changes `Model`, which `b` gets as it is defined"
    for change in ("Model()", "Model.made = 3", "m.fit()", "m.tag()", "setattr(Model, 'made', 3)"):
        assert told(counting, f"%%step a -o x\nm = object()\nx = 1\n{change}", f"{B}Model.made") == [message]


def test_a_class_whose_methods_are_not_called_is_not_told():
    seen = "SEEN = {}\nclass Model:\n    def fit(self, key):\n        SEEN[key] = 1"
    assert told(seen, "%%step make -o m\nm = Model()", "%%step use -i m -o s\nm.fit('a')\ns = sorted(SEEN)") == []


def test_what_a_decorator_registers_is_told_to_a_step_that_does_not_reach_it():
    register = "found = {}\ndef register(f):\n    found[f.__name__] = f\n    return f"
    assert "it is changed in cell 2" in wrong(register, "@register\ndef g(): return 1", f"{B}list(found)")
    assert told(register, "@register\ndef g(): return 1", f"{B}[list(found), g()]") == []


def test_a_parameter_that_changes_is_told():
    given = "#| parameters\nn = 3\nsizes = [1]"
    assert told(given, "%%step a -o x\nn = n + 1\nx = n", f"{B}n") == [
        "step `a` (cell 2) rebinds the parameter `n`, which `b` gets as it is defined"
    ]
    assert told(given, "sizes.append(2)", f"{B}sizes") == [
        "cell 2 changes the parameter `sizes`, which `b` gets as it is defined"
    ]
    assert told(given, "%%step a -o x\nx = n + len(sizes)", f"{B}n") == []


def test_modules_that_a_step_changes_are_told():
    styled = "%%step a -o x\nplt.rcParams['figure.dpi'] = 50\nx = 1"
    assert len(told("import matplotlib.pyplot as plt", styled, f"{B}plt.figure()")) == 1
    exported = "%%step a -o x\nos.environ['MODE'] = 'fast'\nx = 1"
    assert len(told("import os", exported, f"{B}os.getenv('MODE')")) == 1
    assert told("import os", exported, f"{B}os.getcwd()") == []
    assert told("import numpy as np", "%%step a -o x\nx = np.sort(np.append([1], 2))", f"{B}np.ones(2)") == []


def test_random_numbers_that_another_step_has_seeded_are_told():
    seeded = "%%step a -o x\nnp.random.seed(0)\nx = np.random.rand()"
    assert told("import numpy as np", seeded, f"{B}np.random.rand()") == [
        "step `a` (cell 2) seeds the random numbers of numpy, which `b` draws unseeded"
    ]
    assert told("import numpy as np", seeded, f"{B}1\nnp.random.seed(1)\ny = np.random.rand()") == []
    assert told("import numpy as np", seeded, f"{B}np.random.default_rng(0).random()") == []
    assert told("import numpy as np\nnp.random.seed(1)", f"{B}np.random.rand()") == []
    assert told("import numpy as np", seeded, "np.random.seed(1)", f"{B}np.random.rand()") == []


def test_cells_that_cannot_be_read_do_not_hide_the_others():
    reading = read(LOAD, "df['y'] = 1", USE, "%%step broken -o z\nz = (")
    assert any(warned.code == "hidden-change" for warned in reading.warnings)


# Objects that are changed by being used, or through others


@pytest.mark.parametrize(
    "made, used",
    [
        ("iter([1, 2])", "next(v)"), ("np.random.default_rng(0)", "v.normal()"), ("random.Random(0)", "v.random()"),
        ("np.random.RandomState(0)", "draw(v)"), ("random.Random(0)", "print('') or sum(v)"), ("itertools.count()",
        "next(v)"),
        ("map(str, [1])", "list(v)"), ("numbers()", "for _ in v: break"), ("counter()", "v()"), ("Calls()", "v()"),
        ("Calls()", "v.count"), ("Calls()", "v['k']"), ("defaultdict(list)", "v['k']"), ("Calls()", "with v: pass"),
        ("np.zeros(3)", "part = v[1:]\npart += 1"), ("np.zeros(3)", "np.sqrt(v, v)"), ("np.ones(3)", "double(v)"),
        ("[1]", "more(v)"), ("np.ones(3)", "np.add.at(v, [0], 5)"), ("load()", "v.refresh()\n1"),
        ("load()", "v.sort_by(1, inplace=NOW)"), ("Calls()", "w = v\nw += 1"), ("load()", "refresh(v)"),
    ],
)  # fmt: skip
def test_what_using_an_object_changes_counts(made: str, used: str):
    defined = (
        "import itertools, random\nimport numpy as np\nfrom collections import defaultdict\nNOW = True\n"
        "def draw(rng): return rng.normal()\ndef numbers(): yield 1\ndef load(): return object()\n"
        "def counter():\n    n = 0\n    def count():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return count\n"
        "class Calls:\n    def __call__(self): self.n = 1\n    def __getitem__(self, k): self.n = k\n"
        "    def __enter__(self): self.n = 1\n    def __exit__(self, *_): pass\n"
        "    def __iadd__(self, k):\n        self.n = k\n        return self\n"
        "    @property\n    def count(self): self.n = 2\n"
        "def double(a):\n    a *= 2\ndef more(a):\n    a += [1]\ndef refresh(a):\n    a.refresh()"
    )
    read_later = "%%step use -i v -o n\nn = repr(v)"
    for cell in (used, f"%%step mid -i v -o k\n{used}\nk = 1"):
        messages = told(defined, f"%%step make -o v\nv = {made}", cell, read_later)
        assert len(messages) == 1, messages
        assert messages[0].endswith("`v`, an output of `make`, which `use` gets unchanged")


@pytest.mark.parametrize(
    "change",
    [
        "stack = []\nstack.append(v)\nstack[0].append(9)", "d = {}\nd['k'] = v\nd['k'].append(9)",
        "o.data = v\no.data.append(9)",
        "push = v.append\npush(1)", "h = Holder(v)\nh.put(3)", "list(map(fix, [v]))",
        "Thread(target=fix, args=(v,)).start()",
        "with Pool() as pool:\n    pool.map(fix, v)", "[fix(each) for each in [v]]",
        "rows = [r for r in v if r]\nrows[0].append(1)",
        "head = v[:1]\nhead[0]['a'] = 1", "best = max(v, key=len)\nbest.append(1)",
        "for i in range(2):\n    v[i].append(1)",
        "for i in range(2):\n    row = v[i]\n    row['a'] = 1", "e = dict(v)\ne['a'].append(2)",
        "p = make_pipeline(v)\np.fit(1)",
        "t = Trainer(v)\nt.fit()", "base.append(1)",
    ],
)  # fmt: skip
def test_changes_through_what_holds_an_object_count(change: str):
    defined = (
        "from threading import Thread\nfrom torchy import Trainer\nfrom sklearn.pipeline import make_pipeline\n"
        "def fix(x):\n    x.append(1)\n"
        "class Holder:\n    def __init__(self, xs):\n        self.xs = xs\n"
        "    def put(self, x):\n        self.xs.append(x)"
    )
    make = "%%step make -o v\nbase = [1]\nv = [base]"
    assert told(defined, make, change, "%%step use -i v -o n\nn = len(v)") == [
        "cell 3 changes `v`, an output of `make`, which `use` gets unchanged"
    ]


@pytest.mark.parametrize(
    "harmless",
    [
        "part = v[1:]\npart.append(1)", "part = v[1:]\npart[0] = 1", "print(v)\nlen(v)\n1", "v.plot()\n1",
        "v.to_csv('f')\n1",
        "h = Model(v)\nh.fit(2)", "g = GridSearchCV(v)\ng.fit(1)", "head = v[:5]\nhead.loc[0, 'x'] = 1", "v.describe()",
        "copy = list(v)\ncopy.append(1)", "sorted(v, key=size)", "v.refresh_view", "v.groups()", "v['k']",
        "rows = [r + 1 for r in v]\nrows.append(1)", "total = 0\nfor r in v:\n    total += r",
        "import math\nmath.floor(v)",
    ],
)  # fmt: skip
def test_what_only_looks_at_an_object_is_not_told(harmless: str):
    defined = (
        "from sklearn.model_selection import GridSearchCV\ndef size(x): return len(x)\ndef load(): return 1\n"
        "class Model:\n    def __init__(self, xs):\n        self.n = len(xs)\n    def fit(self, k):\n        self.k = k"
    )
    assert told(defined, "%%step make -o v\nv = load()", harmless, "%%step use -i v -o n\nn = len(v)") == []


def test_an_estimator_made_of_others_changes_no_module():
    imports = "from sklearn.pipeline import make_pipeline\nfrom sklearn.linear_model import Ridge, Lasso"
    own = "class Own:\n    def fit(self, x):\n        self.x = x"
    make = "%%step a -o m\nm = make_pipeline(Own(), Ridge())\nm.fit(1, 2)"
    assert told(imports, own, make, "%%step b -o n\nn = make_pipeline(Own(), Lasso()).fit(1, 2)") == []


def test_a_method_of_which_nothing_is_known_may_change_its_object():
    assert told(
        "%%step make -o v\nimport lib\nv = lib.load()", "v.refresh()\n1", "%%step use -i v -o n\nn = len(v)"
    ) == ["cell 2 may change `v`, an output of `make`, which `use` gets unchanged"]


@pytest.mark.parametrize(
    "defined",
    [
        "def f(x, kept=[]):\n    kept.append(x)\n    return kept",
        "def f(x, *, kept={}):\n    kept[x] = 1\n    return kept",
        (
            "def count(g):\n    n = 0\n    def inner(x):\n        nonlocal n\n        n += 1\n        return n\n"
            "    return inner\n@count\ndef f(x): return x"
        ),
    ],
)  # fmt: skip
def test_a_function_that_keeps_values_between_its_calls_is_told(defined: str):
    assert told(defined, "%%step a -o x\nx = f(1)", f"{B}f(2)") == [
        "step `a` (cell 2) changes `f`, which `b` gets as it is defined"
    ]


def test_a_shared_generator_or_closure_is_told():
    for made in ("itertools.count()", "iter([1])", "random.Random(0)", "counter()"):
        counter = "def counter():\n    n = [0]\n    def count():\n        n[0] += 1\n    return count"
        defined = f"import itertools, random\n{counter}"
        messages = told(defined, f"#| shared\nc = {made}", "%%step a -o x\nx = 1\nc()\nnext(c)", f"{B}repr(c)")
        assert messages == ["step `a` (cell 3) changes `c`, which `b` gets as it is defined"]


def test_the_constructor_and_the_metaclass_of_a_base_class_count():
    counting = "class Base:\n    made = 0\n    def __init__(self):\n        Base.made += 1\nclass Child(Base): pass"
    assert told(counting, "%%step a -o x\nx = 1\nChild()", f"{B}Base.made") == [
        "step `a` (cell 2) changes `Base`, which `b` gets as it is defined"
    ]
    meta = "class Meta(type):\n    reg = []\n    def __init__(cls, *_):\n        Meta.reg.append(1)"
    assert told(meta, "class A(metaclass=Meta): pass", f"{B}Meta.reg") == [
        "cell 2 changes `Meta`, which `b` gets as it is defined"
    ]


def test_a_registered_implementation_that_a_step_does_not_get_is_told():
    dispatched = "from functools import singledispatch\n@singledispatch\ndef f(x): return 0"
    assert told(dispatched, "@f.register\ndef _(x: int): return 1", f"{B}f(3)") == [
        "cell 2 changes `f`, which `b` gets as it is defined"
    ]


# What a process has once


@pytest.mark.parametrize(
    "change, expected",
    [
        ("json.dumps = str", "changes `json`"),
        ("json.JSONEncoder.default = str", "changes `json`"),
        ("setattr(json, 'dumps', str)", "changes `json`"),
        ("import json as j\nj.dumps = str", "changes `json`"),
        ("from os import chdir\nchdir('sub')", "changes the working folder"),
        ("%cd sub", "changes the working folder"),
        ("os.chdir('sub')", "changes the working folder"),
        ("os.environ['X'] = '1'\nos.umask(0)", "changes `os`"),
    ],
)
def test_a_change_of_the_process_is_told_in_whatever_cell_it_is(change: str, expected: str):
    imports = "import json, os"
    reader = f"{B}json.dumps(1), os.getenv('X'), os.umask(0)"
    messages = told(imports, f"%%step a -o x\nx = 1\n{change}", reader)
    assert len(messages) == 1
    assert expected in messages[0]
    if "environ" not in change:
        assert [expected in message for message in told(imports, change, reader)] == [True]
    own = "%%step b -o y\nimport json, os\ny = json.dumps(1), os.getenv('X'), os.umask(0)"
    assert len(told(f"#| local\n{imports}", f"%%step a -o x\n{imports}\nx = 1\n{change}", own)) == 1


@pytest.mark.parametrize(
    "imports, change, reader, expected",
    [
        ("import mylib", "mylib.enable_fast_math()", "mylib.f()", "changes `mylib`"),
        ("import mylib as m", "m.config.set_mode('a')", "m.f()", "changes `m`"),
        ("from mylib import register", "register(lambda x: x)", "register", "changes `register`"),
        ("import sys", "sys.setprofile(None)", "sys.getprofile()", "changes `sys`"),
        ("import mylib", "mylib.enable_fast_math()", "1", None),
        ("import networkx as nx", "nx.set_node_attributes(graph, {})", "nx.Graph()", None),
        ("import pandas as pd", "model.set_params(a=1)", "pd.Series()", None),
    ],
)
def test_a_call_that_seems_to_set_an_option_is_told(imports, change, reader, expected):
    """Such a statement may have a cell of its own, from which no step draws."""
    messages = told(imports, change, f"{B}{reader}")
    assert [expected in message for message in messages] == ([True] if expected else [])


def test_settings_and_explorations_of_modules_are_no_changes():
    for harmless in ("pd.options.display.width = 40", "pd.read_csv('f').plot()", "pd.set_option('display.width', 40)"):
        assert told("import pandas as pd", harmless, f"{B}pd.DataFrame()") == []
    assert told("import os\nwith contextlib.chdir('x'): pass", f"{B}os.getcwd()") == []


def test_a_built_in_name_that_another_cell_binds_is_told():
    message = "cell 1 rebinds `sum`, which `b` gets as Python defines it"
    assert told("for sum in range(3): pass", f"{B}sum([1])") == [message]
    assert told("%%step a -o x\nx = sum = 1", f"{B}sum([1])")[0].startswith("step `a` (cell 1) rebinds `sum`")
    assert told("for sum in range(3): pass", f"{B}1\nsum = 2") == []


def test_numbers_from_the_generator_that_a_step_has_seeded_are_found_behind_other_names():
    for imports, draw in (
        ("import numpy as np", "pd.Series([1]).sample(1)"), ("import numpy as np", "train_test_split([1])"),
        ("from numpy.random import rand\nimport numpy as np", "rand()"),
        ("import numpy.random as npr\nimport numpy as np", "npr.rand()"),
    ):  # fmt: skip
        libraries = f"{imports}\nimport pandas as pd\nfrom sklearn.model_selection import train_test_split"
        messages = told(libraries, "%%step a -o x\nnp.random.seed(0)\nx = 1", f"{B}{draw}")
        assert messages == ["step `a` (cell 2) seeds the random numbers of numpy, which `b` draws unseeded"]
        assert (
            told(libraries, "%%step a -o x\nnp.random.seed(0)\nx = 1", f"{B}train_test_split([1], random_state=1)")
            == []
        )


@pytest.mark.parametrize(
    "code", ["globals()[k]", "'x' in globals()", "sorted(locals())", "dir()", "_ + 1", "len(In)", "Out[1]",
             "get_ipython().user_ns['x']", "__import__('os') or vars()"],
)  # fmt: skip
def test_a_step_that_looks_at_the_names_of_its_session_is_told(code: str):
    warnings = [each for each in fine(f"{B}1\nk = 'a'\ny = {code}").warnings if each.code == "session-names"]
    assert [(each.place.cell, each.place.line) for each in warnings] == [(1, 4)]


@pytest.mark.parametrize(
    "code", ["globals()['B']", "globals().get('B')", "vars(y)", "dir(y)", "[_ for _ in []]", "(lambda: locals())()"]
)
def test_a_step_that_looks_up_one_name_or_its_own_is_not_told(code: str):
    warnings = fine("B = 1", f"{B}1\ny = {code}").warnings
    assert [each for each in warnings if each.code == "session-names"] == []


@pytest.mark.parametrize(
    "change",
    [
        "pd.DataFrame(x, copy=False).iloc[0, 0] = 9", "d = pd.Series(x, copy=False)\nd[0] = 9",
        "v = x.astype(float, copy=False)\nv[0] = 9", "v = np.asanyarray(x)\nv[0] = 9", "v = np.ravel(x)\nv += 1",
        "v, w = np.split(x, 2)\nw[0] = 9", "v = np.expand_dims(x, 0)\nv[0] = 9", "operator.isub(x, 1)",
        "v = lib.stride_tricks.as_strided(x)\nv[0] = 9", "operator.imul(x, 2)", "attrgetter('append')(x)(1)",
        "operator.attrgetter('sort')(x)()", "v = torch.from_numpy(x)\nv.add_(1)",
    ],
)  # fmt: skip
def test_a_change_through_what_shares_the_data_of_an_input_is_told(change: str):
    imports = "import operator\nfrom operator import attrgetter\nimport numpy as np\nfrom numpy import lib\n"
    imports += "import pandas as pd\nimport torch"
    made = "%%step a -o x\nx = np.ones(4)"
    assert told(imports, made, f"%%step b -i x -o n\nn = 1\n{change}", "%%step c -i x -o y\ny = sum(x)")


@pytest.mark.parametrize(
    "harmless",
    [
        "v = np.array(x)\nv[0] = 9", "v = np.ravel(x).copy()\nv[0] = 9", "v = x.astype(float)\nv[0] = 9",
        "d = pd.DataFrame(x, copy=True)\nd.iloc[0, 0] = 9", "n = attrgetter('shape')(x)", "v = mine.split(x)\nv[0] = 9",
    ],
)  # fmt: skip
def test_a_change_of_a_copy_of_the_data_of_an_input_is_not_told(harmless: str):
    imports = "from operator import attrgetter\nimport numpy as np\nimport pandas as pd\nimport mine"
    made = "%%step a -o x\nx = np.ones(4)"
    assert not told(imports, made, f"%%step b -i x -o n\nn = 1\n{harmless}", "%%step c -i x -o y\ny = sum(x)")
