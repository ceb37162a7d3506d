"""What a step uses without declaring it is seen, recorded, and must be so still when its result is reused."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
import venv
from pathlib import Path

import pytest
from notebook_author import Author, write_notebook

from nbpipe.model import Status
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.notebook_check import check_notebook

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def observed(author: Author, step: str) -> dict[str, str]:
    """Get what a step of the last run used without declaring it, as ``kind:name``."""
    return {f"{item.kind}:{item.name}": item.state for item in author.step(step).observed}


READS = {
    "open": "x = open('extra.txt').read()",
    "pathlib": "from pathlib import Path\nx = Path('extra.txt').read_text()",
    "descriptor": "import os\nd = os.open('extra.txt', os.O_RDONLY)\nx = os.read(d, 100).decode()",
    "absolute": "import os\nx = open(os.path.abspath('extra.txt')).read()",
    "thread": (
        "import threading\nfound = []\nt = threading.Thread(target=lambda: found.append(open('extra.txt').read()))\n"
        "t.start()\nt.join()\nx = found[0]"
    ),
    "forked child": (
        "import os\nr, w = os.pipe()\n"
        "if not os.fork():\n    os.write(w, open('extra.txt', 'rb').read())\n    os._exit(0)\n"
        "os.wait()\nx = os.read(r, 100).decode()"
    ),
    "program": "import subprocess\nx = subprocess.run(['cat', 'extra.txt'], capture_output=True, text=True).stdout",
    "shell": "import os\nos.system('cp extra.txt /tmp/copy.$$')\nx = 'x'\nx = open('extra.txt').read()",
    "shell escape": "lines = !cat extra.txt\nx = lines[0]",
    "redirected": "import subprocess\nx = subprocess.check_output('cat <extra.txt', shell=True, text=True)",
    "pattern": "import subprocess\nx = subprocess.check_output('cat ext*.txt', shell=True, text=True)",
    "added to": "open('extra.txt', 'a').close()\nx = open('extra.txt').read()",
    "only looked at": "import os\nx = str(os.path.getsize('extra.txt')) + open('extra.txt').readline()",
}


@pytest.mark.parametrize("code", READS.values(), ids=READS)
def test_e4_an_undeclared_file_unchanged_is_reused_and_changed_reruns(tmp_path, code):
    (tmp_path / "extra.txt").write_text("one")
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    before = author.value("x")
    assert author.run() == set()

    (tmp_path / "extra.txt").write_text("three")
    assert author.run() == {"s"}
    assert author.value("x") != before
    assert author.reasons("s") <= {"read:extra.txt", f"read:{tmp_path / 'extra.txt'}"}

    (tmp_path / "extra.txt").write_text("one")
    assert author.run() == set(), "the older result was made from just this file"
    assert author.value("x") == before


LOOKS = {
    "exists": "from pathlib import Path\nx = Path('flag').exists()",
    "os.path": "import os\nx = os.path.isfile('flag')",
    "stat": "import os\ntry:\n    os.stat('flag')\n    x = True\nexcept FileNotFoundError:\n    x = False",
    "open": "try:\n    open('flag')\n    x = True\nexcept FileNotFoundError:\n    x = False",
    "access": "import os\nx = os.access('flag', os.R_OK)",
    "glob": "import glob\nx = glob.glob('flag') != []",
    "listing": "import os\nx = 'flag' in os.listdir()",
    "iterdir": "from pathlib import Path\nx = any(p.name == 'flag' for p in Path('.').iterdir())",
}


@pytest.mark.parametrize("code", LOOKS.values(), ids=LOOKS)
def test_a_path_that_was_looked_for_in_vain_reruns_when_it_is_there(tmp_path, code):
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    assert author.value("x") is False
    assert author.run() == set()

    (tmp_path / "flag").write_text("")
    assert author.run() == {"s"}
    assert author.value("x") is True

    (tmp_path / "flag").unlink()
    assert author.run() == set()


def test_a_folder_that_was_listed_counts_by_its_names(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("1")
    author = Author(tmp_path, "%%step s -o x\nimport os\nx = sorted(os.listdir('data'))")
    author.run()
    (tmp_path / "data" / "a").write_text("2")
    assert author.run() == set(), "only the names were asked for"
    (tmp_path / "data" / "b").write_text("")
    assert author.run() == {"s"}
    assert author.reasons("s") == {"listed:data"}


def test_a_database_that_was_connected_to_counts(tmp_path):
    def fill(value: int) -> None:
        with sqlite3.connect(tmp_path / "data.db") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
            connection.execute("INSERT INTO t VALUES (?)", [value])
        connection.close()

    fill(1)
    author = Author(
        tmp_path,
        "%%step s -o x\nimport sqlite3\nx = sqlite3.connect('data.db').execute('SELECT max(x) FROM t').fetchone()[0]",
    )
    author.run()
    assert author.run() == set()
    fill(2)
    assert author.run() == {"s"}
    assert author.value("x") == 2


def test_a_database_named_by_its_uri_counts_and_one_that_the_step_makes_is_its_own(tmp_path):
    def fill(value: int) -> None:
        with sqlite3.connect(tmp_path / "data.db") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
            connection.execute("INSERT INTO t VALUES (?)", [value])
        connection.close()

    fill(1)
    read = "x = sqlite3.connect('file:data.db?mode=ro', uri=True).execute('SELECT max(x) FROM t').fetchone()[0]"
    make = (
        "c = sqlite3.connect('own.db')\nc.execute('CREATE TABLE IF NOT EXISTS t (x)')\nc.execute('DELETE FROM t')\n"
        "c.commit()\nc.close()\ny = 1"
    )
    author = Author(tmp_path, "import sqlite3", f"%%step s -o x\n{read}", f"%%step made -o y\n{make}")
    author.run()
    assert author.run() == set()
    fill(2)
    assert author.run() == {"s"}
    assert author.value("x") == 2


def test_a_log_that_a_step_adds_to_is_no_input_until_it_is_read(tmp_path):
    (tmp_path / "log.txt").write_text("before\n")
    write = "import logging\nlogging.basicConfig(filename='log.txt')\nlogging.error('x')\nx = 1"
    read = "with open('all.txt', 'a') as f:\n    f.write('1')\ny = open('all.txt').read()"
    author = Author(tmp_path, f"%%step s -o x\n{write}", f"%%step read -o y\n{read}")
    author.run()
    (tmp_path / "log.txt").write_text("other\n")
    assert author.run() == set()
    (tmp_path / "all.txt").write_text("2")
    assert author.run() == {"read"}
    assert author.value("y") == "21"
    assert author.run() == {"read"}, "what it adds to is not what it was"


def test_a_local_module_that_only_runs_show_counts(tmp_path):
    """What no reading of the code can find: the module's name is made at run time."""
    (tmp_path / "plugin_a.py").write_text("VALUE = 1\n")
    author = Author(tmp_path, "%%step s -o x\nimport importlib\nx = importlib.import_module('plugin_' + chr(97)).VALUE")
    author.run()
    assert author.run() == set(), "its compiled form does not count"
    (tmp_path / "plugin_a.py").write_text("VALUE = 22\n")
    assert author.run() == {"s"}
    assert author.value("x") == 22


