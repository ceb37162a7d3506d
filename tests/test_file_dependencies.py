"""A file that one step writes and another reads is declared in both, or refused; never are its old bytes used."""

from __future__ import annotations

import pytest
from notebook_author import Author, write_notebook
from sample_cells import read

from nbpipe.authoring.notebook_linting import quick_fixed_cells
from nbpipe.errors import FileBetweenSteps, Refused
from nbpipe.model import ExecutionRecord, PipelineWarning, Status
from nbpipe.planning.graph import build_graph
from nbpipe.run.file_conflicts import FileConflicts

CLEAN = "%%step clean -i raw=./raw.csv -o n\ntext = raw.read_text()\nopen('clean.csv', 'w').write(text)\nn = len(text)"
TRAIN = "%%step train -o k\nk = open('clean.csv').read()"
# A path that does not stand in the text.
HIDDEN = "open(''.join(['cle', 'an.csv'])"


def joined(*sources: str) -> tuple[list[Refused], list[PipelineWarning]]:
    """Get what is wrong with the files between the steps of a notebook, and what is advised."""
    reading = read(*sources)
    values = {parameter.name: parameter.default for parameter in reading.parameters}
    graph, errors = build_graph(reading, values, None)
    assert all(isinstance(error, FileBetweenSteps) for error in errors), errors
    return errors, [warned for warned in graph.pipeline.warnings if warned.code == "file-between-steps"]


def test_an_undeclared_file_between_two_steps_is_refused_with_both_declarations():
    [error], _ = joined(CLEAN, TRAIN)
    assert str(error) == (
        "cell 2 (step train), line 2, column 10: `clean` writes `clean.csv`, which `train` reads, and no declaration "
        "says that it waits for that\n"
        "  Declare `-o clean:file.csv` in `clean` and write to the path in `clean`; declare `-i clean` in `train` and "
        "read the path in it."
    )


@pytest.mark.parametrize("source", ["./clean.csv", "./*.csv", "./sub/../clean.csv"])
def test_an_input_that_another_step_writes_is_refused(source: str):
    [error], _ = joined(CLEAN.replace("./raw.csv", "./raw.txt"), f"%%step train -i clean={source} -o k\nk = clean")
    assert "`clean` writes `clean.csv`, which `train` reads as it was before the run" in str(error)


def test_an_order_without_the_file_is_a_warning_and_so_is_a_reader_above():
    errors, [warned] = joined(CLEAN, "%%step train -i n -o k\nk = n, open('clean.csv').read()")
    assert errors == []
    assert "when `clean` is reused, the file is used as it is" in warned.message
    errors, [warned] = joined(TRAIN, CLEAN)
    assert errors == []
    assert "Add `#| after: train` to `clean`" in warned.hint
    assert joined(TRAIN, CLEAN.replace("-o n", "-o n --after train")) == ([], [])


def test_a_declared_file_is_fine():
    clean = "%%step clean -i raw=./raw.csv -o clean:file.csv\nclean.write_text(raw.read_text())"
    assert joined(clean, "%%step train -i clean -o k\nk = clean.read_text()") == ([], [])
    assert joined(CLEAN, "%%step other -o z\nz = open('other.csv').read()") == ([], [])
    own = "open('t.txt', 'w').write('x')\n{0} = open('t.txt').read()"
    assert joined(f"%%step a -o x\n{own.format('x')}", f"%%step b -o y\n{own.format('y')}") == ([], [])


WRITES = (
    "df.to_csv('f.csv')", "df.to_csv(path_or_buf='./f.csv', index=False)", "np.save('f.csv', df)",
    "joblib.dump(df, 'f.csv')",
    "torch.save(df, 'f.csv')", "plt.savefig('f.csv')", "open('f.csv', mode='w')", "Path('f.csv').write_text('')",
    "Path('f.csv').open('w')", "(Path('.') / 'f.csv').touch()", "open(os.path.join('.', 'f.csv'), 'a')", "save(df)",
    "p = 'f.csv'\ndf.write_parquet(p)", "open(NAME, 'w')", "open(f'{STEM}.csv', 'wb')", "shutil.copy('other', 'f.csv')",
    "os.replace('other.tmp', 'f.csv')", "open(given, 'w')", "pd.ExcelWriter('f.csv')", "sqlite3.connect('f.csv')",
    "!echo 1 > f.csv", "!wget -q -O f.csv http://x/y", "subprocess.run('sort a >> f.csv', shell=True)",
    "!cp a.csv f.csv",
    "get_ipython().run_cell_magic('bash', '', 'touch f.csv')",
)  # fmt: skip
READS = (
    "pd.read_csv('f.csv')", "pd.read_csv(filepath_or_buffer='f.csv')", "np.load('f.csv')", "open('f.csv')",
    "open(NAME, 'rb')",
    "Path('f.csv').read_text()", "(Path('.') / 'f.csv').open()", "joblib.load('f.csv')", "Image.open('f.csv')",
    "plt.imread('./f.csv')", "pl.scan_csv('f.csv')", "open(given)", "shutil.move('f.csv', 'g.csv')", "fetch()",
    "os.path.exists('f.csv')", "Path('f.csv').is_file()", "open('f.csv', 'a')", "os.popen('cat f.csv')",
)  # fmt: skip
SHARED = (
    "import os, shutil, sqlite3, subprocess\nimport numpy as np\nimport pandas as pd\nimport joblib, torch\n"
    "import polars as pl\n"
    "from pathlib import Path\nfrom PIL import Image\nimport matplotlib.pyplot as plt\nNAME = 'f.csv'\nSTEM = 'f'\n"
    "def save(df): df.to_csv(NAME)\ndef fetch(): return pd.read_csv('f.csv')"
)
GIVEN = "#| parameters\ngiven = 'f.csv'"


