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