def test_a_module_that_was_missing_reruns_when_it_can_be_imported(tmp_path):
    code = "try:\n    __import__('not' + '_there_yet')\n    x = True\nexcept ImportError:\n    x = False"
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    assert author.run() == set()
    (tmp_path / "not_there_yet.py").write_text("")
    assert author.run() == {"s"}
    assert author.value("x") is True
    assert author.reasons("s") == {"missing:not_there_yet"}


def test_code_that_a_program_runs_falls_back_to_all_code_around(tmp_path):
    (tmp_path / "main.py").write_text("import part\nprint(part.VALUE)\n")
    (tmp_path / "part.py").write_text("VALUE = 1\n")
    run = f"subprocess.run([{sys.executable!r}, 'main' + '.py'], capture_output=True, text=True, check=True)"
    author = Author(tmp_path, f"%%step s -o x\nimport subprocess\nx = {run}.stdout", "%%step other -o y\ny = 1")
    author.run()
    assert author.run() == set()
    (tmp_path / "part.py").write_text("VALUE = 22\n")
    assert author.run() == {"s"}
    assert author.value("x") == "22\n"
    assert author.reasons("s") == {"sources"}


def test_what_a_step_makes_itself_is_no_input(tmp_path):
    code = (
        "import os, tempfile\nos.makedirs('made/deep', exist_ok=True)\nopen('made/deep/a.txt', 'w').write('1')\n"
        "with tempfile.TemporaryDirectory() as scratch:\n    open(scratch + '/b', 'w').write('2')\n"
        "    x = open('made/deep/a.txt').read() + open(scratch + '/b').read() + str(sorted(os.listdir(scratch)))"
    )
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    assert not [name for name in observed(author, "s") if name.startswith(("read:", "listed:"))]
    assert author.run() == set()


