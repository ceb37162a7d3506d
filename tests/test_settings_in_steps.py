"""Settings in ordinary cells, with real kernels: a step finds them as a plain run does, and they are in its key."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from notebook_author import Author, write_notebook

pytestmark = pytest.mark.kernel

SETUP = """\
import logging, os, random, sys, warnings, decimal, locale
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
np.set_printoptions(precision=2)
pd.set_option('display.width', 40)
pd.options.mode.chained_assignment = None
plt.style.use('ggplot')
plt.rcParams['figure.figsize'] = (3, 2)
plt.rcParams.update({'font.size': 7})
warnings.filterwarnings('ignore')
logging.basicConfig(level='INFO')
logging.getLogger('some.where').setLevel(logging.ERROR)
decimal.getcontext().prec = 5
os.environ['NBPIPE_TEST_MODE'] = 'fast'
os.environ.setdefault('NBPIPE_TEST_OTHER', 'b')
sys.path.append('/nowhere/at/all')
sys.setrecursionlimit(4321)
np.seterr(divide='raise')
random.seed(3)
np.random.seed(4)
"""
PROBE = """\
def probe():
    return {
        'array': str(np.array([1.23456, 2])), 'width': pd.get_option('display.width'),
        'chained': pd.options.mode.chained_assignment, 'face': plt.rcParams['axes.facecolor'],
        'size': list(plt.rcParams['figure.figsize']), 'font': plt.rcParams['font.size'],
        'filter': warnings.filters[0][0], 'root': logging.getLogger().level,
        'level': logging.getLogger('some.where').level, 'prec': decimal.getcontext().prec,
        'third': str(decimal.Decimal(1) / 3), 'mode': os.environ.get('NBPIPE_TEST_MODE'),
        'other': os.environ.get('NBPIPE_TEST_OTHER'), 'path': '/nowhere/at/all' in sys.path,
        'depth': sys.getrecursionlimit(), 'divide': np.geterr()['divide'],
        'random': random.random(), 'drawn': float(np.random.rand()),
    }
"""


def plain(folder: Path, *cells: str) -> str:
    """Run the cells from top to bottom in one kernel, and get what the last one prints."""
    path = write_notebook(folder / "plain.ipynb", cells)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(output.get("text", "") for output in notebook.cells[-1].outputs)


def test_d6_settings_of_a_set_up_cell_are_in_force_in_a_step(tmp_path):
    expected = plain(tmp_path, SETUP, PROBE, "import json\nprint(json.dumps(probe()))")
    author = Author(tmp_path, SETUP, PROBE, "%%step look -o seen\nseen = probe()", "%%step idle -o x\nx = 1")

    assert author.run() == {"look", "idle"}
    assert author.value("seen") == json.loads(expected)
    assert author.value("seen")["array"] == "[1.23 2.  ]"


def test_a_changed_setting_runs_the_steps_that_use_its_library_and_no_others(tmp_path):
    author = Author(
        tmp_path,
        "import random\nimport numpy as np\nimport pandas as pd\n"
        "np.set_printoptions(precision=2)\npd.set_option('display.precision', 2)\nrandom.seed(1)",
        "%%step numbers -o text\ntext = str(np.array([1.23456]))",
        "%%step table -o df\ndf = pd.DataFrame({'a': [1.23456]})",
        "%%step shown -i df -o seen\nseen = repr(df)",
        "%%step longer -i text -o n\nn = len(text) + 1",
        "%%step plain -o x\nx = 1",
    )  # fmt: skip
    author.run()
    assert author.value("seen") == "      a\n0  1.23"

    author.cells[0] = author.cells[0].replace("np.set_printoptions(precision=2)", "np.set_printoptions(precision=3)")
    assert author.run() == {"numbers", "longer"}
    author.cells[0] = author.cells[0].replace("'display.precision', 2", "'display.precision', 3")
    assert author.run() == {"table", "shown"}
    assert author.value("seen") == "       a\n0  1.235"
    author.cells[0] = author.cells[0].replace("random.seed(1)", "random.seed(2)")
    assert author.run() == set()


def test_paths_variables_and_magics_are_set_before_what_follows_them(tmp_path):
    """A folder on the path must be there before the import, a variable before the module that reads it."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "reads_at_import.py").write_text("import os\nMODE = os.environ['NBPIPE_TEST_MODE']\n")
    setup = (
        "import os, sys\nsys.path.insert(0, 'lib')\nos.environ['NBPIPE_TEST_MODE'] = 'one'\nimport reads_at_import\n"
        "os.environ['NBPIPE_TEST_MODE'] = 'two'\n%env NBPIPE_TEST_THIRD=three\n%precision 2\n"
        "%config InlineBackend.figure_formats = ['svg']\nimport matplotlib.pyplot as plt"
    )
    look = (
        "shown = [reads_at_import.MODE, os.environ['NBPIPE_TEST_MODE'], os.environ['NBPIPE_TEST_THIRD'],"
        " get_ipython().display_formatter.format(1.2345)[0]['text/plain'],"
        " sorted(get_ipython().config.InlineBackend.get('figure_formats', [])), plt.get_backend()]"
    )
    expected = plain(tmp_path, setup, f"{look}\nimport json\nprint(json.dumps(shown))")
    author = Author(tmp_path, setup, f"%%step look -o shown\n{look}")
    author.run()

    assert author.value("shown") == json.loads(expected.splitlines()[-1])
    assert author.value("shown")[:4] == ["one", "two", "three", "1.23"]


