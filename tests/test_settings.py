"""Settings in ordinary cells reach the steps below them that use what they set, in the notebook's order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_cells import cells, code_of, fine, read, shared_names, wrong

from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook_codec import decode_notebook, encode_notebook
from nbpipe.language.setting_table import SETTINGS
from nbpipe.model import Cell, StepCode

DOCUMENTED = Path(__file__).parent.parent / "docs" / "settings.md"
SET_SEED = """\
import random
def set_seed(n):
    '''Seed all.'''
    import numpy as np
    random.seed(n)
    np.random.seed(n)"""
SKLEARN_FILTER = """\
import warnings
from sklearn.exceptions import ConvergenceWarning
warnings.filterwarnings('ignore', category=ConvergenceWarning)"""
NUMPY = "%%step s -o x\nimport numpy\nx = numpy.pi"


def settings_of(code: StepCode) -> list[str]:
    """Get the settings that a step gets, as written, in their order."""
    return [item.source for item in code.definitions if item.setting]


def told(*sources: str) -> list[str]:
    """Get the warnings about set-up cells."""
    return [warning.message for warning in fine(*sources).effects]


@pytest.mark.parametrize(
    "imports, setting, step",
    [
        ("import numpy as np", "np.set_printoptions(precision=2)", "import numpy"),
        ("from numpy import set_printoptions as quiet", "quiet(precision=2)", "from numpy import array"),
        ("import numpy.random", "numpy.random.seed(1)", "import numpy as np"),
        ("from numpy import random", "random.seed(1)", "import scipy.stats"),
        ("import random", "_ = random.seed(1)", "from random import choice"),
        ("import pandas as p", "p.options.mode.chained_assignment = None", "import pandas"),
        ("import pandas as p", "p.set_option('display.width', 40)", "import pandas"),
        ("import pandas as pd", "pd.options.display.width = 40", "import pandas.api.types"),
        ("import pandas as pd\nopt = pd.options", "opt.display.width = 40", "import pandas"),
        ("import matplotlib.pyplot as plt", "plt.style.use('ggplot')", "import seaborn"),
        ("import matplotlib.pyplot as plt", "plt.rcParams['font.size'] = 7", "import pandas\npandas.Series().plot()"),
        ("from matplotlib import rcParams", "rcParams.update({'font.size': 7})", "import matplotlib"),
        ("import matplotlib as mpl", "mpl.rcParams |= {'font.size': 7}", "import matplotlib"),
        ("import seaborn as sns", "sns.set_theme(style='dark')", "import matplotlib.pyplot as plt"),
        ("import torch", "torch.backends.cudnn.benchmark = True", "import torchvision"),
        ("import torch", "torch.set_default_dtype(torch.float64)", "from torch import nn"),
        ("import sklearn", "sklearn.set_config(display='text')", "from sklearn.svm import SVC"),
        ("from decimal import getcontext", "getcontext().prec = 5", "import decimal"),
        ("import decimal\nctx = decimal.getcontext()", "ctx.prec = 5", "import decimal"),
        ("import warnings", "warnings.filterwarnings('ignore')", "import math"),
        ("import logging", "logging.getLogger('x').setLevel(logging.ERROR)", "import pandas"),
        ("import logging\nlog = logging.getLogger(__name__)", "log.setLevel('INFO')", "import logging"),
        ("import os", "os.environ['MODE'] = 'x'", "import os"),
        ("from os import environ", "environ.setdefault('MODE', 'x')", "import subprocess"),
        ("import os", "del os.environ['MODE']", "import pandas"),
        ("import sys", "sys.path.insert(0, 'src')", "import helpers"),
        ("import sys", "sys.path += ['src']", "import numpy"),
        ("import sys", "sys.setrecursionlimit(5000)", "pass"),
        ("import polars as pl", "pl.Config(tbl_cols=3)", "import polars"),
        ("from mpmath import mp", "mp.dps = 30", "import mpmath"),
        ("import csv", "csv.register_dialect('semi', delimiter=';')", "import csv"),
        ("import time", "time.tzset()", "import datetime"),
        ("import math", "get_ipython().ast_node_interactivity = 'all'", "pass"),
        ("import math", "%pprint", "pass"),
        ("import locale", "locale.setlocale(locale.LC_ALL, 'C')", "pass"),
        ("", "%config InlineBackend.figure_format = 'svg'", "import matplotlib.pyplot as plt"),
        ("", "%env MODE=x", "import os"),
        ("", "%precision 3", "pass"),
        ("import numpy as np", "if True:\n    np.seterr(all='ignore')", "import numpy"),
        ("import numpy as np", "try:\n    np.seterr(all='ignore')\nexcept TypeError:\n    pass", "import numpy"),
        ("import logging", "for name in ('a', 'b'):\n    logging.getLogger(name).setLevel('ERROR')", "import logging"),
        ("from random import *", "seed(1)", "import random"),
        ("import random, numpy as np", "random.seed(1), np.random.seed(1)", "import random"),
        ("import torch", "if torch.cuda.is_available():\n    torch.backends.cudnn.benchmark = True\n    print('yes')",
         "import torch"),
        ("import locale", "try:\n    locale.setlocale(locale.LC_ALL, 'de')\nexcept locale.Error:\n    print('no')",
         "pass"),
        ("import warnings\nimport pandas as pd", "warnings.simplefilter('ignore', pd.errors.PerformanceWarning)",
         "import pandas"),
        (SET_SEED, "set_seed(3)", "import sklearn"),
        ("import numpy as np", "np.random.seed(1)", "import helpers"),
    ],
)  # fmt: skip
def test_a_setting_reaches_the_steps_that_use_what_it_sets(imports, setting, step):
    """It is seen under any name, alone or beside imports; a step that uses something else does not get it."""
    sources = (f"{imports}\n{setting}", f"%%step s -o x\n{step}\nx = 1")
    got = settings_of(code_of(*sources))

    assert len(got) == 1
    assert got == [setting] or got[0].startswith("get_ipython()")
    everywhere = "pass" in step.splitlines()
    assert settings_of(code_of(sources[0], "%%step other -o y\ny = 1 + 1")) == (got if everywhere else [])
    assert settings_of(code_of(*reversed(sources))) == [], "the step is above the setting"


@pytest.mark.parametrize(
    "setting, step",
    [
        ("import numpy as np\nnp.set_printoptions(precision=2)", "import math\nx = math.pi"),
        ("import pandas as pd\npd.set_option('display.width', 40)", "import numpy\nx = numpy.pi"),
        ("import numpy as np\nnp.random.seed(1)", "import random\nx = random.random()"),
        ("import sys\nsys.path.append('src')", "import json\nx = json.dumps(1)"),
        ("import numpy as np\nwith np.printoptions(precision=2):\n    print(1)", "import numpy\nx = 1"),
        (SKLEARN_FILTER, "import numpy\nx = 1"),
        ("%matplotlib inline", "import matplotlib.pyplot as plt\nx = 1"),
        ("#| local\nimport numpy as np\nnp.set_printoptions(precision=2)", "import numpy\nx = 1"),
        ("import numpy as np\ndef quiet():\n    np.set_printoptions(precision=2)", "import numpy\nx = 1"),
    ],
)
def test_what_a_step_does_not_use_does_not_reach_it(setting, step):
    assert settings_of(code_of(setting, f"%%step s -o x\n{step}")) == []


@pytest.mark.parametrize(
    "make, take, reached",
    [
        ("-o df\nimport pandas as pd\ndf = pd.DataFrame()", "-i df -o x\nx = repr(df)", True),
        ("-o df\nimport pandas as pd\ndf = pd.DataFrame()", "-i df -o x\nx = f'{df}'", True),
        ("-o df\nimport pandas as pd\ndf = pd.DataFrame()", "-i df -o x\nx = float(df.a.sum())", True),
        ("-o df\nimport pandas as pd\ndf = pd.DataFrame()", "-i df -o x\ndf\nx = 1", True),
        ("-o n\nimport pandas as pd\nn = 3", "-i n -o x\nx = n + 1", False),
        ("-o n\nimport pandas as pd\nn = 3", "-i n -o x\nx = [n, str(NAME), f'{NAME}', NAME.upper()]", False),
        ("-o n\nimport pandas as pd\nn = 3", "-i n -o x\nx = list(map(str, [n]))", True),
        ("-o n\nimport pandas as pd\nn = 3", "-i n -o x\nm = n\nx = m.mean()", True),
        ("-o n\nimport pandas as pd\nn = 3", "-i n -o x\nimport json\nx = [json.dumps(1), n]", False),
        ("-o n\nimport pandas as pd\nn = 3", "-i n -o x\nx = SHOW(n)", True),
        ("-o n:json\nimport pandas as pd\nn = 3", "-i n -o x\nx = str(n)", False),
        ("-o n:file\nimport pandas as pd\nn.touch()", "-i n -o x\nx = str(n)", False),
        ("-o df\ndf = 1", "-i raw:csv=./raw.csv -o x\nx = repr(raw)", True),
    ],
)
def test_values_bring_the_libraries_of_their_makers(make, take, reached):
    """A step that shows a table, or calls its methods, uses pandas without naming it."""
    setup = "NAME = 'x'\nSHOW = lambda x: x.sum()\nimport pandas as pd\npd.set_option('display.width', 40)"
    code = code_of(setup, f"%%step make {make}", f"%%step s {take}")

    assert bool(settings_of(code)) == reached


def test_names_of_a_star_import_use_its_module():
    assert settings_of(
        code_of("from decimal import *\ngetcontext().prec = 5", "%%step s -o x\nx = str(Decimal(1) / 3)")
    ) == ["getcontext().prec = 5"]
    assert settings_of(code_of("from numpy import *\nset_printoptions(precision=2)", "%%step s -o x\nx = [1]")) == []


def test_settings_keep_the_order_of_the_notebook_among_imports_and_definitions():
    code = code_of(
        "import os\nos.environ['MODE'] = 'x'\nimport numpy as np",
        "np.seterr(all='ignore')\nLIMIT = 3\nnp.seterr(all='warn')",
        "def f():\n    return np.pi * LIMIT",
        "%%step s -o x\nx = f()",
    )
    assert [item.source.partition("(")[0] for item in code.definitions] == [
        "import os", "os.environ['MODE'] = 'x'", "import numpy as np", "np.seterr", "LIMIT = 3", "np.seterr", "def f",
    ]  # fmt: skip


def test_without_a_setting_imports_come_first_as_before():
    code = code_of("A = 1\nimport math", "%%step s -o x\nx = math.pi * A")

    assert [item.source for item in code.definitions] == ["import math", "A = 1"]


def test_a_setting_brings_the_parameters_and_definitions_that_it_reads():
    code = code_of(
        "seed = 3",
        "import numpy as np\nOFFSET = 10\ndef start():\n    return seed + OFFSET\nnp.random.seed(start())",
        "%%step s -o x\nimport numpy\nx = numpy.random.rand()",
        tags={1: "parameters"},
    )
    assert code.parameters == ("seed",)
    assert shared_names(code) == ["OFFSET", "np", "start"]


def test_a_setting_that_reads_what_steps_do_not_have_is_told():
    """It must not make a notebook wrong that could be planned before."""
    reading = fine("import numpy as np\ncfg = load()\nnp.random.seed(cfg.seed)", NUMPY)

    assert settings_of(reading.code["s"]) == []
    assert [(w.code, w.place.cell, w.place.line) for w in reading.warnings] == [("unshared-effect", 1, 3)]
    assert "steps do not have `cfg`" in reading.effects[0].message
    assert "#| shared" in reading.effects[0].hint


@pytest.mark.parametrize(
    "statement",
    [
        "nltk.download('punkt')",
        "np.set_something_new(True)",
        "np.core.thing = 3",
        "os.makedirs('out', exist_ok=True)",
        "for name in ('a', 'b'):\n    nltk.download(name)",
        "if np.pi > 3:\n    nltk.download('punkt')",
        "remember()",
        "Path('out').mkdir()",
        "%cd ..",
        "Model.kind = 'other'",
        "del Model.kind",
    ],
)
def test_another_statement_with_an_effect_is_told_once(statement):
    setup = (
        "import nltk, os\nfrom pathlib import Path\nimport numpy as np\nSEEN = {}\n"
        "def remember():\n    SEEN['a'] = 1\nclass Model:\n    kind = 'one'\n"
    )
    users = ("%%step s -o x\nx = np.pi", "%%step t -o y\ny = np.e")
    messages = told(setup + statement, *users)

    assert len(messages) == 1
    assert "although steps use definitions beside it" in messages[0]
    assert told(setup + statement, "%%step s -o x\nx = 1") == [], "no step draws from the cell"
    assert told("#| shared\n" + setup, *users) == []
    assert told("#| local\n" + setup + statement, "%%step s -o x\nx = 1") == []


@pytest.mark.parametrize(
    "statement",
    [
        "print(np.pi)", "np.zeros(3)", "df.head()", "df = np.zeros(3)", "'text'", "%load_ext autoreload", "!ls",
        "np.set_printoptions(precision=2)", "double(3)", "Model()", "x = double(3)", "np", "os.getcwd()",
        "log.info('x')", "with np.printoptions(precision=1):\n    print(1)", "warnings.warn('x')", "show(df)",
        "np.array([1]).mean()",
    ],
)  # fmt: skip
def test_exploration_is_not_told(statement):
    setup = (
        "import os, logging, warnings\nimport numpy as np\nlog = logging.getLogger('x')\n"
        "def double(x):\n    y = x * 2\n    return y\ndef show(x):\n    print(x)\nclass Model: ...\n"
    )
    assert told("df = load()", setup + statement, "%%step s -o x\nx = np.pi") == []


def test_statements_of_a_cell_are_told_together():
    assert told("import a, b\na.start()\nb.start()\nb.go()", "%%step s -o x\nx = a.b") == [
        "no step gets `a.start()` and 2 more statements of its cell, although steps use definitions beside it"
    ]


def test_a_parameters_cell_holds_no_setting():
    reading = read("import numpy as np\nnp.random.seed(1)", NUMPY, tags={1: "parameters"})

    assert reading.errors
    assert settings_of(reading.code["s"]) == []


@pytest.mark.parametrize(
    "setup, read, said",
    [
        ("N = 3\nM = N * 2\nN += 1", "M", "`N` is defined in cell 2 and changed in cell 2, line 3: N += 1"),
        ("A = [1]\nB = sorted(A)\nB.append(2)", "B", "`B` is defined in cell 2 and changed in cell 2, line 3"),
        ("A = [1]\nB = A\nB.append(2)", "A", "`A` is defined in cell 2 and changed in cell 2, line 3"),
        ("A = 1\nA = A + 1", "A", "`A` is defined in cell 2 and changed in cell 2, line 2"),
        ("A = len([1])\nA = len([1, 2])", "A", "`A` is defined differently in cell 2"),
        ("from pathlib import Path\nHERE = Path.cwd()", "HERE", "not part of the pipeline"),
        ("from datetime import datetime\nNOW = datetime.now()", "NOW", "not part of the pipeline"),
        ("import os\nHOME = os.getenv('HOME')", "HOME", "not part of the pipeline"),
        ("import os\nHOME = os.environ['HOME']", "HOME", "not part of the pipeline"),
        ("import sys\nARGS = sys.argv", "ARGS", "not part of the pipeline"),
        ("LINES = map(str, [1])", "LINES", "not part of the pipeline"),
        ("LINES = (i for i in [1])", "LINES", "not part of the pipeline"),
        ("def f():\n    return 1\nONE = f()", "ONE", "not part of the pipeline"),
        ("def f(x):\n    return x\nONE = max([1], key=f)", "ONE", "not part of the pipeline"),
        ("len = print\nONE = len([1])", "ONE", "not part of the pipeline"),
        ("rate = rate * 2\nTEN = 10 * rate", "TEN", "not part of the pipeline"),
        ("class A:\n    def __init__(self): ...\nONE = A()", "ONE", "not part of the pipeline"),
        ("with open('x') as f:\n    TEXT = 'a'", "TEXT", "not part of the pipeline"),
        ("try:\n    import a\n    ONE = a.load()\nexcept ImportError:\n    ONE = 1", "ONE", "not part of the pipeline"),
    ],
)
def test_what_depends_on_more_than_its_text_is_no_definition(setup, read, said):
    """It would be another value in a step's kernel, at another time or after another statement."""
    assert said in wrong("rate = 0.1", setup, f"%%step s -o x\nx = {read}", tags={1: "parameters"})


