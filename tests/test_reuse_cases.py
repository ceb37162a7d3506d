"""When a result may be reused: each test is named after its row in the table of reuse cases."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import pytest
from notebook_author import Author, write_notebook
from stored import path_in

from nbpipe.errors import NbpipeError
from nbpipe.model import ReusePolicy, ReuseVerdict, RunVerdict, Status
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

MAKE = "%%step make -o a\na = 3"
TAKE = "%%step take -i a -o b\nb = a + 1"


@pytest.fixture
def author(tmp_path):
    return Author(tmp_path, MAKE, TAKE)


def test_nothing_changed_nothing_runs(author):
    assert author.run() == {"make", "take"}
    assert author.run() == set()
    assert set(author.statuses().values()) == {Status.REUSED}
    assert author.value("b") == 4
    assert author.step("take").saved_seconds > 0


def test_a1_body_of_a_local_module_edited(tmp_path):
    author = Author(tmp_path, "import helper", "%%step use -o x\nx = helper.f()", "%%step not_using -o y\ny = 1")
    (tmp_path / "helper.py").write_text("def f():\n    return 1\n")
    assert author.run() == {"use", "not_using"}
    (tmp_path / "helper.py").write_text("def f():\n    return 2\n")
    assert author.run() == {"use"}
    assert author.value("x") == 2
    assert author.reasons("use") == {"module:helper"}


def test_a2_module_imported_by_a_module_edited(tmp_path):
    author = Author(tmp_path, "from top import f", "%%step use -o x\nx = f()")
    (tmp_path / "top.py").write_text("from pack.deep import g\ndef f():\n    return g()\n")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "deep.py").write_text("def g():\n    return 1\n")
    author.run()
    (tmp_path / "pack" / "deep.py").write_text("def g():\n    return 5\n")
    assert author.run() == {"use"}
    assert author.value("x") == 5


def test_a3_helper_in_a_cell_edited_reruns_its_users_only(tmp_path):
    author = Author(
        tmp_path,
        "def f():\n    return 1\ndef g():\n    return f() + 1\ndef other():\n    return 0",
        "%%step direct -o x\nx = f()",
        "%%step through -o y\ny = g()",
        "%%step apart -o z\nz = other()",
    )
    author.run()
    author.cells[0] = author.cells[0].replace("return 1", "return 10")
    assert author.run() == {"direct", "through"}
    assert author.value("y") == 11
    assert author.reasons("through") == {"definition:f"}


def test_a4_unused_function_of_an_imported_file_edited_reruns(tmp_path):
    author = Author(tmp_path, "import helper", "%%step use -o x\nx = helper.f()")
    (tmp_path / "helper.py").write_text("def f():\n    return 1\n")
    author.run()
    (tmp_path / "helper.py").write_text("def f():\n    return 1\ndef unused():\n    return 2\n")
    assert author.run() == {"use"}


def test_a6_same_text_with_another_global_has_another_key(tmp_path):
    one = Author(tmp_path, "SCALE = 1", "%%step s -o x\nx = SCALE")
    one.run()
    one.cells[0] = "SCALE = 2"
    assert one.run() == {"s"}
    assert one.value("x") == 2


def test_a7_comments_blank_lines_and_lines_above_do_not_count(author):
    author.run()
    author.cells = [
        "%%step make -o a\n\n# a comment\na = 3  # why",
        "x_unrelated = 5",
        "\n%%step take   -i   a   -o b\nb = (a +\n     1)",
    ]
    assert author.run() == set()


def test_a8_changed_print_text_reruns(author):
    author.cells[0] = "%%step make -o a\nprint('one')\na = 3"
    author.run()
    author.cells[0] = "%%step make -o a\nprint('two')\na = 3"
    assert author.run() == {"make"}, "the same bytes: what takes them is not run again"


def test_a10_a_magic_added_reruns(author):
    author.run()
    author.cells[0] = "%%step make -o a\n%precision 3\na = 3"
    assert author.run() == {"make"}


def test_a16_ids_outputs_metadata_and_place_do_not_count(author):
    author.run()
    author.cells = ["# text", TAKE, "1 + 1", MAKE]
    assert author.run() == set()


def test_a17_moved_across_the_definition_it_uses(tmp_path):
    author = Author(tmp_path, "def f():\n    return 1", "%%step s -o x\nx = f()")
    author.run()
    author.cells.reverse()
    assert author.run() == set()


def test_a19_swapped_outputs_rerun_with_their_readers(tmp_path):
    author = Author(tmp_path, "%%step s -o x,y\nx, y = 1, 2", "%%step t -i x -o z\nz = x")
    author.run()
    author.cells[0] = "%%step s -o y,x\ny, x = 1, 2"
    assert author.run() == {"s", "t"}
    assert author.value("z") == 2


def test_a20_timeout_and_retries_do_not_count(author):
    author.run()
    author.cells[0] = "%%step make -o a --timeout 10m --retries 2\na = 3"
    assert author.run() == set()


def test_a21_another_format_reruns(tmp_path):
    author = Author(tmp_path, "import pandas as pd", "%%step s -o t\nt = pd.DataFrame({'x': [1]})")
    author.run()
    author.cells[1] = author.cells[1].replace("-o t", "-o t:parquet")
    assert author.run() == {"s"}
    assert author.step("s").artifacts[0].format == "parquet"


@pytest.mark.parametrize(
    "option, variables",
    [(("-O",), {}), (("-W", "error::UserWarning"), {}), ((), {"PYTHONOPTIMIZE": "1"}), ((), {"LEVEL": "2"})],
)
def test_a24_the_kernels_options_and_variables_count(tmp_path, monkeypatch, option, variables):
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    spec = tmp_path / "jupyter" / "kernels" / "mine" / "kernel.json"
    spec.parent.mkdir(parents=True)

    def install(option: tuple[str, ...], variables: dict[str, str]) -> None:
        argv = [sys.executable, *option, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "language": "python", "display_name": "mine", "env": variables}))

    author = Author(
        tmp_path, "%%step s -o x\nimport os, sys\nx = [__debug__, sys.warnoptions, os.environ.get('LEVEL')]"
    )
    author.run()
    author.kernel = "mine"
    install(("-Xfrozen_modules=off",), {})
    assert author.run() == set(), "a plain kernel is this interpreter, whatever its name"
    plain = author.value("x")
    install(option, variables)
    assert author.run() == {"s"}
    assert author.reasons("s") == ({"kernel"} if option else {f"envvar:{name}" for name in variables})
    assert author.value("x") != plain
    assert author.run() == set()
    install((), {})
    assert author.run() == set(), "the plain kernel's result is still there"
    assert author.value("x") == plain


def test_a23_the_same_step_in_another_notebook_is_reused_and_says_from_where(author, tmp_path):
    author.run()
    assert author.report is not None
    first = author.report.run.id
    other = Author(tmp_path, MAKE.replace("make", "produce"), "%%step end -i a -o z\nz = a")
    other.path = tmp_path / "other.ipynb"
    assert other.run() == {"end"}
    assert other.step("produce").origin is not None
    assert (other.step("produce").origin.run, other.step("produce").origin.step) == (first, "make")


@pytest.mark.parametrize("was, now", [("1", "1.0"), ("1", "True"), ("1.0", "True"), ("0.0", "-0.0"), ("''", "'0'")])
def test_b1_values_that_python_calls_equal_are_not(tmp_path, was, now):
    author = Author(tmp_path, f"p = {was}", "%%step s -o t\nt = [type(p).__name__, str(p)]", parameters=0)
    author.run()
    before = author.value("t")
    author.cells[0] = f"p = {now}"
    assert author.run() == {"s"}
    assert author.value("t") != before


def test_b2_dict_order_does_not_count_list_order_does(tmp_path):
    author = Author(
        tmp_path, "p = {'a': 1, 'b': {'c': 2, 'd': 3}, 'l': [1, 2]}", "%%step s -o t\nt = p['l']", parameters=0
    )
    author.run()
    author.cells[0] = "p = {'l': [1, 2], 'b': {'d': 3, 'c': 2}, 'a': 1}"
    assert author.run() == set()
    author.cells[0] = "p = {'l': [2, 1], 'b': {'d': 3, 'c': 2}, 'a': 1}"
    assert author.run() == {"s"}


@pytest.mark.parametrize("literal", ["(1, 2)", "b'x'", "{1: 2}", "{1, 2}", "'\\ud800'", "[{'k': (1,)}]"])
def test_b3_b6_b8_what_cannot_be_delivered_exactly_is_refused(tmp_path, literal):
    author = Author(tmp_path, f"p = {literal}", "%%step s -o t\nt = p", parameters=0)
    with pytest.raises(NbpipeError, match="`p") as caught:
        author.run()
    assert caught.value.exit_code == 2


def test_b10_a_parameter_reruns_only_who_reads_it(tmp_path):
    author = Author(
        tmp_path, "rate = 1\nother = 1", "%%step a -o x\nx = 1", "%%step b -i x -o y\ny = x * rate",
        "%%step c -i y -o z\nz = y > 0", parameters=0,
    )  # fmt: skip
    author.run()
    assert author.run(texts={"rate": "2"}) == {"b", "c"}
    assert author.reasons("b") == {"parameter:rate"}
    assert author.run(texts={"rate": "1"}) == set(), "an older result is as good as the newest"


def test_c1_touched_and_listed_otherwise_is_the_same(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("x\n1\n")
    author = Author(tmp_path, "%%step s -i raw=./data.csv -o n\nn = len(raw.read_text())")
    author.run()
    os.utime(data, (1, 1))
    data.chmod(0o600)
    assert author.run() == set()


def test_c2_same_size_and_time_but_other_bytes(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("1")
    os.utime(data, (1_000_000, 1_000_000))
    author = Author(tmp_path, "%%step s -i raw=./data.csv -o n\nn = raw.read_text()")
    author.run()
    data.write_text("2")
    os.utime(data, (1_000_000, 1_000_000))
    assert author.run() == {"s"}
    assert author.value("n") == "2"


def test_c5_a_file_added_removed_or_renamed_in_a_folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("1")
    author = Author(tmp_path, "%%step s -i data=./data/ -o n\nn = sorted(p.name for p in data.iterdir())")
    author.run()
    (folder / "b.txt").write_text("2")
    assert author.run() == {"s"}
    (folder / "b.txt").rename(folder / "c.txt")
    assert author.run() == {"s"}
    assert author.value("n") == ["a.txt", "c.txt"]
    (folder / "c.txt").unlink()
    assert author.run() == set(), "as it was at first"


def test_c8_a_result_whose_input_others_changed_meanwhile_serves_its_run_only(tmp_path):
    data, started = tmp_path / "data.txt", tmp_path / "started"
    data.write_text("one")
    author = Author(
        tmp_path,
        "%%step s -i raw=./data.txt -o n\nimport pathlib, time\nn = raw.read_text()\n"
        "pathlib.Path('started').write_text('')\ntime.sleep(1.5)",
        "%%step t -i n -o m\nm = n",
    )

    def edit() -> None:
        while not started.exists():
            time.sleep(0.02)
        data.write_text("two")

    other = threading.Thread(target=edit)
    other.start()
    assert author.run() == {"s", "t"}
    other.join()
    assert author.statuses()["s"] is Status.SUCCEEDED
    assert author.value("m") == "one"
    data.write_text("one")
    assert "s" in author.run(), "nobody knows which bytes the first result was made from"


def test_an_input_that_the_step_itself_changes_fails_it(tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("one")
    author = Author(
        tmp_path,
        "%%step written -i raw=./data.txt -o n\nraw.write_text('two')\nn = 1",
        "%%step through_a_child -i raw=./data.txt -o m\nimport subprocess\n"
        "subprocess.run(['sh', '-c', f'echo two > {raw}'])\nm = 1",
    )
    author.run(run_options=RunOptions(keep_going=True))
    assert set(author.statuses().values()) == {Status.FAILED}
    assert all("`raw`" in (author.step(name).failure.message) for name in author.statuses())


def test_c14_a_deleted_output_makes_its_producer_run(author):
    author.run()
    author.value("a")
    artifact = author.step("make").artifacts[0]
    path = path_in(author.folder, artifact)
    path.chmod(0o600)
    path.unlink()
    assert author.run() == {"make"}
    assert author.reasons("make") == {"artifact:a"}
    assert author.run() == set()


@pytest.mark.parametrize("damage", [b"4", b"", b"33"])
def test_c15_a_damaged_output_is_never_taken(author, damage):
    author.run()
    path = path_in(author.folder, author.step("make").artifacts[0])
    path.chmod(0o600)
    path.write_bytes(damage)
    assert author.run() == {"make"}
    assert author.value("a") == 3
    assert author.run() == set()


def test_c17_forced_with_the_same_bytes_stops_there(author):
    author.run()
    assert author.run(force=("make",)) == {"make"}
    assert author.statuses()["take"] is Status.REUSED


def test_c18_forced_with_other_bytes_goes_on(tmp_path):
    author = Author(tmp_path, "%%step make -o a\nimport time\na = time.time_ns()", TAKE)
    author.run()
    assert author.run(force=("make",)) == {"make", "take"}


def test_e5_a_name_of_the_kernel_is_no_input(tmp_path):
    author = Author(tmp_path, "data = open('work.ipynb')", "%%step s -o x\nx = data")
    with pytest.raises(NbpipeError, match="`data`"):
        author.run()


def test_e8_always_run_is_followed_by_content_only(author):
    author.cells[0] = "%%step make -o a --reuse never\na = 3"
    author.run()
    assert author.run() == {"make"}
    assert author.reasons("make") == {"policy"}


def test_e9_without_outputs_runs_without_inputs_does_not(tmp_path):
    author = Author(tmp_path, "%%step quiet -o x\nx = 1", "%%step loud -i x\nprint(x)")
    author.run()
    assert author.run() == {"loud"}
    author.cells[1] = "%%step loud -i x --reuse keep\nprint(x)"
    assert author.run() == set()


def test_e12_plan_and_run_agree(tmp_path):
    cells = ("p = 1", "%%step a -o x\nx = p", "%%step b -i x -o y\ny = x > 0", "%%step c -i y -o z\nz = y")
    author = Author(tmp_path, *cells, parameters=0)
    assert {type(d.verdict) for d in author.plan().decisions.values()} == {RunVerdict}
    author.run()
    assert all(isinstance(d.verdict, ReuseVerdict) for d in author.plan().decisions.values())
    words = {name: type(d.verdict).__name__ for name, d in author.plan(texts={"p": "2"}).decisions.items()}
    assert words == {"a": "RunVerdict", "b": "DependsVerdict", "c": "DependsVerdict"}
    assert author.run(texts={"p": "2"}) == {"a", "b"}, "c depends on what b made, which is the same"


def test_e15_what_cannot_be_stored_fails_aloud(tmp_path):
    # Where the code shows what it is, it is refused before the work.
    author = Author(tmp_path, "%%step s -o x --retries 1\nx = __import__('threading').__dict__['Lock']()")
    author.run()
    assert author.statuses() == {"s": Status.FAILED}
    assert author.step("s").attempts == 2
    assert author.step("s").failure is not None
    assert "`x`" in author.step("s").failure.message


def test_reuse_keep_takes_the_newest_result_whatever_changed(author):
    author.run()
    author.cells[1] = "%%step take -i a -o b --reuse keep\nb = a + 100"
    assert author.run() == set()
    assert author.value("b") == 4
    assert ReusePolicy.KEEP in {step.options.reuse for step in request_for(author.path).reading.steps}


def test_salt_hash_and_environment_count(tmp_path, monkeypatch):
    (tmp_path / "conf.txt").write_text("1")
    monkeypatch.setenv("NBPIPE_TEST_MODE", "one")
    author = Author(
        tmp_path,
        "%%step s -o x --salt v1 --hash ./conf.txt --envvar NBPIPE_TEST_MODE\n"
        "import os\nx = os.environ['NBPIPE_TEST_MODE']",
    )
    author.run()
    assert author.run() == set()
    author.cells[0] = author.cells[0].replace("v1", "v2")
    assert author.run() == {"s"}
    (tmp_path / "conf.txt").write_text("2")
    assert author.run() == {"s"}
    monkeypatch.setenv("NBPIPE_TEST_MODE", "two")
    assert author.run() == {"s"}
    assert author.value("x") == "two"
    monkeypatch.setenv("NBPIPE_TEST_OTHER", "two")
    assert author.run() == set()


def test_two_workspaces_know_nothing_of_each_other(author, tmp_path):
    author.run()
    path = write_notebook(tmp_path / "work.ipynb", [MAKE, TAKE])
    with Workspace.open(tmp_path, tmp_path / "elsewhere") as workspace:
        verdicts = [d.verdict for d in workspace.plans.plan(request_for(path)).decisions.values()]
    assert all(isinstance(verdict, RunVerdict) for verdict in verdicts)


def test_a_glob_with_a_format_gives_a_list_and_a_folder_with_one_is_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "ba":
        (folder / f"{name}.json").write_text(f'"{name}"')
    author = Author(tmp_path, "%%step s -i all:json=./data/*.json -o names\nnames = all")
    author.run()
    assert author.value("names") == ["a", "b"]
    author.cells[0] = "%%step s -i all:json=./data/ -o names\nnames = all"
    with pytest.raises(NbpipeError, match="`all` is a folder"):
        author.run()


def test_a_class_of_the_notebook_is_the_same_class_in_every_step(tmp_path):
    author = Author(
        tmp_path,
        "from dataclasses import dataclass\nfrom enum import Enum\n@dataclass\nclass Point:\n    x: int\n"
        "class Color(Enum):\n    RED = 1\nclass Wrong(Exception):\n    pass",
        "%%step make -o p,c,e\np, c, e = Point(1), Color.RED, Wrong('no')",
        "%%step read -i p,c,e -o told\n"
        "told = [p == Point(1), isinstance(p, Point), c == Color.RED, isinstance(e, Wrong)]",
        "%%step apart -i p -o x\nx = p.x",
    )
    author.run()
    assert author.value("told") == [True, True, True, True]
    assert author.value("x") == 1, "a step that does not define the class can read the value as well"
    first = author.step("make").artifacts
    assert author.run(force=("make",)) == {"make"}, "equal values are equal bytes"
    assert author.step("make").artifacts == first


DEFINED = """import dataclasses, enum
SEEN = {}
class Model:
    made = 0
    class Part:
        tried = []
    def __init__(self):
        Model.made += 1
        self.part = Model.Part()
    def fit(self, key):
        SEEN[key] = 1
    @staticmethod
    def note(key):
        SEEN[key] = 1
