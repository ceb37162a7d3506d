"""Step cells without a front end: the cells of one gesture are one run, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from front_end_kernel import Kernel
from notebook_author import write_notebook
from socket_kernel import PlainKernel

from nbpipe.history.runs import RunFilter
from nbpipe.model import Status
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_watch import watch_run

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

CHAIN = (
    "%load_ext nbpipe",
    "%%step a -o x\nx = 1",
    "%%step b -i x -o y\ny = x + 1",
    "import time; time.sleep(0.6); print(y)",
    "%%step c -i y -o z\nz = y + 1",
)
SLOW = "%%step slow -i x -o s\nimport time\ntime.sleep(600)\ns = x"


class CellKernel(PlainKernel):
    """A kernel whose client sends no ids of cells."""

    text = ""

    def run(self, source: str) -> str:
        """Run a cell, keep what it shows in ``text``, and get its error, or nothing."""
        texts: list[str] = []

        def hear(message) -> None:
            content = message["content"]
            texts.append(content.get("text") or content.get("data", {}).get("text/plain", ""))

        reply = self.client.execute_interactive(source, output_hook=hear, timeout=120)["content"]
        self.text = "\n".join(texts)
        return f"{reply['ename']}: {reply['evalue']}" if reply["status"] == "error" else ""

    @property
    def process(self) -> int:
        """The id of the kernel's process."""
        assert self.run("import os; print(os.getpid())") == ""
        return int(self.text.strip())


@pytest.fixture
def kernel(tmp_path):
    kernel = CellKernel(tmp_path)
    assert kernel.run("%load_ext nbpipe") == ""
    yield kernel
    kernel.stop(now=False)


def recorded(folder: Path) -> list[tuple[Status, dict[str, Status]]]:
    """Get the status of each run and of its steps, oldest run first."""
    with Workspace.open(folder) as workspace:
        workspace.context.recover()
        runs = [workspace.runs.show(run.id) for run in workspace.runs.find(RunFilter())]
        return [(run.status, {step.step: step.status for step in steps}) for run, steps in reversed(runs)]