def test_a_setting_below_a_step_is_not_yet_in_force_there(tmp_path):
    cells = (
        "import decimal\ndecimal.getcontext().prec = 4",
        "%%step early -o a, part\na = decimal.Decimal(1) / 7\npart = decimal.Decimal(5)",
        "decimal.getcontext().prec = 8",
        "%%step late -i part -o b, c\nb = decimal.Decimal(1) / 7\nc = part / 7",
        "%%step by_value -i part -o d\nd = part / 7",
    )
    author = Author(tmp_path, *cells)
    author.run()
    values = {name: str(author.value(name)) for name in ("a", "b", "c", "d")}

    assert values == {"a": "0.1429", "b": "0.14285714", "c": "0.71428571", "d": "0.71428571"}
    author.cells[2] = "decimal.getcontext().prec = 6"
    assert author.run() == {"late", "by_value"}


def test_built_values_and_tried_imports_are_what_they_are_in_the_notebook(tmp_path):
    setup = (
        "import enum, re\nfrom collections import namedtuple\nfrom datetime import date, timedelta\n"
        "from decimal import Decimal\nfrom pathlib import Path\n"
        "try:\n    import no_such_module as fast\n    FAST = True\nexcept ImportError:\n    import json as fast\n"
        "    FAST = False\n"
        "N = 3\nROOT = Path('data') / 'x'\nNAME = ROOT / f'{N:03d}.csv'\nPOINT = namedtuple('POINT', 'x y')\n"
        "ORIGIN = POINT(0, N)\nWORD = re.compile(r'\\w+')\nDAY = date(2024, 2, 28) + timedelta(days=2)\n"
        "Color = enum.Enum('Color', 'RED BLUE')\nSQUARES = {i: i ** 2 for i in range(N)}\nLAST = max(SQUARES)\n"
        "PRICE = Decimal('1.10') * N\ndouble = lambda x: 2 * x"
    )
    look = (
        "seen = [FAST, fast.dumps([1]), NAME.as_posix(), list(ORIGIN), WORD.findall('a b'), str(DAY), Color.BLUE.name,"
        " sorted(SQUARES.items()), LAST, str(PRICE), double(4)]"
    )
    expected = plain(tmp_path, setup, f"{look}\nimport json\nprint(json.dumps(seen))")
    author = Author(tmp_path, setup, f"%%step look -o seen\n{look}", "%%step other -o x\nx = double(1)")
    author.run()

    assert json.loads(json.dumps(author.value("seen"))) == json.loads(expected)
    author.cells[0] = author.cells[0].replace("N = 3", "N = 4")
    assert author.run() == {"look"}


def test_a_setting_that_the_workspace_names_is_in_force_from_then_on(tmp_path):
    (tmp_path / "mylib.py").write_text("FLAGS = []\ndef configure(flag):\n    FLAGS.append(flag)\n")
    author = Author(
        tmp_path, "import mylib\nmylib.configure('fast')", "%%step look -o seen\nseen = list(mylib.FLAGS)",
        "%%step idle -o x\nx = 1",
    )  # fmt: skip
    assert [warning.code for warning in author.plan().warnings] == ["unshared-effect"]
    author.run()
    assert author.value("seen") == []

    (tmp_path / "nbpipe.toml").write_text('[settings]\n"mylib.configure" = "mylib"\n')
    assert author.plan().warnings == ()
    assert author.run() == {"look"}
    assert author.value("seen") == ["fast"]
