"""Objects of the notebook's classes travel as themselves: the reader has its own class, as in one kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from notebook_author import Author

from nbpipe.data.previews import preview
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

PLUGINS = (
    "class Plugin:\n    registry = {}\n    def __init_subclass__(cls):\n        Plugin.registry[cls.name] = cls",
    "class Scale(Plugin):\n    name = 'scale'\n    def __init__(self, k):\n        self.k = k",
    "class Other(Plugin):\n    name = 'other'",
)


def run(tmp_path, *cells: str, parameters: int | None = None) -> Author:
    """Run a notebook; a failed step is an error."""
    author = Author(tmp_path, *cells, parameters=parameters)
    author.run()
    assert [step.failure.message for step in author.report.steps if step.failure] == []
    return author


def results(tmp_path, *cells: str, parameters: int | None = None):
    """Run a notebook and get its output `told`."""
    return run(tmp_path, *cells, parameters=parameters).value("told")


def test_a_registered_subclass_is_the_readers_own(tmp_path):
    """K3."""
    author = run(
        tmp_path,
        *PLUGINS,
        "%%step make -o p\np = Scale(3)",
        "%%step named -i p -o told\ntold = [Plugin.registry['scale'] is Scale, type(p) is Scale, p.k]",
        "%%step unnamed -i p -o seen\n"
        "seen = [Plugin.registry['scale'] is type(p), sorted(Plugin.registry), isinstance(p, Plugin)]",
    )
    assert author.value("told") == [True, True, 3]
    assert author.value("seen") == [True, ["scale"], True]


@pytest.mark.parametrize("cache", ["lru_cache", "lru_cache(maxsize=7)", "cache"])
def test_a_method_with_a_cache_can_be_read(tmp_path, cache):
    """K4: a class of an ordinary cell, and one of the step's own cell."""
    body = (
        f"class Model:\n    made = 0\n    @functools.{cache}\n    def f(self, x):\n        return x + self.k\n    k = 1"
    )
    told = results(
        tmp_path,
        "import functools",
        body,
        "%%step make -o m\nm = Model()\nm.f(1)",
        f"%%step own -o n\nimport functools\n{body.replace('Model', 'Local')}\nn = Local()",
        "%%step use -i m, n -o told\ntold = [m.f(1), m.f(1), m.f.__func__.cache_info().hits if hasattr(m.f, '__func__')"
        " else type(m).f.cache_info().hits, n.f(2), n.f.__name__]",
    )
    assert told == [2, 2, 1, 3, "f"]


USES = """import pickle, multiprocessing, joblib
def used(m, f):
    with multiprocessing.get_context('fork').Pool(1) as pool:
        mapped = pool.map(f, [1, 2])
    joblib.dump([m, f], 'kept.joblib')
    kept, g = joblib.load('kept.joblib')
    parallel = joblib.Parallel(2)(joblib.delayed(f)(x) for x in (1, 2))
    copy, h = pickle.loads(pickle.dumps([m, f]))
    return [mapped, type(kept) is type(m), g is f, parallel, type(copy) is type(m), h is f, m.fit(2)]
"""
RIGHT = [[4, 6], True, True, [4, 6], True, True, 8]


def test_what_another_step_defines_can_be_pickled(tmp_path):
    """K5: the reader's code names neither the class nor the function, directly or indirectly."""
    author = run(
        tmp_path,
        "RATE = 2\nimport dataclasses\ndef double(x):\n    return x * RATE",
        "@dataclasses.dataclass\nclass Model:\n    k: int\n    def fit(self, x):\n        return double(self.k + x)",
        "def f(x):\n    return double(x + 1)",
        USES,
        "%%step make -o m, g\nm, g = Model(2), f",
        "%%step use -i m, g -o told\ntold = used(m, g)",
        "%%step named -i g -o same\nsame = [g is f, f.__globals__ is globals()]",
    )
    assert author.value("told") == RIGHT
    assert author.value("same") == [True, True]


def test_what_another_steps_own_cell_defines_can_be_pickled(tmp_path):
    told = results(
        tmp_path,
        USES,
        "%%step make -o m, g\nclass Model:\n    def fit(self, x):\n        return 4 * x\n"
        "def g(x):\n    return 2 * (x + 1)\nm = Model()",
        "%%step use -i m, g -o told\ntold = used(m, g)",
    )
    assert told == RIGHT


KINDS = """import abc, dataclasses, enum, threading, typing
T = 'a constant'
HANDLERS = {}
def handles(name):
    def register(handler):
        HANDLERS[name] = handler
        return handler
    return register
@handles('one')
def one():
    return T
class Outer:
    class Inner:
        lock = threading.Lock()
    @classmethod
    def make(cls):
        return cls()
class Level(enum.IntEnum):
    LOW = 1
class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()
class Pair(typing.NamedTuple):
    a: int
    b: int = 2
K = typing.TypeVar('K')
class Box(typing.Generic[K]):
    def __init__(self, x: K):
        self.x = x
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
class Square(Shape):
    __slots__ = ('a',)
    def __init__(self, a):
        self.a = a
    def area(self):
        return self.a ** 2
def scaled_by(k):
    def scaled(x):
        COUNTS.append(x)
        return x * k
    return scaled
COUNTS = []
class Failure(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code
"""