def test_a_cache_that_the_step_keeps_beside_itself_costs_no_second_run(tmp_path):
    code = (
        "from pathlib import Path\ncache = Path('cache.txt')\nif not cache.exists():\n    cache.write_text('5')\n"
        "x = int(cache.read_text())"
    )
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    assert author.run() == set(), "it is as the step left it"
    (tmp_path / "cache.txt").write_text("7")
    assert author.run() == {"s"}
    assert author.value("x") == 7


def test_a_folder_of_results_that_was_there_and_is_listed_with_the_steps_own_file_costs_no_second_run(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "other.txt").write_text("")
    code = "os.makedirs('results', exist_ok=True)\nopen('results/own.txt', 'w').close()\nx = len(os.listdir('results'))"
    author = Author(tmp_path, f"%%step s -o x\nimport os\n{code}")
    author.run()
    assert author.value("x") == 2
    assert author.run() == set()


def test_a_file_that_the_step_reads_and_then_changes_is_never_reused(tmp_path):
    (tmp_path / "count.txt").write_text("1")
    code = "n = int(open('count.txt').read())\nopen('count.txt', 'w').write(str(n + 1))\nx = n"
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    assert "count.txt" in " ".join(author.step("s").notes)
    assert author.run() == {"s"}
    assert author.value("x") == 2


def test_c8_an_undeclared_file_that_others_change_meanwhile_makes_the_result_serve_its_run_only(tmp_path):
    (tmp_path / "extra.txt").write_text("one")
    code = "import pathlib, time\nx = open('extra.txt').read()\npathlib.Path('started').write_text('')\ntime.sleep(1)"
    author = Author(tmp_path, f"%%step s -o x\n{code}")

    def edit() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        (tmp_path / "extra.txt").write_text("two")

    other = threading.Thread(target=edit)
    other.start()
    author.run()
    other.join()
    assert author.statuses()["s"] is Status.SUCCEEDED
    (tmp_path / "extra.txt").write_text("one")
    assert author.run() == {"s"}


def test_declared_inputs_and_the_machinery_of_python_are_not_recorded(tmp_path):
    (tmp_path / "data.csv").write_text("a\n1\n")
    (tmp_path / "helper.py").write_text("def f(frame):\n    return len(frame)\n")
    author = Author(
        tmp_path,
        "import pandas as pd\nfrom helper import f",
        "%%step s -i raw=./data.csv -o n\nn = f(pd.read_csv(raw))",
        "%%step plain -o one\none = 1",
    )
    author.run()
    assert {name.partition(":")[0] for name in observed(author, "s")} <= {"package", "missing"}
    assert "package:pandas" in observed(author, "s")
    assert "package:numpy" in observed(author, "s")
    assert observed(author, "plain") == {}


