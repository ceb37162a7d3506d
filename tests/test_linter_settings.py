"""Settings that keep linters off step cells: written beside what stands there, and enough for the real tools."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from notebook_author import write_notebook

from nbpipe.authoring.linter_settings import write_linter_settings
from nbpipe.authoring.notebook_linting import find_ruff

CELLS = ("import json\nimport  math", "%%step a -o x\nx = json.dumps( math.pi )", "%%step b -i x -o y\ny = x")


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]


def test_a_new_file_is_written_once(tmp_path):
    first = write_linter_settings(tmp_path)
    text = (tmp_path / "pyproject.toml").read_text()
    told = tomllib.loads(text)["tool"]

    assert told["ruff"]["lint"]["unfixable"] == ["F401"]
    assert told["ruff"]["lint"]["per-file-ignores"] == {"*.ipynb": ["F401", "F821"]}
    assert told["black"]["python-cell-magics"] == ["step", "nbstep"]
    assert "pyproject.toml" in first.wrote[0]
    assert write_linter_settings(tmp_path) == write_linter_settings(tmp_path)
    assert write_linter_settings(tmp_path).wrote == ()
    assert (tmp_path / "pyproject.toml").read_text() == text


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_what_stands_there_stays_to_the_byte(tmp_path, ending):
    lines = ["# mine", "[project]  # x", 'name = "p"', "", "[tool.ruff.lint]   # rules", 'select = ["ALL"]']
    mine = ending.join([*lines, "[tool.black]", "line-length=79"])
    path = tmp_path / "pyproject.toml"
    path.write_bytes(mine.encode())
    told = write_linter_settings(tmp_path)

    text = path.read_bytes().decode()
    assert told.missing == ()
    kept = iter(mine.split(ending))
    wanted = next(kept)
    for line in text.split(ending):
        wanted = next(kept, "") if line == wanted else wanted
    assert wanted == ""
    assert tomllib.loads(text)["tool"]["ruff"]["lint"]["select"] == ["ALL"]
    assert tomllib.loads(text)["tool"]["ruff"]["lint"]["unfixable"] == ["F401"]
    assert ("\r\n" in text) == (ending == "\r\n")


@pytest.mark.parametrize(
    "ruff, black",
    [
        (
            '[tool.ruff.lint]\nunfixable = ["F841"]\nper-file-ignores = {"*.ipynb" = ["E402"]}\n',
            "[tool.black]\npython-cell-magics = []\n",
        ),
        (
            '[tool.ruff]\nlint.unfixable = ["F841"]\nlint.per-file-ignores = {}\n',
            '[tool]\nblack = {python-cell-magics = ["x"]}\n',
        ),
    ],
)
def test_a_setting_of_the_authors_is_never_changed_and_told_instead(tmp_path, ruff, black):
    mine = ruff + black
    (tmp_path / "pyproject.toml").write_text(mine)
    told = write_linter_settings(tmp_path)

    assert (tmp_path / "pyproject.toml").read_text().startswith(mine)
    missing = "\n".join(told.missing)
    assert 'unfixable = ["F401"]' in missing
    assert '"*.ipynb" = ["F401", "F821"]' in missing
    assert 'python-cell-magics = ["step", "nbstep"]' in missing


def test_a_broken_file_is_left_alone(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[broken")
    told = write_linter_settings(tmp_path)

    assert (tmp_path / "pyproject.toml").read_text() == "[broken"
    assert "cannot be read" in told.missing[0]


def test_settings_are_written_where_the_tools_look_for_them(tmp_path):
    """A new file nearer by would hide the settings that count."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "ruff.toml").write_text("line-length = 100\n")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "p"\n')
    write_linter_settings(folder)

    assert tomllib.loads((tmp_path / "ruff.toml").read_text())["lint"]["unfixable"] == ["F401"]
    assert sorted(tomllib.loads((folder / "pyproject.toml").read_text())["tool"]) == ["black", "nbqa"]


def test_settings_outside_of_the_repository_are_only_told(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    told = write_linter_settings(folder)

    assert (tmp_path / "pyproject.toml").read_text() == "[tool.ruff]\nline-length = 100\n"
    assert sorted(tomllib.loads((folder / "pyproject.toml").read_text())["tool"]) == ["black", "nbqa"]
    assert len(told.missing) == 2


def test_the_real_ruff_keeps_the_imports_of_step_cells(tmp_path):
    ruff = find_ruff()
    if ruff is None:
        pytest.skip("ruff is not installed")
    path = write_notebook(tmp_path / "n.ipynb", CELLS)
    fixing = [ruff, "check", "--no-cache", "--fix", "--select", "F", "n.ipynb"]
    subprocess.run(fixing, cwd=tmp_path, check=False, capture_output=True)
    without = sources(path)[0]
    write_notebook(path, CELLS)
    write_linter_settings(tmp_path)
    done = subprocess.run(fixing, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert without == "", "ruff has learned to look into cells: is the guard still needed?"
    assert sources(path) == list(CELLS)
    assert done.returncode == 0, done.stdout


def test_the_real_black_formats_step_cells(tmp_path):
    black = shutil.which("black")
    if black is None:
        pytest.skip("black is not installed")
    path = write_notebook(tmp_path / "n.ipynb", CELLS)
    write_linter_settings(tmp_path)
    subprocess.run([black, "n.ipynb"], cwd=tmp_path, check=True, capture_output=True)

    assert sources(path)[:2] == ["import json\nimport math", "%%step a -o x\nx = json.dumps(math.pi)"]
