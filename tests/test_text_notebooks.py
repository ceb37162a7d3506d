"""Notebooks as text are read by jupytext as those of Jupyter are, and written back with all other lines unchanged."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from command_in_process import said

import nbpipe
from nbpipe.authoring.notebook_edits import changed_cells, rewrite_notebook
from nbpipe.errors import NotebookUnreadable
from nbpipe.language.notebook_file import read_notebook
from nbpipe.model import Cell
from nbpipe.resolve.text_notebook_cache import read_cached_notebook

jupytext = pytest.importorskip("jupytext")

SOURCES = (
    "import math", "rate = 1", "%%step make -o x\n#| retries: 1\nx = math.sqrt(rate)\n!true\n\n\ndef f():\n    pass",
    "#| step: use\n#| in: x\n#| out: y\ny = x + 1", "%load_ext nbpipe", "%%step z -i y \\\n  -o q\nq = y",
)  # fmt: skip
FORMS = {"percent": "py:percent", "light": "py:light", "hydrogen": "py:hydrogen", "markdown": "md", "myst": "md:myst"}
PERCENT = """\
# %% [markdown]
# # A notebook without a header

# %% tags=["parameters"]
rate = 1  # the rate

# %%
# %%step make -o x
x = rate + 1

# %%
#| step: use
#| out: y
y = x * 2
"""


def written(folder: Path, form: str) -> Path:
    """Write a text notebook with the sources."""
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": spec})  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in SOURCES]  # type: ignore[no-untyped-call]
    notebook.cells[1].metadata["tags"] = ["parameters"]
    path = folder / ("work.md" if FORMS[form].startswith("md") else "work.py")
    path.write_text(jupytext.writes(notebook, FORMS[form]))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_cells_their_tags_and_the_kernel(tmp_path, form):
    notebook = read_notebook(written(tmp_path, form))
    assert tuple(cell.source for cell in notebook.cells) == SOURCES
    assert [cell.tags for cell in notebook.cells][1] == {"parameters"}
    assert notebook.kernel == "python3"
    assert [cell.id for cell in notebook.cells if cell.id.startswith("step-")] == ["step-make", "step-use", "step-z"]


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_declaration_changes_only_its_lines(tmp_path, form):
    path = written(tmp_path, form)
    before = path.read_text().replace("jupytext_version: ", "jupytext_version: 1.16.0 # not ")
    path.write_text(before)

    def change(cell: Cell) -> str:
        return cell.source.replace("-o x\n", "-o x\n#| timeout: 5m\n").replace("#| in: x\n", "")

    rewrite_notebook(path, changed_cells(path, change))
    lines = [line for line in path.read_text().splitlines() if "timeout" not in line]
    assert lines == [line for line in before.splitlines() if line != "#| in: x"]
    assert read_notebook(path).cells[2].source.startswith("%%step make -o x\n#| timeout: 5m\n#| retries: 1\n")
    assert read_notebook(path).cells[3].source.startswith("#| step: use\n#| out: y\n")


@pytest.mark.parametrize("form", FORMS)
def test_a_proposal_is_written_into_every_format(tmp_path, form):
    """Definitions beside a step's code get a cell of their own."""
    sources = ("import json", "def twice(x):\n    return 2 * x\n\nrows = twice([1])", "total = twice(sum(rows))")
    notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    path = tmp_path / ("work.md" if FORMS[form].startswith("md") else "work.py")
    path.write_text(jupytext.writes(notebook, FORMS[form]))
    assert said("propose", str(path), "--write")[0] == 0
    assert [cell.source for cell in read_notebook(path).cells] == [
        "import json", "def twice(x):\n    return 2 * x", "#| step: make_rows -o rows\nrows = twice([1])",
        "#| step: make_total -i rows -o total\ntotal = twice(sum(rows))",
    ]  # fmt: skip


def test_what_stands_twice_is_changed_where_it_is_meant(tmp_path):
    path = tmp_path / "work.py"
    path.write_text("# %%\n# %%step a\n# %%step\n1\n".replace("# %%step\n", "") + "\n# %%\n# %%step b\n1\n")
    rewrite_notebook(path, {2: "%%step b\n2"})
    assert path.read_text() == "# %%\n# %%step a\n1\n\n# %%\n# %%step b\n2\n"


