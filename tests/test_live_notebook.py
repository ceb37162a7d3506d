"""The live notebook: step cells submit and return, later cells wait for what they read, nothing is lost or repeated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from front_end_kernel import PATIENCE, Kernel
from notebook_author import write_notebook

from nbpipe.history.runs import RunFilter
from nbpipe.model import Status
from nbpipe.workspace import Workspace

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]


def opened(folder: Path) -> Kernel:
    """Get a kernel of a saved notebook with the extension loaded."""
    write_notebook(folder / "n.ipynb", ["1"])
    kernel = Kernel(folder, JPY_SESSION_NAME="n.ipynb")
    assert kernel.run("load", "%load_ext nbpipe").error == ""
    return kernel


@pytest.fixture
def kernel(tmp_path) -> Iterator[Kernel]:
    kernel = opened(tmp_path)
    yield kernel
    kernel.close()


def runs(folder: Path) -> list[tuple[Status, dict[str, Status]]]:
    """Get the statuses of all runs and their steps, oldest first."""
    with Workspace.open(folder) as workspace:
        shown = [workspace.runs.show(run.id) for run in reversed(workspace.runs.find(RunFilter()))]
    return [(run.status, {step.step: step.status for step in steps}) for run, steps in shown]


def executions(folder: Path, step: str) -> list[Status]:
    """Return the statuses of all executions of a step, replaced ones too, oldest first."""
    with Workspace.open(folder) as workspace:
        history = workspace.context.history.executions
        every = [history.all_of_run(run.id) for run in reversed(workspace.runs.find(RunFilter()))]
    # Those that were replaced came first.
    ordered = (sorted(records, key=lambda record: record.current) for records in every)
    return [record.status for records in ordered for record in records if record.step == step]


def attempts(folder: Path, step: str) -> int:
    """Get how often a step was executed, in all runs."""
    return len(list((folder / ".nbpipe" / "runs").glob(f"*/{step}/*")))


def eventually(condition: Callable[[], Any], said: str = "it did not come") -> Any:
    """Get what a condition gives when it holds at last."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, said
        time.sleep(0.05)
    return found


