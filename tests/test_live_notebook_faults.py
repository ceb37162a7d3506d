"""What goes wrong around the live notebook: no cell waits for ever, no step is lost or made twice."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from front_end_kernel import Kernel, Shown
from notebook_author import write_notebook
from test_live_notebook import attempts, eventually, executions, go, opened, runs, slow

from nbpipe.model import Status

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

COUNTING = """
import collections
from nbpipe.magics import kernel_session
from nbpipe.resolve import resolved_request
COUNTED = collections.Counter()

def count(module, name):
    real = getattr(module, name)
    setattr(module, name, lambda *given: COUNTED.update([name]) or real(*given))

count(kernel_session, "parse_cells")
count(resolved_request, "select_steps")
"""


@pytest.fixture
def kernel(tmp_path) -> Iterator[Kernel]:
    kernel = opened(tmp_path)
    yield kernel
    kernel.close()


def command(process: psutil.Process) -> str:
    """Get a process's command line; nothing of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def runners() -> list[psutil.Process]:
    """Get the processes that carry runs for kernels of this test."""
    return [each for each in psutil.Process().children(recursive=True) if "nbpipe.runner" in command(each)]


def test_cells_that_ran_before_the_extension_was_loaded_count_as_last_run(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["1"])
    kernel = Kernel(tmp_path, JPY_SESSION_NAME="n.ipynb")
    try:
        for text in ("1", "2"):
            kernel.run("const", f"BASE = {text}")
            assert "not found" in kernel.run("make", f"%%step make -o x\nx = BASE * {text}").text
        kernel.run("load", "%load_ext nbpipe")
        kernel.run("make", "%%step make -o x\nx = BASE * 3")
        assert kernel.run("read", "x").text.endswith("6")
        kernel.run("load", "%reload_ext nbpipe")
        assert kernel.run("make", "%%step make -o x\nx = BASE * 5").error == ""
        assert kernel.run("read", "x").text.endswith("10")
    finally:
        kernel.close()


def test_a_card_becomes_a_picture_when_the_extension_is_unloaded_and_its_step_goes_on(kernel, tmp_path):
    shown = kernel.execute("make", slow(tmp_path))
    kernel.execute("unload", "%unload_ext nbpipe")
    kernel.hear(lambda: not shown.is_live)
    go(tmp_path)
    eventually(lambda: runs(tmp_path) == [(Status.SUCCEEDED, {"slow": Status.SUCCEEDED})])