@pytest.mark.parametrize("write", WRITES)
def test_every_way_to_write_a_file_counts(write: str):
    errors, _ = joined(GIVEN, SHARED, f"%%step a -o df\ndf = 1\n{write}", "%%step b -o k\nk = pd.read_csv('f.csv')")
    assert len(errors) == 1


@pytest.mark.parametrize("reading", READS)
def test_every_way_to_read_a_file_counts(reading: str):
    write = "%%step a -o df\ndf = 1\nopen('f.csv', 'w')"
    errors, _ = joined(GIVEN, SHARED, write, f"%%step b -o k\nk = {reading}")
    assert len(errors) == 1


def test_numpy_adds_a_suffix_to_a_name_without_one():
    write = "%%step a -o x\nx = 1\nnp.save('f', x)"
    assert len(joined("import numpy as np", write, "%%step b -o k\nk = np.load('f.npy')")[0]) == 1


@pytest.mark.parametrize(
    "write", ["open('f.csv', 'w')", "!echo 1 > f.csv", "%%writefile f.csv\n1", "pd.DataFrame().to_csv('f.csv')"]
)
def test_a_file_that_an_ordinary_cell_writes_for_a_step_is_told(write: str):
    for reader in ("%%step b -o k\nk = open('f.csv').read()", "%%step b -i f=./f.csv -o k\nk = f.read_text()"):
        told = [each.message for each in read("import pandas as pd", write, reader).warnings]
        assert told == ["cell 2 writes `f.csv`, which `b` reads: no step writes it anew"]
        assert read("import pandas as pd", reader, write).warnings == ()
        assert read("import pandas as pd", f"#| shared\n{write}", reader).warnings == ()


def test_a_module_that_an_ordinary_cell_writes_for_a_step_is_told():
    write = "%%writefile tools.py\ndef twice(x):\n    return 2 * x"
    for cells in (["%%step b -o k\nimport tools\nk = tools.twice(1)"],
                  ["from tools import twice", "%%step b -o k\nk = twice(1)"]):  # fmt: skip
        (warned,) = read(write, *cells).warnings
        assert warned.message == "cell 1 writes `tools.py`, which `b` reads: no step writes it anew"
        assert warned.hint.startswith("Execute that cell before the pipeline runs")


def test_what_is_no_file_is_no_finding():
    talk = "%%step a -o x\nx = 1\nx.to_csv(sep=';.')\nprint('f.csv')\nx.save('http://x/f.csv')\nx.to_csv()"
    assert joined(talk, "%%step b -o k\nk = open('f.csv')") == ([], [])


def test_code_that_is_nested_deeply_or_odd_is_read_all_the_same():
    long = " + ".join(["'a'"] * 700)
    chained = "x" + ".a(1)" * 150
    reading = read(f"p = {long}\n", f"%%step a -o x\nx = 1\nq = {long}\nopen(q, 'w')\n{chained}", "open(*[], **{})")
    assert [error for error in reading.errors if "too deep" not in str(error)] == []


# One action writes both declarations


@pytest.mark.parametrize(
    "cells, fixed",
    [
        (
            [CLEAN, TRAIN],
            [CLEAN.replace("-o n", "-o n, clean:file.csv").replace("'clean.csv'", "clean"),
             "%%step train -i clean -o k\nk = open(clean).read()"],
        ),
        (
            [CLEAN, "%%step train -i clean=./clean.csv -o k\nk = clean.read_text()"],
            [CLEAN.replace("-o n", "-o n, clean:file.csv").replace("'clean.csv'", "clean"),
             "%%step train -i clean -o k\nk = clean.read_text()"],
        ),
        (
            ["%%step clean -o n\nclean = n = 'x'\nopen('clean.csv', 'w').write(clean)", TRAIN],
            ["%%step clean -o n, clean_csv:file.csv\nclean = n = 'x'\nopen(clean_csv, 'w').write(clean)",
             "%%step train -i clean_csv -o k\nk = open(clean_csv).read()"],
        ),
        (
            ["#| step: a\n#| out: n\nn = 'é'; open('out/é.txt', 'w')", "#| step: b\nopen('out/é.txt')"],
            ["#| step: a\n#| out: n, é:file.txt\nn = 'é'; open(é, 'w')", "#| step: b -i é\nopen(é)"],
        ),
    ],
)  # fmt: skip
def test_lint_fix_writes_both_declarations_and_uses_them(tmp_path, cells: list[str], fixed: list[str]):
    path = write_notebook(tmp_path / "n.ipynb", cells)
    assert quick_fixed_cells(path) == dict(enumerate(fixed, 1))