def test_a_plot_is_reused_whatever_matplotlib_keeps_for_itself(tmp_path, monkeypatch):
    """A fresh home: the first run makes matplotlib's font cache, and the second must not run for it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    author = Author(
        tmp_path / "work",
        "import matplotlib.pyplot as plt",
        "%%step s -o picture\nfigure, axes = plt.subplots()\naxes.plot([1, 2])\npicture = figure",
    )
    author.run()
    assert author.run() == set()


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Make a kernel with an environment of its own that packages can be put into, and get the way to do so."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    (site / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    spec = tmp_path / "jupyter" / "kernels" / "mine"
    spec.mkdir(parents=True)
    argv = [str(home / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "language": "python", "display_name": "mine"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))

    def install(name: str, version: str, *, local: bool = False, value: int = 0) -> None:
        for old in site.glob(f"{name}-*.dist-info"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        # Python itself tells an edit within one second by the file's size only.
        for compiled in (site / "__pycache__").glob(f"{name}.*"):
            compiled.unlink()
        (site / f"{name}.py").write_text(f"VERSION = {version!r}\nVALUE = {value}\n")
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "RECORD").write_text(f"{name}.py,sha256={value},1\n{name}-{version}.dist-info/RECORD,,\n")
        if local:
            (info / "direct_url.json").write_text('{"url": "file:///somewhere", "dir_info": {}}')

    return install


class Elsewhere(Author):
    """An author whose notebook names another kernel."""

    def write(self) -> Path:
        """Write the notebook as it is now."""
        return write_notebook(self.path, self.cells, parameters=self.parameters, kernel="mine")


def test_d2_an_upgrade_reruns_who_imports_the_package_and_nobody_else(tmp_path, environment):
    environment("used", "1.0")
    environment("unrelated", "1.0")
    author = Elsewhere(tmp_path, "import used", "%%step s -o x\nx = used.VERSION", "%%step other -o y\ny = 1")
    assert author.run() == {"s", "other"}
    assert observed(author, "s")["package:used"] == "1.0"
    environment("unrelated", "2.0")
    assert author.run() == set()
    environment("used", "2.0")
    assert author.run() == {"s"}
    assert author.value("x") == "2.0"
    assert author.reasons("s") == {"package:used"}


def test_d2_under_strict_every_installed_package_counts(tmp_path, environment):
    (tmp_path / "nbpipe.toml").write_text('[reuse]\npackages = "strict"\n')
    environment("unrelated", "1.0")
    author = Elsewhere(tmp_path, "%%step s -o x\nx = 1")
    author.run()
    assert author.run() == set()
    environment("unrelated", "2.0")
    assert author.run() == {"s"}
    assert author.reasons("s") == {"packages"}


def test_d2_a_package_installed_from_a_folder_counts_by_its_files(tmp_path, environment):
    environment("used", "1.0", local=True, value=1)
    author = Elsewhere(tmp_path, "import used", "%%step s -o x\nx = used.VALUE")
    author.run()
    assert author.run() == set()
    environment("used", "1.0", local=True, value=2)
    assert author.run() == {"s"}
    assert author.value("x") == 2


def test_d2_what_a_warm_kernel_holds_for_other_steps_does_not_count(tmp_path):
    """All steps' kernels are forked from one process that has imported what any of them needs."""
    author = Author(
        tmp_path,
        "import importlib\nimport pandas as pd\nimport sklearn.linear_model",
        "%%step plain -o a\na = 1",
        "%%step frame -o b\nb = len(pd.DataFrame({'x': [1]}))",
        "%%step learn -o c\nc = str(sklearn.linear_model.Ridge())",
        "%%step late -o d\nd = len(importlib.import_module('pan' + 'das').DataFrame({'x': [1]}))",
        "%%step helped -o e\nfrom helper import count\ne = count()",
    )
    (tmp_path / "helper.py").write_text("def count():\n    import pandas\n    return len(pandas.DataFrame())\n")
    author.run()
    packages = {
        step: {name.partition(":")[2] for name in observed(author, step) if name.startswith("package:")}
        for step in ("plain", "frame", "learn", "late", "helped")
    }
    assert packages["plain"] == set()
    for step in ("frame", "late", "helped"):
        assert {"pandas", "numpy"} <= packages[step], step
        assert "scikit-learn" not in packages[step], step
    assert {"scikit-learn", "numpy", "scipy"} <= packages["learn"]
    assert "pandas" not in packages["learn"] or "pandas" in packages["learn"] & packages["frame"]