def test_waiting_in_a_cell_that_awaits_can_be_interrupted(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    sent = kernel.send("read", "import asyncio\nawait asyncio.sleep(0)\nslow_out")
    shown = kernel.cells["read"] = Shown()
    kernel.hear(lambda: "waiting for `slow_out`" in shown.text, sent, shown)
    kernel.manager.interrupt_kernel()
    kernel.hear(lambda: bool(shown.error), sent, shown)
    assert "KeyboardInterrupt" in shown.error
    go(tmp_path)
    assert kernel.run("again", "import asyncio\nawait asyncio.sleep(0)\nslow_out").text.endswith("1")


def test_cells_wait_on_after_one_that_is_nested_too_deeply(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    kernel.execute("deep", f"y = {'+'.join(['1'] * 1500)}")
    kernel.send("go", f"open({str(tmp_path / 'go')!r}, 'w').close()")
    assert kernel.run("read", "slow_out").text.endswith("1")


def test_what_is_cancelled_before_it_has_begun_does_not_go_on(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    assert kernel.execute("cancel", "%nbpipe cancel").error == ""
    assert "which is cancelled" in kernel.run("read", "slow_out").error
    assert runs(tmp_path) == [(Status.CANCELLED, {"slow": Status.CANCELLED})]


def test_an_edit_takes_the_place_of_what_was_submitted_and_has_not_begun(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path, value=1))
    time.sleep(0.2)  # so that it is not the same run
    kernel.execute("make", "%%step slow -o slow_out\nslow_out = 2")
    assert kernel.run("read", "slow_out").text.endswith("2")
    eventually(lambda: all(status.terminal for status, _ in runs(tmp_path)))
    assert executions(tmp_path, "slow") == [Status.CANCELLED, Status.SUCCEEDED]


def test_what_is_submitted_just_after_its_runner_was_killed_goes_on(kernel):
    kernel.run("first", "%%step first -o x\nx = 1")
    for value in range(3):
        for runner in runners():
            os.kill(runner.pid, signal.SIGKILL)
        kernel.execute("make", f"%%step make -o y\ny = {value}")
        shown = kernel.run("read", "y")
        assert (shown.error, shown.text[-1:]) == ("", str(value))


def test_a_cell_does_not_join_a_run_that_was_given_other_values(kernel, tmp_path):
    kernel.execute("parameters", "#| parameters\nrate = 1")
    source = slow(tmp_path, value=0).replace("slow_out = 0", "slow_out = rate")
    kernel.execute("manual", "%nbpipe defaults run=manual")
    kernel.execute("make", source)
    kernel.execute("run", "%nbpipe run -p rate=7")
    eventually(lambda: attempts(tmp_path, "slow"))
    kernel.execute("manual", "%nbpipe defaults retries=0")
    kernel.execute("make", source)
    go(tmp_path)
    assert kernel.run("read", "slow_out").text.endswith("1")
    eventually(lambda: [status for status, _ in runs(tmp_path)] == [Status.SUCCEEDED, Status.SUCCEEDED])


def test_an_output_that_cannot_be_loaded_is_told_by_the_cell_that_reads_it(kernel, tmp_path):
    # The step's own process can load it.
    bad = "import os\nclass Bad:\n    def __reduce__(self):\n"
    bad += "        return exec, (f'import os\\nif os.getpid() != {os.getpid()}: raise KeyError(5)',)\n"
    kernel.run("make", f"%%step make -o x,n\n{bad}x, n = Bad(), 1")
    assert kernel.run("fine", "n").text == "1"
    assert "output `x` (cloudpickle) cannot be loaded here: KeyError: 5" in kernel.run("read", "x").error
    assert kernel.run("pull", "%nbpipe pull make.x --to x.pickle").error == ""
    assert (tmp_path / "x.pickle").stat().st_size


def test_a_word_on_a_shell_line_is_not_read_and_an_error_is_a_line(kernel):
    kernel.run("make", "%%step make -o data\nraise ValueError('\\u202e' + 'long ' * 2000)\ndata = 1")
    assert "data" in kernel.run("shell", "!echo data").text
    assert kernel.run("bash", "%%bash\necho data").error == ""
    error = kernel.run("expanded", "!echo {data}").error
    assert "`data` is an output of step make, which failed" in error
    assert "\u202e" not in error
    assert len(error) < 1000


def test_no_cell_waits_for_a_run_whose_workspace_was_deleted(kernel, tmp_path):
    shown = kernel.execute("make", slow(tmp_path))
    eventually(lambda: attempts(tmp_path, "slow"))
    eventually(lambda: not shutil.rmtree(tmp_path / ".nbpipe", ignore_errors=True) and not _workspace(tmp_path))
    assert "the workspace was deleted" in kernel.run("read", "slow_out").error
    kernel.hear(lambda: not shown.is_live)
    go(tmp_path)
    kernel.run("make", slow(tmp_path))
    assert kernel.run("read", "slow_out").text.endswith("1")


def _workspace(folder: Path) -> bool:
    return (folder / ".nbpipe" / "history.db").exists()


def test_files_beside_the_notebook_do_not_stand_in_for_libraries(tmp_path):
    for name in ("secrets", "tomllib", "queue"):
        (tmp_path / f"{name}.py").write_text("KEY = 1\n")
    kernel = opened(tmp_path)
    try:
        kernel.run("make", "%%step make -o x\nx = 1")
        assert kernel.run("read", "x").text.endswith("1")
    finally:
        kernel.close()


def test_a_step_cell_reads_and_selects_the_cells_once(kernel):
    kernel.run("first", "%%step first -o x\nx = 1")
    kernel.execute("count", COUNTING)
    kernel.run("second", "%%step second -i x -o y\ny = x")
    assert kernel.run("counted", "sorted(COUNTED.items())").text == "[('parse_cells', 1), ('select_steps', 1)]"