def test_ids_of_cells_stay_when_others_change(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(PERCENT)
    before = {cell.source: cell.id for cell in read_notebook(path).cells}
    path.write_text(PERCENT.replace("# %%\n# %%step make", "# %%\nprint(1)\n\n# %%\n# %%step make"))
    after = {cell.source: cell.id for cell in read_notebook(path).cells}
    assert {**after, **before} == after
    assert len(set(after.values())) == len(after)


def test_equal_cells_have_different_ids(tmp_path):
    path = tmp_path / "work.py"
    path.write_text("# %%\nprint(1)\n\n# %%\nprint(1)\n")
    first, second = read_notebook(path).cells
    assert second.id == f"{first.id}-2"


@pytest.mark.parametrize(
    "name, text, said_",
    [
        ("plain.py", "import os\nprint(os.sep)\n", "is a Python script, not a notebook"),
        ("README.md", "# Title\n\n```python\nx = 1\n```\n", "is a text, not a notebook"),
        ("other.qmd", "---\ntitle: x\n---\n\n```{python}\nx = 1\n```\n", "reads .ipynb, .py and .md"),
        ("empty.py", "", "is a Python script, not a notebook"),
        ("conflict.py", "# %%\nx = 1\n<<<<<<< HEAD\n", "line 3: there is a merge conflict"),
        ("header.py", "# ---\n# jupyter:\n#   - [\n# ---\n\n# %%\nx = 1\n", "jupytext cannot read"),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, name, text, said_):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(NotebookUnreadable, match=said_) as raised:
        read_notebook(path)
    assert raised.value.hint


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes(b"# %%\nx = '\xe4'\n")
    with pytest.raises(NotebookUnreadable, match="not UTF-8"):
        read_notebook(path)


def test_a_missing_text_notebook_gets_the_nearest_name(tmp_path):
    (tmp_path / "analysis.py").write_text(PERCENT)
    with pytest.raises(NotebookUnreadable) as raised:
        read_notebook(tmp_path / "analysi.py")
    assert "analysis.py" in raised.value.hint


def test_without_jupytext_the_error_says_what_to_install(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(PERCENT)
    code = (
        "import sys; sys.modules['jupytext'] = None\n"
        "from nbpipe.cli import main\n"
        f"main(['plan', {str(path)!r}, '--workspace', {str(tmp_path / 'w')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'nbpipe[jupytext]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_one_module_imports_jupytext():
    """The package has one place for it, so that everything else works without."""
    folder = Path(nbpipe.__file__).parent
    importing = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            importing |= {path.stem for name in names if name.split(".")[0] == "jupytext"}
    assert importing == {"text_notebook"}


@pytest.mark.kernel
@pytest.mark.slow
def test_a_text_notebook_is_linted_fixed_run_and_reused(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(PERCENT)
    code, text = said("lint", str(path))
    assert code == 2
    assert "`x` is an output of `make`" in text
    said("lint", str(path), "--fix")
    assert path.read_text() == PERCENT.replace("#| out: y\n", "#| in: x\n#| out: y\n")
    assert said("run", str(path))[0] == 0
    assert said("run", str(path), "-p", "rate=2")[0] == 0
    assert "2 reused" in said("run", str(path), "-p", "rate=1")[1]
    assert sorted(tmp_path.glob(".nbpipe/runs/*/make/*/notebook.ipynb"))
    path.rename(tmp_path / "renamed.py")
    assert "its history continues" in said("plan", str(tmp_path / "renamed.py"))[1]
    assert said("logs", str(tmp_path / "renamed.py"), "make")[0] == 0


def test_of_two_text_notebooks_that_look_like_one_that_is_gone_neither_is_taken_for_it(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(PERCENT.replace("#| out: y\n", "#| in: x\n#| out: y\n"))
    assert said("run", str(path))[0] == 0
    (tmp_path / "a.py").write_bytes(path.read_bytes())
    path.rename(tmp_path / "b.py")
    assert "a.py and b.py both look like work.py" in said("plan", str(tmp_path / "a.py"))[1]


def test_a_text_notebook_with_equal_names_of_steps_is_another_one(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(PERCENT.replace("#| out: y\n", "#| in: x\n#| out: y\n"))
    assert said("run", str(path))[0] == 0
    other = tmp_path / "other.py"
    other.write_text(path.read_text().replace("x = rate + 1", "x = rate * 7").replace("y = x * 2", "y = -x"))
    assert "copy" not in said("plan", str(other))[1]
    path.unlink()
    assert "history" not in said("plan", str(other))[1]


def test_unchanged_text_notebooks_are_read_from_the_cache_by_their_bytes(tmp_path):
    path = written(tmp_path, "percent")
    first = read_cached_notebook(path, tmp_path / "readings", keep=True)
    (entry,) = (tmp_path / "readings").iterdir()
    stored = entry.read_text()
    entry.write_text(stored.replace("math.sqrt", "math.cbrt"))
    assert "math.cbrt" in read_cached_notebook(path, tmp_path / "readings", keep=True).cells[2].source
    path.write_text(path.read_text().replace("rate = 1", "rate = 2"))
    assert read_cached_notebook(path, tmp_path / "readings", keep=False).cells[1].source == "rate = 2"
    path.write_text(path.read_text().replace("rate = 2", "rate = 1"))
    for damage in ("", "{", stored[:-9]):
        entry.write_text(damage)
        assert read_cached_notebook(path, tmp_path / "readings", keep=False) == first