@pytest.mark.parametrize(
    "made, told, right",
    [
        ("one", "HANDLERS['one'] is x is one, x()", [True, "a constant"]),
        ("Outer.Inner()", "type(x) is Outer.Inner, type(x).lock is Outer.Inner.lock", [True, True]),
        ("Outer.make", "x == Outer.make, type(x()) is Outer", [True, True]),
        ("[Level.LOW, Flags.A | Flags.B]", "x[0] is Level.LOW, x[1] is Flags.A | Flags.B", [True, True]),
        ("Pair(1)", "type(x) is Pair, x == Pair(1), x._replace(a=3).a", [True, True, 3]),
        ("[Box([1]), Box[int]]", "type(x[0]) is Box, x[1] == Box[int], x[0].x", [True, True, [1]]),
        ("Square(3)", "isinstance(x, Shape), type(x) is Square, x.area()", [True, True, 9]),
        ("scaled_by(3)", "x(2), x(3), COUNTS", [6, 9, [2, 3]]),
        ("Failure(3, 'no')", "type(x) is Failure, x.code, str(x)", [True, 3, "(3, 'no')"]),
        ("lambda: (T, one)", "x()[0], x()[1] is one, x.__globals__ is globals()", ["a constant", True, True]),
        ("[len, print, Outer]", "x[0] is len, x[2] is Outer", [True, True]),
    ],
)
def test_every_kind_of_class_and_function(tmp_path, made, told, right):
    told = results(
        tmp_path,
        KINDS.replace("K = typing.TypeVar('K')", ""),
        "#| shared\nfrom typing import TypeVar\nK = TypeVar('K')",
        f"%%step make -o x\nx = {made}",
        f"%%step use -i x -o told\ntold = [{told}]",
    )
    assert told == right


def test_an_equal_value_has_an_equal_key_and_a_changed_class_does_not(tmp_path):
    author = Author(
        tmp_path,
        "class Model:\n    made = 0\n    def __init__(self):\n        Model.made += 1\n"
        "    def f(self):\n        return 1",
        "def unused_by_model(n):\n    return n",
        "%%step make -o m\nfor _ in range(unused_by_model(2)):\n    m = Model()",
        "%%step use -i m -o told\ntold = m.f()",
    )
    assert author.run() == {"make", "use"}
    author.cells[1] = "def unused_by_model(n):\n    return n + 1"
    assert author.run() == {"make"}, "neither the state of the class nor another definition is part of the value"
    author.cells[0] = "# a comment\n" + author.cells[0]
    assert author.run(force=("make",)) == {"make"}
    author.cells[0] = author.cells[0].replace("return 1", "return 2")
    assert author.run() == {"make", "use"}
    assert author.value("told") == 2


def test_variables_of_a_step_travel_with_a_function_that_needs_them(tmp_path):
    told = results(
        tmp_path,
        "def predict(x):\n    return x * coefficient * rate",
        "%%step fit -o coefficient, model\ncoefficient, rate = 3, 2\nmodel = predict",
        "%%step use -i model -o told\ntold = model(2)",
    )
    assert told == 12


def test_a_parameter_travels_with_a_class_that_reads_it(tmp_path):
    told = results(
        tmp_path,
        "rate = 2",
        "class Model:\n    def f(self, x):\n        return x * rate",
        "%%step make -o m\nm = Model()",
        "%%step use -i m -o told\ntold = m.f(3)",
        parameters=0,
    )
    assert told == 6


@pytest.mark.parametrize(
    "made, reason",
    [
        (
            "x = Kept()\nx.parts = {'a': [Kept()]}\nx.parts['a'][0].lock = threading.Lock()",
            r"`x.parts\['a'\]\[0\].lock`",
        ),
        ("x = Refused(1, 2)", "could be written, but not read again: .*missing 1 required positional argument"),
        ("import typing\nx = typing.NewType('x', int)", "refers to `x` by its name, which no reader has"),
        ("def numbers():\n    yield 1\nx = numbers()", "cannot pickle 'generator' object;"),
    ],
)
def test_what_no_reader_could_load_is_refused_by_its_producer(tmp_path, made, reason):
    author = Author(
        tmp_path,
        "import threading\nclass Kept:\n    pass",
        "class Refused(Exception):\n    def __init__(self, a, b):\n        super().__init__(f'{a}{b}')",
        f"%%step make -o x\n{made}",
    )
    author.run()
    assert re.search(f"output `x`.* cannot be stored as cloudpickle: .*{reason}", author.step("make").failure.message)