def test_what_does_not_stand_in_the_text_is_not_fixed(tmp_path):
    cells = ["p = 'clean.csv'", CLEAN.replace("'clean.csv'", "p"), TRAIN]
    assert quick_fixed_cells(write_notebook(tmp_path / "n.ipynb", cells)) == {}


# What earlier runs and this run have seen


def execution(step: str, position: int, *, started: float = 0.0, needs: tuple[str, ...] = ()) -> ExecutionRecord:
    return ExecutionRecord(step, "r", step, position, Status.SUCCEEDED, started=started, needs=needs)


def test_a_result_from_bytes_that_the_run_rewrites_does_not_stand():
    files, clean, train = FileConflicts(), execution("clean", 0), execution("train", 1, started=5.0)
    files.add(clean, (), ("clean.csv",), 10.0)
    found = files.find(train, {}, {"clean.csv"}, (), ())
    assert found is not None
    assert found.again, "the next attempt reads what was written"
    changed = files.find(train, {}, set(), (), ("`clean.csv` changed while the step ran",))
    assert changed is not None
    assert changed.again
    assert files.find(execution("train", 1, started=11.0), {}, {"clean.csv"}, (), ()) is None
    assert files.find(train, {"train": ("clean",)}, {"clean.csv"}, (), ()) is None
    assert files.find(train, {}, {"other.csv"}, (), ()) is None
    above = files.find(execution("first", -1, started=11.0), {}, {"clean.csv"}, (), ())
    assert above is not None
    assert not above.again


def test_a_step_that_writes_what_a_step_below_has_read_fails():
    files, clean, train = FileConflicts(), execution("clean", 0), execution("train", 1)
    files.add(train, ("clean.csv",), (), 3.0)
    found = files.find(clean, {}, set(), ("clean.csv",), ())
    assert found is not None
    assert not found.again
    assert "`clean` writes `clean.csv`, which `train` reads" in found.failure.message
    assert found.outdated == {"train": "its result is from `clean.csv` as it was before `clean` wrote it"}
    assert files.find(execution("late", 2), {}, set(), ("clean.csv",), ()) is None


@pytest.mark.kernel
@pytest.mark.slow
def test_a_recorded_file_is_refused_until_it_is_declared(tmp_path):
    (tmp_path / "raw.csv").write_text("one")
    clean = CLEAN.replace("open('clean.csv'", HIDDEN)
    train = TRAIN.replace("open('clean.csv'", f"import time\ntime.sleep(1)\nk = {HIDDEN}")
    author = Author(tmp_path, clean, train.replace("k = import", "import"))
    author.run()
    assert author.statuses() == {"clean": Status.SUCCEEDED, "train": Status.SUCCEEDED}
    plan = author.plan()
    assert [error.message[:47] for error in plan.errors] == ["`clean` writes `clean.csv`, which `train` reads"]
    assert list(plan.refused) == ["train"]
    with pytest.raises(FileBetweenSteps, match=r"`clean` writes `clean\.csv`, which `train` reads"):
        author.run()

    author.cells[1] = author.cells[1].replace("%%step train", "%%step train -i n")
    (tmp_path / "raw.csv").write_text("two")
    author.run()
    assert author.value("k") == "two"


@pytest.mark.kernel
@pytest.mark.slow
def test_an_old_result_is_not_reused_in_the_run_that_rewrites_its_file(tmp_path):
    (tmp_path / "raw.csv").write_text("one")
    (tmp_path / "clean.csv").write_text("old")
    author = Author(tmp_path, "%%step clean -o n\nn = 1", TRAIN)
    author.run()
    author.cells[0] = CLEAN.replace("open('clean.csv'", HIDDEN)
    author.run()
    assert author.statuses() == {"clean": Status.FAILED, "train": Status.REUSED}
    assert author.report is not None
    assert author.report.run.status is Status.FAILED
    failure = author.step("clean").failure
    assert failure is not None
    assert "`clean` writes `clean.csv`, which `train` reads" in failure.message
    assert author.step("train").notes == ("its result is from `clean.csv` as it was before `clean` wrote it",)
    assert author.step("train").artifacts