@given(
    st.recursive(
        st.sampled_from(["N", "2", "f'{N!r}'", "WORDS", "rate", "Path('x')", "len(WORDS)"]),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("({0[0]}, {0[1]})".format),
            inner.map("[{}]".format),
            inner.map("str({})".format),
            inner.map("'{{}}'.format({})".format),
            st.tuples(inner, inner).map("({0[0]} == {0[1]})".format),
            inner.map("[each for each in ({},)]".format),
            inner.map("{{'a': {}}}['a']".format),
            st.tuples(inner, inner).map("({0[0]} if N else {0[1]})".format),
        ),
        max_leaves=8,
    )
)
def test_a_value_built_from_definitions_is_a_definition_with_what_it_reads(value):
    """Its names come with it, and one impure call anywhere makes it exploration."""
    setup = "from pathlib import Path\nN = 3\nWORDS = ['a']\n"
    step = "%%step s -o x\nx = BUILT"
    code = code_of("rate = 0.1", f"{setup}BUILT = {value}", step, tags={1: "parameters"})
    names = set(re.findall(r"\b(?:N|WORDS|Path)\b", value))

    assert set(shared_names(code)) == {"BUILT", *names}
    assert code.parameters == (("rate",) if "rate" in value else ())
    assert read("rate = 0.1", f"{setup}BUILT = [{value}, open('x')]", step, tags={1: "parameters"}).errors