def until_begun(folder: Path, step: str) -> None:
    deadline = time.monotonic() + 60
    while not list((folder / ".nbpipe" / "runs").glob(f"*/{step}/*/job.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("command", [("papermill", "n.ipynb", "out.ipynb"), ("nbconvert", "--execute", "--to", "html")])
def test_an_executed_notebook_is_one_run(tmp_path, command):
    write_notebook(tmp_path / "n.ipynb", CHAIN)
    words = [*command, "n.ipynb"] if command[0] == "nbconvert" else [*command]
    for _ in range(2):
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    done_once, done_again = dict.fromkeys("abc", Status.SUCCEEDED), dict.fromkeys("abc", Status.REUSED)
    assert recorded(tmp_path) == [(Status.SUCCEEDED, done_once), (Status.SUCCEEDED, done_again)]


BESIDE = ("%load_ext nbpipe", "%%step a -o x\nx = 2")


def names(folder: Path) -> list[str]:
    with Workspace.open(folder) as workspace:
        return [Path(run.notebook).name for run in workspace.runs.find(RunFilter())]


@pytest.mark.parametrize(
    "command, name",
    [
        ("papermill --cwd sub n.ipynb sub/out.ipynb", "n.ipynb"),
        ("papermill -p k same.ipynb n.ipynb -", "(kernel)"),
        ("nbconvert --execute --to notebook --output old.ipynb n.ipynb", "n.ipynb"),
    ],
)
def test_the_notebook_is_found_where_the_command_names_one(tmp_path, command, name):
    for other in ("n.ipynb", "old.ipynb", "same.ipynb"):
        write_notebook(tmp_path / other, ("k = 'none'", *CHAIN[:2]), parameters=0)
    write_notebook(tmp_path / "b.ipynb", BESIDE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "nbpipe.toml").touch()
    words = [sys.executable, "-m", *command.split()]
    # As in a shell that was opened in another notebook.
    environment = {**os.environ, "PWD": str(tmp_path), "JPY_SESSION_NAME": "b.ipynb"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(names(tmp_path)) == {name}


CONTINUED = (
    "%load_ext nbpipe",
    "%%step load -o df\ndf = [1]",
    "%%step work -i df=load.df -o df\nopen('count', 'a').write('x')\nprint('first')\ndf = df + [2]",
    "print('between')",
    *(f"%%step work --append\nprint('more {n}')\ndf = df + [{n}]" for n in range(3)),
    "print(df)",
)


@pytest.mark.parametrize(
    "command",
    [
        ("papermill", "n.ipynb", "out.ipynb"),
        ("papermill", "n.ipynb", "out.ipynb", "-p", "rate", "2"),
        ("nbconvert", "--execute", "--to", "notebook", "--output", "out.ipynb", "n.ipynb"),
    ],
)
def test_a_step_over_several_cells_runs_once_with_its_last_one(tmp_path, command):
    write_notebook(tmp_path / "n.ipynb", ("rate = 1", *CONTINUED), parameters=0)
    done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "count").read_text() == "x"
    cells = [cell for cell in json.loads((tmp_path / "out.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    printed = ["".join("".join(out.get("text", "")) for out in cell["outputs"]) for cell in cells]
    assert [text.count("first") for text in printed][-6:] == [0, 0, 0, 0, 1, 0]
    assert printed[-1] == "[1, 2, 0, 1, 2]\n"


def test_a_step_whose_output_is_read_between_its_cells_runs_before_that(tmp_path):
    cells = [cell.replace("'between'", "'between', df") for cell in CONTINUED]
    write_notebook(tmp_path / "n.ipynb", cells)
    command = [sys.executable, "-m", "papermill", "n.ipynb", "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "between [1, 2]" in (tmp_path / "out.ipynb").read_text()
    assert (tmp_path / "count").read_text() == "xx"


def test_a_cell_shows_its_own_steps_and_never_calls_reused_what_the_run_made(kernel):
    assert kernel.run(CHAIN[1]) == ""
    assert "as part of run 1" in kernel.text
    assert kernel.run(CHAIN[2]) == ""
    assert "✓ succeeded" in kernel.text
    assert "reused" not in kernel.text
    assert kernel.run("%%step d -o w\nw = 0") == ""
    assert "a  " not in kernel.text
    assert kernel.run("y + w") == ""
    assert kernel.text.strip() == "2"


def test_a_cell_after_a_pause_begins_a_run(kernel, tmp_path):
    kernel.run(CHAIN[1])
    time.sleep(1.0)
    kernel.run(CHAIN[2])
    time.sleep(1.0)
    assert [status for status, _ in recorded(tmp_path)] == [Status.SUCCEEDED] * 2
    assert recorded(tmp_path)[1][1] == {"a": Status.REUSED, "b": Status.SUCCEEDED}


def test_a_failed_step_fails_its_cell_and_the_run_but_not_what_does_not_need_it(tmp_path):
    bad = "%%step b -i x -o y\ny = 1 / 0"
    write_notebook(tmp_path / "n.ipynb", [*CHAIN[:2], bad, "%%step c -i y -o z\nz = y", "%%step d -i x -o w\nw = x"])
    words = ("nbconvert", "--execute", "--allow-errors", "--to", "notebook", "--stdout", "n.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip

    assert "ZeroDivisionError" in done.stdout
    steps = {"a": Status.SUCCEEDED, "b": Status.FAILED, "c": Status.SKIPPED, "d": Status.SUCCEEDED}
    assert recorded(tmp_path) == [(Status.FAILED, steps)]


@pytest.fixture
def named_cells(tmp_path):
    """Get a kernel with ids of cells, in which a step cell waits all the same."""
    kernel = Kernel(tmp_path, NBPIPE_LIVE="0")
    kernel.run("load", "%load_ext nbpipe")
    yield kernel
    kernel.close()


def test_a_mended_step_runs_again_in_the_run(named_cells, tmp_path):
    assert "division by zero" in named_cells.run("a", "%%step a -o x\nx = 1 / 0").error
    assert named_cells.run("a", CHAIN[1]).error == ""
    assert named_cells.run("look", "x").text == "1"
    time.sleep(1.0)
    assert recorded(tmp_path) == [(Status.SUCCEEDED, {"a": Status.SUCCEEDED})]


def test_a_run_with_options_is_a_run_of_its_own(named_cells, tmp_path):
    named_cells.run("a", CHAIN[1])
    assert "run 2 ✓ succeeded" in named_cells.run("run", "%nbpipe run --force --tag kind=own").text
    assert named_cells.run("a", CHAIN[1]).error == ""
    time.sleep(1.0)
    assert [list(steps.values()) for _, steps in recorded(tmp_path)] == [
        [Status.SUCCEEDED],
        [Status.SUCCEEDED],
        [Status.REUSED],
    ]


def test_an_interrupted_cell_cancels_the_run_and_the_next_one_begins_another(kernel, tmp_path):
    kernel.run(CHAIN[1])
    sent = kernel.client.execute(SLOW)
    until_begun(tmp_path, "slow")
    kernel.manager.interrupt_kernel()
    while (reply := kernel.client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != sent:
        pass
    assert "cancelled" in reply["content"]["evalue"]
    assert kernel.run(CHAIN[2]) == ""
    time.sleep(1.0)
    first, second = recorded(tmp_path)
    assert first == (Status.CANCELLED, {"a": Status.SUCCEEDED, "slow": Status.CANCELLED})
    assert second == (Status.SUCCEEDED, {"a": Status.REUSED, "b": Status.SUCCEEDED})


def test_a_run_is_cancelled_from_elsewhere_while_an_ordinary_cell_runs(kernel, tmp_path):
    kernel.run(CHAIN[1])
    kernel.client.execute("import time; time.sleep(4)")
    with Workspace.open(tmp_path) as workspace:
        (run,) = workspace.runs.find(RunFilter())
        assert run.status is Status.RUNNING
        watch_run(workspace, run.id).cancel("")
        deadline = time.monotonic() + 3
        while not workspace.runs.show(run.id)[0].status.terminal and time.monotonic() < deadline:
            time.sleep(0.05)
    assert recorded(tmp_path) == [(Status.SUCCEEDED, {"a": Status.SUCCEEDED})]
    assert kernel.run(CHAIN[2]) == ""


def test_a_kernel_killed_after_its_steps_leaves_a_run_that_ended_as_they_did(tmp_path):
    kernel = CellKernel(tmp_path)
    process = kernel.process
    kernel.run("%load_ext nbpipe")
    kernel.run(CHAIN[1])
    kernel.client.execute("import time; time.sleep(600)")
    time.sleep(0.5)
    os.kill(process, signal.SIGKILL)
    kernel.stop(now=True)
    assert recorded(tmp_path) == [(Status.SUCCEEDED, {"a": Status.SUCCEEDED})]


def test_a_kernel_killed_during_a_step_leaves_a_lost_run(tmp_path):
    kernel = CellKernel(tmp_path)
    process = kernel.process
    kernel.run("%load_ext nbpipe")
    kernel.run(CHAIN[1])
    kernel.client.execute(SLOW)
    until_begun(tmp_path, "slow")
    os.kill(process, signal.SIGKILL)
    kernel.stop(now=True)
    assert recorded(tmp_path) == [(Status.LOST, {"a": Status.SUCCEEDED, "slow": Status.LOST})]


def test_a_workspace_deleted_between_cells_is_made_anew(kernel, tmp_path):
    kernel.run(CHAIN[1])
    subprocess.run(["rm", "-rf", str(tmp_path / ".nbpipe")], check=True)
    assert kernel.run(CHAIN[2]) == ""
    time.sleep(1.0)
    assert recorded(tmp_path) == [(Status.SUCCEEDED, {"a": Status.SUCCEEDED, "b": Status.SUCCEEDED})]


def test_a_wrong_declaration_leaves_the_run_as_it_is(kernel, tmp_path):
    kernel.run(CHAIN[1])
    assert "PipelineError" in kernel.run("%%step b -i nowhere -o y\ny = 1")
    assert kernel.run(CHAIN[2]) == ""
    time.sleep(1.0)
    assert [list(steps) for _, steps in recorded(tmp_path)] == [["a", "b"]]
