"""``papermill --engine nbpipe``: steps in parallel and reused, other cells as ever, a true ending."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from ast import literal_eval
from pathlib import Path
from typing import Any

import papermill
import pytest
from jupyter_client.kernelspec import KernelSpec
from notebook_author import write_notebook
from papermill.exceptions import PapermillExecutionError

from nbpipe.papermill_engine.ordinary_kernel import hears_sockets

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

CELLS = (
    "rate = 0.5  # how much",
    "import math\n\ndef scaled(x):\n    return x * rate",
    "%load_ext nbpipe",
    "%%step a -o x\nprint('in a')\nx = scaled(4)",
    "%%step b -o folder:dir\n(folder / 'f.txt').write_text('hello')",
    "print('no step is read here')",
    "%%step c -i x -o t\nt = {'x': x}\nt",
    "print('read', t, folder.name, math.floor(x))",
)


def execute(folder: Path, *cells: str, engine: str | None = "nbpipe", **options: Any):
    """Have papermill execute the cells, and get the notebook."""
    path = write_notebook(folder / "in.ipynb", cells, parameters=0)
    return papermill.execute_notebook(
        str(path), str(folder / "out.ipynb"), engine_name=engine, progress_bar=False, **options
    )


def texts(cell) -> list[str]:
    """Get what a cell shows, as texts."""
    return [
        "".join(output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue"))
        for output in cell["outputs"]
    ]


def by_source(notebook, start: str):
    """Get the cell whose source begins so."""
    return next(cell for cell in notebook["cells"] if cell["source"].startswith(start))


def test_steps_run_and_other_cells_read_their_outputs(tmp_path):
    done = execute(tmp_path, *CELLS, parameters={"rate": 0.25})

    assert texts(by_source(done, "%%step a"))[1:] == ["in a\n"]
    assert texts(by_source(done, "%%step c"))[1:] == ["{'x': 1.0}"]
    assert texts(by_source(done, "print('read'")) == ["read {'x': 1.0} folder 1\n"]
    assert "succeeded" in texts(by_source(done, "%%step b"))[0]
    assert {cell.metadata.papermill.status for cell in done.cells} == {"completed"}
    assert done.metadata.nbpipe.status == "succeeded"


def test_the_second_time_steps_are_reused_and_show_what_they_showed(tmp_path):
    execute(tmp_path, *CELLS)
    done = execute(tmp_path, *CELLS)

    said, printed = texts(by_source(done, "%%step a"))
    assert ("reused: from run 1" in said, printed) == (True, "in a\n")
    assert texts(by_source(done, "print('read'")) == ["read {'x': 2.0} folder 2\n"]


def test_a_step_that_shows_displays_the_same_when_it_is_reused(tmp_path):
    look = "%%step look --shows true\nfrom IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))"
    first, second = (by_source(execute(tmp_path, "p = 1", look), "%%step look").outputs for _ in range(2))
    assert "reused: from run 1" in second[0].data["text/plain"]
    assert second[1:] == first[1:]
    assert second[1].data["text/html"] == "<b>x</b>"


def test_the_same_notebook_in_a_shell_reuses_what_papermill_made(tmp_path):
    execute(tmp_path, *CELLS)
    command = [sys.executable, "-m", "nbpipe", "run", str(tmp_path / "in.ipynb"), "--json"]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {step["status"] for step in done["steps"]} == {"reused"}


def test_independent_steps_run_at_the_same_time(tmp_path):
    cells = [
        f"%%step s{n} -o t{n}\nimport time\nbegan = time.time()\ntime.sleep(1)\nt{n} = [began, time.time()]"
        for n in (1, 2)
    ]
    done = execute(tmp_path, "p = 1", *cells, "print(max(t1[0], t2[0]) < min(t1[1], t2[1]))")
    assert texts(done.cells[-1]) == ["True\n"]


def test_a_failing_step_fails_papermill_with_its_own_traceback(tmp_path):
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        execute(
            tmp_path, "p = 1", "%%step bad -o x\n\nx = 1 / 0", "%%step after -i x -o y\ny = x", "print(y)",
        )  # fmt: skip
    notebook = json.loads((tmp_path / "out.ipynb").read_text())
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    bad = by_source(notebook, "%%step bad")
    assert [output["output_type"] for output in bad["outputs"]] == ["display_data", "error"]
    assert "line 3" in texts(bad)[0]
    assert "skipped" in texts(by_source(notebook, "%%step after"))[0]
    assert by_source(notebook, "print(y)")["outputs"] == []


@pytest.mark.parametrize(
    "code, said", [("import os\nos._exit(0)\nx = 1", "kernel"), ("x = 1\nraise SystemExit(0)", "SystemExit")]
)
def test_a_step_that_ends_without_an_error_of_its_own_fails_papermill_all_the_same(tmp_path, code, said):
    with pytest.raises(PapermillExecutionError, match=said):
        execute(tmp_path, "p = 1", f"%%step bad -o x\n{code}")


def test_a_failing_ordinary_cell_stops_the_steps_and_fails_papermill(tmp_path):
    with pytest.raises(PapermillExecutionError, match="KeyError"):
        execute(tmp_path, "p = 1", "{}['no']", "%%step slow -o x\nimport time\ntime.sleep(60)\nx = 1", "print(x)")


def test_what_is_wrong_with_a_declaration_is_in_its_cell_and_nothing_ran(tmp_path):
    with pytest.raises(PapermillExecutionError, match="undeclared-name"):
        execute(tmp_path, "p = 1", "open('ran', 'w').close()", "%%step s -o x\nx = nothing")
    assert not (tmp_path / "ran").exists()
    assert not Path("ran").exists()


def test_a_step_over_several_cells_shows_in_each_what_is_its_own(tmp_path):
    done = execute(
        tmp_path, "p = 1", "%%step s -o x\nprint('one')", "print('between')", "%%step s --append\nprint('two')\nx = 1"
    )
    assert texts(done.cells[1])[1:] == ["one\n"]
    assert texts(done.cells[3]) == ["two\n"]


def test_a_step_that_was_tried_again_shows_its_last_attempt(tmp_path):
    source = (
        "%%step flaky -o x\n#| retries: 1\nimport pathlib\nagain = pathlib.Path('again')\n"
        "print('tried again' if again.exists() else 'tried first')\n"
        "if not again.exists():\n    again.touch()\n    raise ValueError('not yet')\nx = 1"
    )
    done = execute(tmp_path, "p = 1", source, "print(x)")
    assert texts(done.cells[1])[1:] == ["tried again\n"]
    assert texts(done.cells[2]) == ["1\n"]
    assert done.cells[1].metadata.nbpipe == {"step": "flaky", "status": "succeeded"}
    assert done.cells[1].metadata.papermill.status == "completed"
    assert done.metadata.nbpipe.status == "succeeded"


def test_outputs_appear_in_the_file_while_a_step_runs(tmp_path):
    path = write_notebook(
        tmp_path / "in.ipynb", ["%%step s -o x\nimport time\nprint('begun', flush=True)\ntime.sleep(4)\nx = 1"]
    )
    seen: list[str] = []

    def watch() -> None:
        ends = time.monotonic() + 60
        while not seen and time.monotonic() < ends:
            time.sleep(0.1)
            text = (tmp_path / "out.ipynb").read_text() if (tmp_path / "out.ipynb").exists() else ""
            if "begun\\n" in text and "succeeded" not in text:
                seen.append(text)

    watcher = threading.Thread(target=watch)
    watcher.start()
    papermill.execute_notebook(
        str(path), str(tmp_path / "out.ipynb"), engine_name="nbpipe", progress_bar=False, autosave_cell_every=1
    )
    watcher.join()
    assert seen


def test_the_kernel_of_the_ordinary_cells_has_no_ports_that_another_process_could_take(tmp_path):
    done = execute(tmp_path, *CELLS, "import ipykernel\nipykernel.get_connection_info(unpack=True)")
    told = literal_eval(texts(done.cells[-1])[0])
    assert told["transport"] == "ipc"
    assert not Path(told["ip"]).parent.exists()


@pytest.mark.parametrize(
    "argv, more, heard",
    [
        (["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], {}, True),
        (["python", "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"], {}, True),
        (["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"], {}, False),
        (["python", "-m", "bash_kernel", "-f", "{connection_file}"], {}, False),
        (["ssh", "far", "ipykernel_launcher"], {}, False),
        (
            ["python", "-m", "ipykernel_launcher"], {"kernel_provisioner": {"provisioner_name": "yarn"}}, False,
        ),
    ],
)  # fmt: skip
def test_kernels_that_are_not_known_to_take_sockets_get_ports(argv, more, heard):
    assert hears_sockets(KernelSpec(argv=argv, metadata=more)) == heard


PLAIN = {
    "prints": ("p = 1", "print('a', p)", "p + 1"),
    "fails": ("p = 1", "raise ValueError('no')", "print('never')"),
    "exits": ("p = 1", "import sys\nsys.exit(0)", "print('never')"),
    "displays": ("p = 1", "from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))"),
    "syntax": ("p = 1", "def ("),
    "empty": ("p = 1", "", "# only a comment"),
}


@pytest.mark.parametrize("cells", PLAIN.values(), ids=PLAIN)
def test_a_notebook_without_steps_is_papermills_own(tmp_path, cells):
    def outcome(engine: str | None):
        try:
            done = execute(tmp_path, *cells, engine=engine, parameters={"p": 3})
        except PapermillExecutionError as error:
            return type(error), error.ename, error.evalue, error.cell_index
        return [(cell.source, cell.outputs, cell.get("execution_count")) for cell in done.cells]

    assert outcome("nbpipe") == outcome(None)
    assert not (tmp_path / ".nbpipe").exists()


def test_the_command_of_papermill_knows_the_engine_and_its_exit_code_is_true(tmp_path):
    write_notebook(tmp_path / "in.ipynb", ["rate = 1", "%%step s -o x\nx = 10 / rate", "print(x)"], parameters=0)
    command = [sys.executable, "-m", "papermill", "--engine", "nbpipe", "--no-progress-bar", "in.ipynb", "out.ipynb"]
    good = subprocess.run([*command, "-p", "rate", "2"], cwd=tmp_path, check=False, capture_output=True, text=True)
    bad = subprocess.run([*command, "-p", "rate", "0"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (good.returncode, bad.returncode) == (0, 1)
    assert "ZeroDivisionError" in bad.stderr


def test_the_gate_imports_nothing_but_papermill():
    """Papermill imports every registered engine: whoever uses papermill for something else must not wait for ours."""
    program = (
        "import sys, papermill.engines\nbefore = set(sys.modules)\nsys.modules.pop('nbpipe.papermill_engine', None)\n"
        "import nbpipe.papermill_engine\nprint(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) <= {"nbpipe", "nbpipe.papermill_engine"}


WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGETS = (
    "from tqdm.notebook import tqdm\nimport ipywidgets",
    "for _ in tqdm(range(2)): pass",
    "%%step a -o n\nn = sum(1 for _ in tqdm(range(3)))\ndisplay(ipywidgets.IntSlider(3))",
    "%%step b -i n -o m\nm = [1 for _ in tqdm(range(n))]\n1 / FAILS",
)


def views_and_models(notebook) -> tuple[set[str], set[str]]:
    """Get the ids of the widgets that are shown, and of the models that the notebook holds."""
    shown = [output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", [])]
    views = {data[WIDGET_VIEW]["model_id"] for data in shown if WIDGET_VIEW in data}
    return views, set(notebook["metadata"].get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}))


@pytest.mark.parametrize("engine", ["nbpipe", None])
def test_widgets_keep_their_models(tmp_path, engine):
    cells = [cell.replace("1 / FAILS", "") for cell in WIDGETS]
    cells = ["rate = 1", *([] if engine else ["%load_ext nbpipe"]), *cells]
    for _ in ("the steps run", "the steps are reused"):
        views, models = views_and_models(execute(tmp_path, *cells, engine=engine, cwd=str(tmp_path)))
        assert len(views) == 4
        assert views <= models
    executed = [json.loads(path.read_text()) for path in tmp_path.glob(".nbpipe/runs/*/*/*/notebook.ipynb")]
    assert len(executed) == 2
    assert all(views <= models for views, models in map(views_and_models, executed))


def test_widgets_of_a_notebook_that_fails_keep_their_models(tmp_path):
    with pytest.raises(PapermillExecutionError):
        execute(tmp_path, "rate = 1", *(cell.replace("FAILS", "0") for cell in WIDGETS))
    views, models = views_and_models(json.loads((tmp_path / "out.ipynb").read_text()))
    assert len(views) == 4
    assert views <= models


def test_the_error_of_an_ordinary_cell_is_reported_and_not_that_of_a_step_that_it_cancels(tmp_path):
    mark = tmp_path / "started"
    slow = f"%%step slow -o x\nimport pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(60)\nx = 1"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(mark)!r}).exists(): time.sleep(0.1)\ntime.sleep(0.5)"
    for cells in ((slow, f"{wait}\n1 / 0"), (f"{wait}\n1 / 0", slow)):
        mark.unlink(missing_ok=True)
        with pytest.raises(PapermillExecutionError) as raised:
            execute(tmp_path, "rate = 1", *cells)
        assert raised.value.ename == "ZeroDivisionError"
        assert "KeyboardInterrupt" not in (tmp_path / "out.ipynb").read_text()


def test_a_step_is_limited_by_papermills_timeout_for_cells(tmp_path):
    slow = "%%step slow -o x\nimport time\ntime.sleep(60)\nx = 1"
    with pytest.raises(PapermillExecutionError) as raised:
        execute(tmp_path, "rate = 1", slow, execution_timeout=2)
    assert (raised.value.ename, "longer than 2 s" in raised.value.evalue) == ("StepTimeout", True)


def test_papermills_flags_are_taken_and_dask_says_nothing(tmp_path):
    cells = (
        "import os",
        "%%step a -o n\nimport os\nprint('in', os.getcwd())\nn = 1\n'shown'",
        "print('n', n, os.getcwd())",
    )
    write_notebook(tmp_path / "in.ipynb", ("rate = 1", *cells), parameters=0)
    (tmp_path / "other").mkdir()
    flags = "--log-output --no-progress-bar --autosave-cell-every 1 --start-timeout 60 --report-mode --kernel python3"
    flags += f" -p rate 2 --cwd {tmp_path / 'other'} --stdout-file {tmp_path / 'said'}"
    command = [sys.executable, "-m", "papermill", "--engine", "nbpipe", "in.ipynb", "out.ipynb", *flags.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = f"in {tmp_path / 'other'}\n", f"n 1 {tmp_path / 'other'}\n"
    assert (tmp_path / "said").read_text() == "".join(said)
    assert all(text in done.stderr for text in (*said, "'shown'"))
    words = ("tls://", "Nanny", "nanny", "worker", "Scheduler", "scheduler", "it/s")
    assert [word for word in words if word in done.stderr] == []
    assert (tmp_path / ".nbpipe").is_dir()


def test_a_notebook_is_only_prepared_where_papermill_is_told_so(tmp_path):
    path = write_notebook(tmp_path / "in.ipynb", CELLS, parameters=0)
    done = papermill.execute_notebook(
        str(path), None, {"rate": 2}, engine_name="nbpipe", prepare_only=True, progress_bar=False
    )
    assert [cell["outputs"] for cell in done["cells"] if cell["cell_type"] == "code"] == [[]] * (len(CELLS) + 1)
    assert not (tmp_path / ".nbpipe").exists()


def test_what_makes_a_run_impossible_is_told_in_the_notebook_without_our_frames(tmp_path):
    write_notebook(tmp_path / "in.ipynb", ("rate = 1", "%%step a -o n\nn = 1"), parameters=0)
    run = [sys.executable, "-m", "nbpipe", "run", "in.ipynb"]
    subprocess.run(
        run, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path / "one")}, capture_output=True, check=True
    )
    command = [sys.executable, "-m", "papermill", "--engine", "nbpipe", "in.ipynb", "out.ipynb"]
    another = {**os.environ, "HOME": str(tmp_path / "another")}
    done = subprocess.run(command, cwd=tmp_path, env=another, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is not trusted" in done.stderr
    assert "notebook_run.py" not in done.stderr
    assert any(out["output_type"] == "error" for cell in json.loads((tmp_path / "out.ipynb").read_text())["cells"]
               for out in cell.get("outputs", []))  # fmt: skip