def test_settings_of_the_workspace_extend_the_table():
    sources = ("import mylib\nmylib.configure(fast=True)\nmylib.flags.speed = 3", "%%step s -o x\nimport mylib\nx = 1")
    more = {"mylib.configure": ("mylib",), "mylib.flags.*": ("every step",)}
    code = parse_cells(cells(*sources, "%%step t -o y\ny = 1"), more).code

    assert settings_of(code["s"]) == ["mylib.configure(fast=True)", "mylib.flags.speed = 3"]
    assert settings_of(code["t"]) == ["mylib.flags.speed = 3"]


def test_settings_and_warnings_survive_the_parse_cache():
    reading = fine(
        "import numpy as np, nltk\nnp.random.seed(1)\nnltk.download()\nN = len([1])", NUMPY, "%%step t -o y\ny = N"
    )
    text = encode_notebook(reading)

    assert text is not None
    assert decode_notebook(text) == reading
    assert reading.effects


@pytest.mark.parametrize(
    "cell, step, told_of",
    [
        ("x = np.random.rand()", "np.random.rand()", True),
        ("noise()", "np.random.rand()", True),
        ("df = pd.Series([1, 2]).sample(1)", "np.random.rand()", True),
        ("x = np.random.default_rng(1).random()", "np.random.rand()", False),
        ("x = random.random()", "np.random.rand()", False),
        ("x = np.random.rand()\nnp.random.seed(1)", "np.random.rand()", False),
        ("x = np.random.rand()", "np.pi", False),
        ("def other():\n    return np.random.rand()", "np.random.rand()", False),
    ],
)
def test_a_draw_of_an_ordinary_cell_between_a_seed_and_a_step_is_told(cell, step, told_of):
    setup = "import random\nimport numpy as np, pandas as pd\nnp.random.seed(1)\ndef noise(): return np.random.rand()"
    reading = fine(setup, cell, f"%%step a -o y\ny = {step}", "np.random.rand()")

    assert [w.code for w in reading.effects] == (["seed-restarts"] if told_of else [])
    if told_of:
        assert "`a` starts from `np.random.seed(1)`, where one kernel has drawn in" in reading.effects[0].message