def test_a_figure_comes_back_as_a_figure(tmp_path):
    """D5."""
    author = run(
        tmp_path,
        "import matplotlib.pyplot as plt",
        "%%step fig -o fig, ax\nfig, ax = plt.subplots()",
        "%%step use -i fig -o n\nn = len(fig.axes)\nfig",
        "%%step picture -o chart:png\nchart, _ = plt.subplots()",
        "%%step show -i chart -o kind\nkind = type(chart).__name__",
    )
    assert [author.value("n"), author.value("kind")] == [1, "Image"]
    executed = json.loads(Path(author.step("use").notebook).read_text())
    shown = [output["data"].keys() for cell in executed["cells"] for output in cell["outputs"] if "data" in output]
    assert ["image/png" in kinds for kinds in shown] == [True]
    assert author.run(force=("fig",)) == {"fig"}, "equal figures are equal bytes"


SHARING = (
    "import numpy as np\nimport pandas as pd",
    "class Optimiser:\n    def __init__(self, held):\n        self.held = held",
    "def train(optimiser):\n    optimiser.held[0] += 1",
)


@pytest.mark.parametrize(
    "model, optimiser, loss",
    [
        ("np.zeros(2)", "Optimiser(model)", "model[0]"),
        ("{'w': np.zeros(2)}", "Optimiser(model['w'])", "model['w'][0]"),
        ("Optimiser(np.zeros(2))", "Optimiser(model.held)", "model.held[0]"),
        ("Optimiser([0])", "Optimiser(model.held)", "model.held[0]"),
        ("(np.zeros(2), {0})", "Optimiser(model[0])", "model[0][0]"),
    ],
)
def test_outputs_that_share_an_object_are_kept_together(tmp_path, model, optimiser, loss):
    """D4."""
    author = run(
        tmp_path,
        *SHARING,
        f"%%step init -o model, opt\nmodel = {model}\nopt = {optimiser}",
        f"%%step train -i model, opt -o model, loss\ntrain(opt)\nloss = float({loss})",
        "%%step alone -i opt=init.opt -o held\nheld = float(opt.held[0])",
    )
    assert [author.value("loss"), author.value("held")] == [1.0, 0.0]
    assert author.run(force=("init",)) == {"init"}, "equal values are equal bytes"


@pytest.mark.parametrize(
    "model, optimiser, kind",
    [
        ("pd.DataFrame({'a': [1]})", "Optimiser(model)", "an object (pandas.DataFrame)"),
        ("[0.0, 1.0]", "{'held': model}", "an object (list)"),
        ("np.zeros(2)", "model[:1]", "the memory of an array"),
    ],
)
def test_outputs_that_cannot_be_kept_together_are_told(tmp_path, model, optimiser, kind):
    """D4: formats of their own keep one object each."""
    author = run(tmp_path, *SHARING, f"%%step init -o model, opt\nmodel = {model}\nopt = {optimiser}\ntype(Optimiser)")
    assert f"outputs `model` and `opt` share {kind}, but are stored separately" in " ".join(author.step("init").notes)


def test_outputs_of_two_steps_with_the_same_code_are_not_one(tmp_path):
    made = "\nm = [np.zeros(1), print]\nn = {'m': m, 'a': m[0]}"
    author = run(
        tmp_path,
        "import numpy as np",
        f"%%step one -o m, n{made}",
        f"%%step two -o m, n{made}",
        "%%step use -i m=one.m, n=one.n, o=two.m, p=two.n -o told\n"
        "told = [n['m'] is m, n['a'] is m[0], p['m'] is o, o is m, o[0] is m[0]]",
    )
    assert author.value("told") == [True, True, True, False, False]


def test_the_preview_of_an_object_names_its_class(tmp_path):
    author = run(tmp_path, "class Model:\n    pass", "%%step make -o m\nm = [Model()]")
    with Workspace.open(tmp_path) as workspace:
        found = preview(author.step("make").artifacts[0], workspace.materializer)
    assert (found.kind, found.summary) == ("opaque", "__main__.Model")


def test_a_figure_and_its_axes_stay_together(tmp_path):
    told = results(
        tmp_path,
        "import matplotlib.pyplot as plt",
        "%%step make -o fig, ax\nfig, ax = plt.subplots()",
        "%%step use -i fig, ax -o told\nax.plot([1, 2])\ntold = [ax.figure is fig, len(fig.axes[0].lines)]",
    )
    assert told == [True, 1]


def test_one_function_with_two_values_of_a_variable_is_an_error(tmp_path):
    """In one kernel both would see the newer value."""
    author = Author(
        tmp_path,
        "def predict(x):\n    return x * coefficient",
        "%%step one -o f\ncoefficient = 3\nf = predict",
        "%%step two -o g\ncoefficient = 5\ng = predict",
        "%%step use -i f, g -o told\ntold = [f(1), g(1)]",
        "%%step declared -i f, g, coefficient=three.c -o right\nright = [f(1), g(1)]",
        "%%step three -o c\nc = 5",
    )
    author.run(run_options=RunOptions(keep_going=True))
    assert author.value("right") == [5, 5]
    message = author.step("use").failure.message
    assert "`coefficient` has two values: one for each of two inputs; declare it as an input, too" in message