def test_a12_what_installs_a_package_serves_its_run_only_and_is_linted(tmp_path, environment):
    author = Elsewhere(tmp_path, "%%step s -o x\n!pip install --quiet --help > /dev/null\nx = 1")
    author.run()
    assert author.statuses()["s"] is Status.SUCCEEDED
    assert "installed packages" in " ".join(author.step("s").notes)
    assert author.run() == {"s"}
    with Workspace.open(tmp_path) as workspace:
        warnings = check_notebook(workspace, request_for(author.write())).warnings
    assert [warned.code for warned in warnings] == ["installs"]


def test_e4_lint_names_undeclared_reads_and_writes_with_their_cure(tmp_path):
    (tmp_path / "extra.csv").write_text("1")
    author = Author(tmp_path, "%%step s -o x\nx = open('extra.csv').read()\nopen('side.txt', 'w').write(x)")
    author.run()
    with Workspace.open(tmp_path) as workspace:
        warnings = check_notebook(workspace, request_for(author.write())).warnings
    assert {warned.code for warned in warnings} == {"undeclared-read", "undeclared-write"}
    hints = " ".join(warned.hint for warned in warnings)
    assert "-i extra=./extra.csv" in hints
    assert "-o side:file.txt" in hints
    assert all(warned.place.cell == 1 for warned in warnings)


def test_b12_a_file_behind_a_parameter_is_linted_and_its_change_reruns(tmp_path):
    (tmp_path / "data.txt").write_text("1")
    author = Author(tmp_path, "where = 'data.txt'", "%%step s -o x\nx = open(where).read()", parameters=0)
    author.run()
    with Workspace.open(tmp_path) as workspace:
        warnings = check_notebook(workspace, request_for(author.write())).warnings
    assert [warned.code for warned in warnings] == ["file-behind-parameter"]
    assert "param:where" in warnings[0].hint
    (tmp_path / "data.txt").write_text("2")
    assert author.run() == {"s"}
    assert author.value("x") == "2"


def test_b9_a_value_that_changes_every_run_is_linted(tmp_path):
    author = Author(tmp_path, "build = 0\nsteady = 1", "%%step s -o x\nx = [build, steady]", parameters=0)
    for number in range(3):
        assert author.run(texts={"build": str(number)}) == {"s"}
    with Workspace.open(tmp_path) as workspace:
        warnings = check_notebook(workspace, request_for(author.write())).warnings
    assert [warned.code for warned in warnings] == ["changes-every-run"]
    assert "`build`" in warnings[0].message


def test_a_step_that_changes_folder_is_recorded_by_whole_paths(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("1")
    author = Author(tmp_path, "%%step s -o x\nimport os\nos.chdir('sub')\nx = open('a.txt').read()")
    author.run()
    assert f"read:{tmp_path / 'sub' / 'a.txt'}" in observed(author, "s")
    (tmp_path / "sub" / "a.txt").write_text("2")
    assert author.run() == {"s"}


def test_a_file_that_one_step_writes_and_another_reads_behind_its_back_counts(tmp_path):
    author = Author(
        tmp_path,
        "%%step a -o x\nx = 1\nopen('between.txt', 'w').write('one')",
        "%%step b --after a -o y\ny = open('between.txt').read()",
    )
    author.run()
    assert author.run() == set()
    author.cells[0] = author.cells[0].replace("'one'", "'two'")
    assert author.run() == {"a", "b"}
    assert author.value("y") == "two"


def test_os_stat_still_is_what_programs_expect(tmp_path):
    code = (
        "import os, shutil\nos.mkdir('d')\nopen('d/f', 'w').write('1')\n"
        "x = [os.stat('d/f').st_size, os.stat in os.supports_follow_symlinks, os.stat in os.supports_dir_fd]\n"
        "d = os.open('d', os.O_RDONLY)\nx.append(os.stat('f', dir_fd=d).st_size)\nx.append(os.stat(d).st_size > 0)\n"
        "os.close(d)\nshutil.copytree('d', 'e')\nshutil.rmtree('d')\nshutil.rmtree('e')\nx.append(os.path.exists('d'))"
    )
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    assert author.value("x") == [1, True, True, 1, True, False]