@pytest.mark.parametrize(
    "first, second, told_of",
    [
        ("np.random.rand()", "np.random.normal()", True),
        ("np.random.rand()", "df.sample(3) if (df := pd.Series()) is not None else 0", True),
        ("np.random.rand()", "np.pi", False),
        ("np.random.rand()", "np.random.default_rng(1).normal()", False),
        ("np.random.rand()", "[np.random.seed(2), np.random.rand()]", False),
    ],
)
def test_steps_that_draw_from_one_seed_are_told(first, second, told_of):
    """In one kernel the second would go on where the first stopped."""
    setup = "import numpy as np, pandas as pd\nnp.random.seed(1)"
    reading = fine(setup, f"%%step a -o x\nx = {first}", f"%%step b -o y\ny = {second}")

    assert [w.code for w in reading.effects] == (["seed-restarts"] if told_of else [])
    if told_of:
        assert "`a` and `b` each start from `np.random.seed(1)`" in reading.effects[0].message


def test_in_a_live_kernel_a_setting_is_above_what_ran_after_it():
    """Numbers are counts of execution, and a cell that is run again keeps its place."""
    setup, step = "import numpy as np\nnp.random.seed(1)", NUMPY
    for numbers, order, reached in (
        ((1, 2), (setup, step), True),
        ((3, 2), (setup, step), True),
        ((3, 4), (step, setup), False),
        ((4, 3), (step, setup), True),
    ):
        reading = parse_cells([Cell(number, source) for number, source in zip(numbers, order, strict=True)])
        assert bool(settings_of(reading.code["s"])) == reached


@given(st.permutations(["np.random.seed(1)", "np.seterr(all='ignore')", "np.random.seed(2)", "A = 1", "def f(): ..."]))
def test_any_order_of_settings_is_kept(statements):
    code = code_of("import numpy as np", *statements, "%%step s -o x\nx = [np.pi, A, f()]")
    texts = [item.source for item in code.definitions]

    assert texts == ["import numpy as np", *statements]


def test_every_setting_is_documented():
    words = set(re.findall(r"`([^`]+)`", DOCUMENTED.read_text(encoding="utf-8")))

    assert set(SETTINGS) - words == set()