class Small(Model):
    made = 7
@dataclasses.dataclass
class Point:
    x: int
    known = []
class Color(enum.Enum):
    RED = 1
def note(key):
    SEEN[key] = 1
def noting(key):
    return lambda: note(key)
@(lambda real: lambda *given: real(*given))
def wrapped(key):
    SEEN[key] = 1
"""


def test_what_a_step_defines_is_not_replaced_by_what_it_reads(tmp_path):
    author = Author(
        tmp_path,
        DEFINED,
        "%%step make -o m\nm = [Model(), Model(), Model()][0]",
        "%%step use -i m -o told\nm.fit('a')\nModel().fit('b')\ntold = [sorted(SEEN), Model.made]",
    )
    author.run()
    assert author.value("told") == [["a", "b"], 1]


@pytest.mark.parametrize(
    "made, uses, told, right",
    [
        (
            "Small()", "m.fit('a')\nSmall().fit('b')",
            "sorted(SEEN), Small.made, Model.made, type(m) is Small", [["a", "b"], 7, 1, True],
        ),
        (
            "Model()\nModel.Part.tried.append(1)", "p = Model.Part",
            "p.tried, type(m.part) is p, Model.made", [[], True, 0],
        ),
        (
            "[Model.Part(), Model.Part]\nModel.Part.tried.append(1)", "",
            "Model.Part.tried, m[1] is Model.Part", [[], True],
        ),
        ("Point(1)\nPoint.known.append(1)", "", "Point.known, m == Point(1)", [[], True]),
        ("Color.RED\nColor.extra = 1", "", "hasattr(Color, 'extra'), m is Color.RED", [False, True]),
        (
            "{'f': note}\nexec('note' + '(1)')", "m['f']('a')\nnote('b')", "sorted(SEEN), m['f'] is note",
            [["a", "b"], True],
        ),
        ("[Model.fit, Model.note]", "m[1]('a')\nnote('b')", "sorted(SEEN), m[0] is Model.fit", [["a", "b"], True]),
        ("{'f': wrapped}", "m['f']('a')", "sorted(SEEN), m['f'] is wrapped", [["a"], True]),
        ("noting('a')\nexec('note' + '(1)')", "m()", "sorted(SEEN)", [["a"]]),
        ("note", "m('a')", "sorted(SEEN)", [["a"]]),
        ("Model()", "m.fit('a')", "sorted(SEEN)", [["a"]]),
        ("lambda: note('a')", "m()", "sorted(SEEN), note.__name__", [["a"], "note"]),
        ("lambda: SEEN.update(a=1)", "m()", "sorted(SEEN)", [["a"]]),
    ],
)  # fmt: skip
def test_every_kind_of_definition_stays_the_readers_own(tmp_path, made, uses, told, right):
    author = Author(
        tmp_path, DEFINED, f"%%step make -o m\nm = {made}", f"%%step use -i m -o told\n{uses}\ntold = [{told}]"
    )
    author.run()
    assert author.value("told") == right


def test_what_a_reader_passes_on_is_still_its_readers_own(tmp_path):
    author = Author(
        tmp_path,
        DEFINED,
        "%%step make -o m\nm = [note, Model()]",
        "%%step between -i m -o n\nn = {'m': m}",
        "%%step use -i n -o told\nf, g = n['m']\nf('a')\ng.fit('b')\ntold = [sorted(SEEN), f is note, Model.made]",
    )
    author.run()
    assert author.value("told") == [["a", "b"], True, 0]


def test_two_inputs_of_a_class_that_the_reader_does_not_define_share_it(tmp_path):
    author = Author(
        tmp_path,
        DEFINED,
        "%%step one -o m\nm = Model()",
        "%%step two -o n\nn = [Model(), Model()][0]",
        "%%step use -i m,n -o told\ntype(m)()\ntold = [type(m) is type(n), type(n).made]",
    )
    author.run()
    assert author.value("told")[0] is True


@pytest.mark.parametrize("line", ["%run x.py", "said = !python x.py\nV = said[0]"])
def test_a11_a_script_that_a_step_runs_counts(tmp_path, line):
    (tmp_path / "x.py").write_text("V = 1\nprint(V)\n")
    author = Author(tmp_path, f"%%step s -o y\n{line}\ny = str(V)")
    author.run()
    assert author.run() == set()
    (tmp_path / "x.py").write_text("V = 2\nprint(V)\n")
    assert author.run() == {"s"}
    assert author.value("y") == "2"


def test_a_module_imported_by_a_name_in_the_text_counts(tmp_path):
    (tmp_path / "hm.py").write_text("V = 1\n")
    author = Author(tmp_path, "import importlib", "%%step s -o y\ny = importlib.import_module('hm').V")
    author.run()
    (tmp_path / "hm.py").write_text("V = 2\n")
    assert author.run() == {"s"}
    assert author.value("y") == 2