def lives(process: psutil.Process) -> bool:
    """Say whether a process goes on."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def slow(folder: Path, name: str = "slow", value: int = 1) -> str:
    """Get a step that waits for a file before it ends."""
    return (
        f"%%step {name} -o {name}_out\nimport time, pathlib\nprint('begun', flush=True)\n"
        f"while not pathlib.Path({str(folder / 'go')!r}).exists():\n    time.sleep(0.05)\n{name}_out = {value}"
    )


def go(folder: Path) -> None:
    """Let slow steps end."""
    (folder / "go").write_text("")


def test_a_step_cell_returns_at_once_and_the_cell_that_reads_its_output_waits(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    shown = kernel.execute("take", "%%step take -i slow_out -o b\nb = slow_out + 1")
    assert shown.error == ""
    assert shown.is_live
    assert kernel.execute("other", "1 + 1").text == "2"
    sent = kernel.send("read", "b")
    time.sleep(1.0)
    go(tmp_path)
    assert kernel.run("after", "b, slow_out").text == "(2, 1)"
    assert sent
    kernel.hear(lambda: not any(cell.is_live for cell in kernel.cells.values()))
    assert "✓" in kernel.cells["take"].text
    assert runs(tmp_path)[0][1] == {"slow": Status.SUCCEEDED, "take": Status.SUCCEEDED}


def test_cells_run_together_are_one_run_and_each_step_runs_once(kernel, tmp_path):
    cells = {
        "a": "%%step a -o a\na = 1", "b": "%%step b -i a -o b\nb = a + 1", "c": "%%step c -i a -o c\nc = a + 2",
        "d": "%%step d -i b,c -o d\nd = b + c",
    }  # fmt: skip
    for cell, source in cells.items():
        kernel.send(cell, source)
    assert kernel.run("sum", "a, b, c, d").text.endswith("(1, 2, 3, 5)")
    eventually(lambda: all(status.terminal for status, _ in runs(tmp_path)))
    assert [attempts(tmp_path, step) for step in "abcd"] == [1, 1, 1, 1]
    assert len(runs(tmp_path)) == 1


def test_a_cell_run_again_joins_what_goes_on_and_reuses_what_is_done(kernel, tmp_path):
    source = slow(tmp_path)
    kernel.execute("make", source)
    eventually(lambda: attempts(tmp_path, "slow"))
    again = kernel.execute("make", source)
    assert again.is_live
    go(tmp_path)
    kernel.hear(lambda: not again.is_live)
    assert "✓" in again.text
    assert "↺" in kernel.run("make", source).text
    assert kernel.run("read", "slow_out").text == "1"
    assert attempts(tmp_path, "slow") == 1


def test_an_edited_cell_takes_the_place_of_its_old_version_when_that_is_gone(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path, value=1))
    eventually(lambda: attempts(tmp_path, "slow"))
    kernel.run("make", "%%step slow -o slow_out\nslow_out = 2")
    assert kernel.run("read", "slow_out").text == "2"
    eventually(lambda: all(status.terminal for status, _ in runs(tmp_path)))
    assert runs(tmp_path) == [(Status.SUCCEEDED, {"slow": Status.SUCCEEDED})]
    assert executions(tmp_path, "slow") == [Status.CANCELLED, Status.SUCCEEDED]


def test_a_failed_step_is_tried_once_however_many_steps_need_it(kernel, tmp_path):
    source = slow(tmp_path, "base").replace("base_out = 1", "raise ValueError('no good')\nbase_out = 1")
    kernel.execute("base", source)
    eventually(lambda: attempts(tmp_path, "base"))
    kernel.execute("left", "%%step left -i base_out -o l\nl = base_out")
    time.sleep(0.3)
    kernel.execute("right", "%%step right -i base_out -o r\nr = base_out")
    go(tmp_path)
    error = kernel.run("read", "r").error
    assert "`r` is an output of step right, which is skipped" in error
    assert "no good" in kernel.run("read", "base_out").error
    kernel.hear(lambda: not any(cell.is_live for cell in kernel.cells.values()))
    assert attempts(tmp_path, "base") == 1


def test_waiting_can_be_interrupted_and_the_step_goes_on(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    sent = kernel.send("read", "slow_out")
    shown = kernel.cells["read"] = type(kernel.cells["make"])()
    kernel.hear(lambda: "waiting for `slow_out`" in shown.text, sent, shown)
    kernel.manager.interrupt_kernel()
    kernel.hear(lambda: bool(shown.error), sent, shown)
    assert "KeyboardInterrupt" in shown.error
    go(tmp_path)
    assert kernel.run("again", "slow_out").text.endswith("1")


def test_names_that_functions_magics_and_own_assignments_mean(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    kernel.execute("def", "def shown():\n    return slow_out * 2\ndef outer():\n    return shown()")
    kernel.execute("own", "slow_mine = 3")
    go(tmp_path)
    assert kernel.run("call", "outer()").text.endswith("2")
    kernel.execute("make", "%%step other -o value\nimport time\ntime.sleep(0.5)\nvalue = 5")
    assert kernel.execute("rebind", "value = 'mine'\nvalue").text == "'mine'"
    kernel.hear(lambda: not kernel.cells["make"].is_live)
    assert kernel.run("look", "value").text == "'mine'"


def test_large_or_heavy_outputs_are_loaded_by_the_cell_that_reads_them(kernel):
    kernel.run("make", "%%step make -o big,small\nimport numpy\nbig = numpy.zeros(6_000_000)\nsmall = 1")
    names = kernel.execute("names", "sorted(n for n in ('big', 'small') if n in list(globals()))")
    assert names.text == "['small']"
    assert kernel.execute("read", "big.shape").text == "(6000000,)"


def test_what_a_step_displays_is_in_the_picture_that_stays(kernel):
    source = (
        "%%step plots -o n\nfrom IPython.display import HTML, Image, display\n"
        "display(HTML('<b>bold</b>'))\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nn = 1"
    )
    (bundle,) = kernel.run("plots", source).bundles.values()
    assert "<b>bold</b>" in bundle["text/html"]
    assert "data:image/png;base64," in bundle["text/html"]


def test_a_reused_step_shows_what_it_displayed_printed_and_measured(kernel, tmp_path):
    source = (
        "%%step look\n#| shows: true\nimport nbpipe\nfrom IPython.display import HTML, display\n"
        "print('said')\ndisplay(HTML('<b>bold</b>'))\nfor n in range(3):\n    nbpipe.log_metric('loss', n / 4)"
    )
    kernel.run("look", source)
    shutil.rmtree(tmp_path / ".nbpipe" / "runs")
    time.sleep(1)
    (bundle,) = kernel.run("look", source).bundles.values()
    assert "↺ look reused" in bundle["text/plain"]
    assert "from run 1" in bundle["text/plain"]
    assert "\nsaid" in bundle["text/plain"]
    assert "loss = 0.5" in bundle["text/plain"]
    assert "printed in run 1:" in bundle["text/html"]
    assert "<b>bold</b>" in bundle["text/html"]


def test_a_registered_table_shows_its_profile_and_what_changed_once_they_are_made(kernel):
    source = (
        "%%step make -o frame\n#| register: frame=frames\nimport pandas as pd\n"
        "frame = pd.DataFrame({'town': ['Ulm', 'Ulm', 'Bern'], 'area': [1.0, 2.0, None]})"
    )
    first = kernel.run("make", source)
    kernel.hear(lambda: "most often Ulm (2)" in first.text, shown=first)
    assert "frames@1: kept, arrow" in first.text
    second = kernel.run("make", source.replace("2.0", "5.0").replace("'area'", "'size'"))
    kernel.hear(lambda: "most often Ulm (2)" in second.text, shown=second)
    assert "frames@1 → frames@2" in second.text
    assert "column size: none → double" in second.text


def test_a_step_that_is_wrong_says_so_at_once(kernel):
    shown = kernel.execute("wrong", "%%step wrong -i raw=./nothing.csv -o w\nw = 1")
    assert "`./nothing.csv` is not there" in shown.error
    assert kernel.run("fine", "%%step fine -o f\nf = 1").error == ""


def test_a_restarted_kernel_finds_the_run_that_goes_on(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    eventually(lambda: attempts(tmp_path, "slow"))
    kernel.restart()
    shown = kernel.execute("load", "%load_ext nbpipe")
    assert shown.is_live
    kernel.execute("make", slow(tmp_path))
    go(tmp_path)
    assert kernel.run("read", "slow_out").text.endswith("1")
    kernel.hear(lambda: not shown.is_live)
    assert "slow" in shown.text
    assert attempts(tmp_path, "slow") == 1
    kernel.restart()
    shown = kernel.run("load", "%load_ext nbpipe")
    assert "slow" in shown.text
    assert not shown.is_live


def test_a_kernel_that_is_shut_down_cancels_its_runs_and_leaves_nothing(tmp_path):
    kernel = opened(tmp_path)
    kernel.execute("make", slow(tmp_path))
    eventually(lambda: attempts(tmp_path, "slow"))
    processes = kernel.processes()
    kernel.close()
    eventually(lambda: runs(tmp_path)[0] == (Status.CANCELLED, {"slow": Status.CANCELLED}))
    eventually(lambda: not any(map(lives, processes)))


def test_a_killed_runner_is_told_of_and_the_next_submission_goes_on(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    eventually(lambda: attempts(tmp_path, "slow"))
    (runner,) = [process for process in kernel.processes() if "nbpipe.runner" in " ".join(process.cmdline())]
    os.kill(runner.pid, signal.SIGKILL)
    assert "which is lost" in kernel.run("read", "slow_out").error
    go(tmp_path)
    kernel.run("make", slow(tmp_path))
    assert kernel.run("read", "slow_out").text.endswith("1")


def test_cancel_and_status_and_run_work_beside_what_goes_on(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    kernel.execute("quick", "%%step quick -o q\nq = 1")
    assert kernel.execute("status", "%nbpipe status").error == ""
    eventually(lambda: attempts(tmp_path, "slow"))
    assert kernel.execute("cancel", "%nbpipe cancel").error == ""
    assert "which is cancelled" in kernel.run("read", "slow_out").error
    go(tmp_path)
    shown = kernel.execute("run", "%nbpipe run")
    assert shown.is_live
    assert kernel.run("read", "slow_out, q").text.endswith("(1, 1)")


def test_a_step_sees_the_environment_of_its_submission(kernel):
    source = "%%step env -o e\n#| envvar: MOOD\nimport os\ne = os.environ.get('MOOD')"
    kernel.run("env", source)
    assert kernel.run("read", "repr(e)").text == "'None'"
    kernel.run("set", "import os\nos.environ['MOOD'] = 'good'")
    kernel.run("env", source)
    assert kernel.run("read", "e").text == "'good'"


def test_a_deleted_cell_declares_nothing_any_more(kernel):
    kernel.run("one", "%%step one -o x\nx = 1")
    shown = kernel.run("two", "%%step two -o x\nx = 2", deletedCells=["one"])
    assert shown.error == ""
    kernel.run("three", "%%step three -i x -o y\ny = x")
    assert kernel.run("read", "y").text == "2"


def test_without_a_front_end_a_step_cell_waits_and_raises(tmp_path):
    kernel = opened(tmp_path)
    try:
        message = kernel.client.execute("%%step bad -o x\nraise ValueError('no')\nx = 1")
        reply = kernel.client.get_shell_msg(timeout=PATIENCE)
        while reply["parent_header"].get("msg_id") != message:
            reply = kernel.client.get_shell_msg(timeout=PATIENCE)
        assert reply["content"]["status"] == "error"
    finally:
        kernel.close()


def test_two_notebooks_share_a_workspace(kernel, tmp_path):
    write_notebook(tmp_path / "m.ipynb", ["1"])
    other = Kernel(tmp_path, JPY_SESSION_NAME="m.ipynb")
    try:
        other.run("load", "%load_ext nbpipe")
        kernel.execute("make", slow(tmp_path))
        eventually(lambda: attempts(tmp_path, "slow"))
        other.execute("make", slow(tmp_path))
        go(tmp_path)
        assert kernel.run("read", "slow_out").text.endswith("1")
        assert other.run("read", "slow_out").text.endswith("1")
        assert attempts(tmp_path, "slow") == 1
    finally:
        other.close()


def test_a_copied_notebook_says_so_once_on_the_first_card(kernel, tmp_path):
    cells = [(f"id{number}", f"%%step s{number} -o x{number}\nx{number} = {number}") for number in range(2)]
    write_notebook(tmp_path / "n.ipynb", [source for _, source in cells])
    kernel.run_all(cells)
    shutil.copyfile(tmp_path / "n.ipynb", tmp_path / "copy.ipynb")
    other = Kernel(tmp_path, JPY_SESSION_NAME="copy.ipynb")
    try:
        other.run("load", "%load_ext nbpipe")
        first, second = other.run_all(cells)
        note = "warning: copy.ipynb is a copy of n.ipynb: it has its own history and reuses results."
        assert [shown.text.count(note) for shown in (first, second)] == [1, 0]
        assert note not in other.run(*cells[0]).text
    finally:
        other.close()


def test_a_detached_run_is_followed(kernel, tmp_path):
    kernel.execute("manual", "%nbpipe defaults run=manual")
    kernel.execute("make", slow(tmp_path))
    assert kernel.execute("run", "%nbpipe run --detach").error == ""
    kernel.restart()
    shown = kernel.execute("load", "%load_ext nbpipe")
    assert shown.is_live
    go(tmp_path)
    kernel.hear(lambda: not shown.is_live)
    assert json.dumps([status for status, _ in runs(tmp_path)]) == '["succeeded"]'
