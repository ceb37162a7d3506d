"""A step in the author's own kernel: debugged with what it was given, or run there with nothing stored."""

from __future__ import annotations

import pytest
from magics_kernel import Kernel

from nbpipe.language.debug_cell import debug_cell
from nbpipe.model import StepCell

FAILING = "%%step bad -i a -o z\n\ndef half(n):\n    kept = [n, 'text']\n    return kept[0] / 0\n\nz = half(a[0])"


def test_a_step_becomes_an_ordinary_cell_whose_lines_keep_their_numbers():
    source = "# %%step s -o x\n#| in: y\nx = (1 +\n     y)\nz = 3"
    cell = debug_cell([StepCell(4, source)], (4, 4), "TypeError: no")

    assert cell == "#| local\n#| in: y\nx = (1 +\n     y)  # ← TypeError: no\nz = 3"


def test_the_failing_line_is_not_marked_where_a_comment_would_change_the_code():
    source = "# %%step s -o x\nx = '''\n text\n'''"

    assert "←" not in debug_cell([StepCell(4, source)], (4, 3), "E")
    assert debug_cell([StepCell(4, source)], (4, 4), "E").endswith("'''  # ← E")


def test_continued_cells_follow_with_their_numbers():
    pieces = [StepCell(2, "#| step: s\nx = 1"), StepCell(5, "# %%step s --append\ny = x")]

    assert debug_cell(pieces).splitlines() == ["#| local", "x = 1", "", "# cell 5: %%step s --append", "y = x"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Kernel(tmp_path_factory.mktemp("lab"))
    lab.run("load", "%load_ext nbpipe")
    lab.run("rate", "#| parameters\nrate = 0.5")
    lab.run("defs", "SCALE = 2\ndef scale(v):\n    return v * SCALE")
    assert lab.run("make", "%%step make -o a\na = [3, 4]")[1] == ""
    yield lab
    lab.close()


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
class TestInAKernel:
    """Cells sent to a real kernel."""

    def test_debug_binds_what_the_step_was_given_and_offers_its_code_with_the_failing_line_marked(self, lab):
        assert "ZeroDivisionError" in lab.run("bad", FAILING)[0]
        lab.run("mine", "a = 'mine'")
        shown, error = lab.run("debug", "%nbpipe debug bad")
        assert error == ""
        assert "which failed: cell" in shown
        assert "replaced here: a" in shown
        code = lab.next_input
        assert code.splitlines()[4] == "    return kept[0] / 0  # ← ZeroDivisionError: division by zero"
        _, error = lab.run("new", code)
        assert "line 7" in error
        assert "line 5" in error
        assert "ZeroDivisionError" in error
        assert lab.run("look", "a")[0] == "[3, 4]"

    def test_a_cell_run_for_debugging_is_no_part_of_the_pipeline(self, lab):
        lab.run("bad", FAILING)
        lab.run("debug", "%nbpipe debug bad")
        lab.run("new", lab.next_input)
        shown, error = lab.run("plan", "%nbpipe plan")
        assert error == ""
        assert "bad" in shown

    def test_locals_of_the_failing_frame_are_bound_under_one_name(self, lab):
        lab.run("bad", FAILING)
        shown, _ = lab.run("debug", "%nbpipe debug bad")
        assert "%nbpipe debug bad --locals" in shown
        shown, error = lab.run("locals", "%nbpipe debug bad --locals")
        assert error == ""
        assert "the variables of half() at line 5" in shown
        assert lab.run("look", "bad_locals.kept, bad_locals.n")[0] == "([3, 'text'], 3)"

    def test_any_recorded_step_can_be_debugged_and_one_that_never_ran_is_answered(self, lab):
        shown, error = lab.run("debug", "%nbpipe debug make")
        assert (error, "step make as in run" in shown) == ("", True)
        assert "has not been executed" in lab.run("debug", "%nbpipe debug nothing")[1]

    def test_here_runs_the_cell_in_this_kernel_and_stores_nothing(self, lab):
        before = lab.run("runs", "%nbpipe runs")[0]
        lab.run("mess", "a = None")
        code = "import os\nprint('pid', os.getpid())\nb = scale(a), rate\nf.write_text('x')"
        shown, error = lab.run("take", f"%%step take -i a -o b,f:file.txt --here\n{code}")
        assert error == ""
        assert f"pid {lab.run('pid', 'import os; os.getpid()')[0]}" in shown
        assert "nothing was stored" in shown
        assert lab.run("look", "b, a")[0] == "(([3, 4, 3, 4], 0.5), [3, 4])"
        assert lab.run("runs", "%nbpipe runs")[0].count("\n") == before.count("\n")
        shown, error = lab.run("here", "%nbpipe run take --here -p rate=0.25")
        assert error == ""
        assert lab.run("look", "b[1]")[0] == "0.25"

    def test_here_fails_with_the_cells_own_lines(self, lab):
        _, error = lab.run("fail", "%%step fail -i a -o q --here\n\n\nq = a[9]")
        assert "line 4" in error
        assert "IndexError" in error
        assert "nothing was stored" in error

    def test_a_cell_that_awaits_is_offered_instead(self, lab):
        code = "import asyncio\nk = await asyncio.sleep(0, a)"
        shown, error = lab.run("wait", f"%%step wait -i a -o k --here\n{code}")
        assert error == ""
        assert "run its code in the new cell" in shown
        assert lab.run("new", lab.next_input)[1] == ""
        assert lab.run("look", "k")[0] == "[3, 4]"

    def test_declared_files_that_have_changed_are_told(self, lab):
        data = lab.folder / "data"
        data.mkdir(exist_ok=True)
        for name in ("p.csv", "q.csv"):
            (data / name).write_text("1")
        source = "%%step files -i every=./data/*.csv, one=./data/p.csv -o n\nn = len(every)\none"
        assert lab.run("files", source)[1] == ""
        assert "has changed" not in lab.run("debug", "%nbpipe debug files")[0]
        (data / "q.csv").write_text("2")
        shown, _ = lab.run("debug", "%nbpipe debug files")
        assert "input `every`" in shown
        assert "input `one`" not in shown

    def test_a_damaged_input_is_never_bound(self, lab):
        assert lab.run("spoil", "%%step spoil -o bytes_\nbytes_ = b'12345'")[1] == ""
        assert lab.run("use", "%%step use -i bytes_ -o n2\nn2 = len(bytes_)")[1] == ""
        (stored,) = (path for path in lab.folder.rglob("bytes_*.bin") if "store" in path.parts)
        stored.chmod(0o600)
        stored.write_bytes(b"54321")
        _, error = lab.run("debug", "%nbpipe debug use")
        assert "is damaged" in error

    def test_here_says_which_results_are_missing(self, lab):
        lab.run("manual", "%nbpipe defaults run=manual")
        lab.run("early", "%%step early -o e\ne = 1")
        _, error = lab.run("late", "%%step late -i e -o l --here\nl = e")
        assert "`e` of `early`" in error
        assert "%nbpipe run early" in error
        lab.run("manual", "%nbpipe defaults run=submit")

    def test_two_runs_are_compared_in_the_kernel(self, lab):
        lab.run("make", "%%step make -o a\na = [3, 4]")
        shown, error = lab.run("compare", "%nbpipe compare 1 2")
        assert error == ""
        assert "run 1" in shown
        assert "run 2" in shown
