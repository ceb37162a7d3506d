"""The notebook of a kernel is taken from the command line of the program that executes it, only where it is certain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from notebook_author import write_notebook

from nbpipe.magics.executed_notebook import executed_notebook
from nbpipe.magics.kernel_cells import session_notebook
from nbpipe.magics.parent_process import ParentProcess

CELLS = ("k = 1", "%load_ext nbpipe", "%%step a -o x\nx = k")
RAN = list(CELLS[:2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Get a folder with two equal notebooks, another one, and one that papermill is writing."""
    (tmp_path / "sub").mkdir()
    for name in ("n.ipynb", "same.ipynb"):
        write_notebook(tmp_path / name, CELLS)
    write_notebook(tmp_path / "other.ipynb", ("import math", *CELLS))
    being_written(tmp_path / "out.ipynb", "n.ipynb")
    return tmp_path


def being_written(path: Path, source: str, ended: str | None = None) -> None:
    """Write a notebook as papermill does while it executes the source, or when it has."""
    document = json.loads(write_notebook(path, ("k = 1", "# Parameters\nk = 2\n", *CELLS[1:])).read_text())
    document["metadata"]["papermill"] = {
        "input_path": source, "output_path": path.name, "start_time": "2026-01-01", "end_time": ended
    }  # fmt: skip
    path.write_text(json.dumps(document))


def found(folder: Path, command: str, *, start: str = "", executed: list[str] = RAN) -> str | None:
    """Get the name of the notebook that is found for a kernel of this command, which has changed to ``start``."""
    words = ("/usr/bin/python3", *command.replace("{folder}", str(folder)).split(), "")
    path = executed_notebook(executed, ParentProcess(words, folder / start, {"PWD": str(folder)}))
    return None if path is None else path.resolve().relative_to(folder.resolve()).as_posix()


@pytest.mark.parametrize(
    "command",
    [
        "/bin/papermill n.ipynb out.ipynb",
        "-m papermill --log-output n.ipynb out.ipynb -p k 2",
        "-m papermill -p k same.ipynb n.ipynb out.ipynb",
        "/bin/papermill n.ipynb -",
        "/bin/papermill {folder}/n.ipynb out.html",
        "/bin/jupyter-nbconvert --execute --to html n.ipynb",
        "/bin/jupyter-nbconvert --execute --to notebook --output same.ipynb n.ipynb",
        "/bin/jupyter-nbconvert --execute --output=same.ipynb n.ipynb other.ipynb",
        "/bin/jupyter-execute --inplace n.ipynb",
    ],
)
def test_what_is_executed_is_found(folder, command):
    assert found(folder, command) == "n.ipynb"
    assert found(folder, command, executed=[CELLS[0], "# Parameters\nk = 2\n", *CELLS[1:]]) == "n.ipynb"


@pytest.mark.parametrize(
    "command",
    [
        "/bin/papermill -p k same.ipynb n.ipynb -",
        "/bin/papermill s3://bucket/n.ipynb out.ipynb",
        "/bin/papermill - out.ipynb",
        "/bin/papermill other.ipynb -",
        "/bin/jupyter-nbconvert --execute n.ipynb same.ipynb",
        "/bin/jupyter-nbconvert --execute gone.ipynb",
        "/bin/jupyter-lab n.ipynb",
        "run.py n.ipynb",
        "-m pytest --nbmake n.ipynb",
        "-c import_papermill",
    ],
)
def test_what_is_not_certain_is_not_guessed(folder, command):
    assert found(folder, command) is None


def test_papermill_may_write_the_notebook_that_it_reads(folder):
    being_written(folder / "n.ipynb", "n.ipynb")
    assert found(folder, "/bin/papermill n.ipynb n.ipynb") == "n.ipynb"


@pytest.mark.parametrize("ended", [None, "2026-01-02"])
def test_what_papermill_has_written_before_may_be_executed(folder, ended):
    being_written(folder / "template.ipynb", "n.ipynb")
    being_written(folder / "made.ipynb", "template.ipynb", ended)
    being_written(folder / "out.ipynb", "made.ipynb")
    assert found(folder, "/bin/papermill made.ipynb out.ipynb") == "made.ipynb"


def test_a_change_of_the_folder_is_undone_only_where_papermill_confirms_it(folder):
    write_notebook(folder / "sub" / "n.ipynb", CELLS)
    assert found(folder, "/bin/papermill n.ipynb out.ipynb --cwd sub", start="sub") == "n.ipynb"
    assert found(folder, "/bin/papermill {folder}/n.ipynb - --cwd=sub", start="sub") == "n.ipynb"
    assert found(folder, "/bin/papermill n.ipynb - --cwd sub", start="sub") is None


def test_a_kernel_without_a_known_parent_belongs_to_no_notebook():
    assert executed_notebook(RAN, None) is None


def test_an_editor_names_the_file(folder):
    path = folder / "n.ipynb"
    assert session_notebook(folder / "sub", {"__vsc_ipynb_file__": str(path)}) == path
    assert session_notebook(folder / "sub", {"__vsc_ipynb_file__": str(folder / "gone.ipynb")}) is None
    assert session_notebook(folder / "sub", {"__vsc_ipynb_file__": 1}) is None
