"""Whatever the umask says, what nbpipe makes is its owner's alone, and the group's where a folder is set up for it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_author import write_notebook

from nbpipe.data.atomic_file import write_file
from nbpipe.permissions import group_bits, make_folder, open_private, protect

OTHERS, GROUP = stat.S_IRWXO, stat.S_IRWXG
CELLS = [
    "%%step a -o x:pickle,folder:dir\nx = {1}\nfolder.mkdir(exist_ok=True)\n(folder / 'part').write_text('p')",
    "%%step b -i x -o y\nimport local\nprint(local.NAME)\nimport nbpipe\nnbpipe.log_metric('m', 1)\ny = len(x)",
    "%%step c -i y\nimport os\nos.write(2, b'to the log')\nheld = [y]\nheld[9]",
]


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def too_wide(folder: Path, forbidden: int) -> list[tuple[str, str]]:
    """Get what there is below a folder with permissions that it must not have."""
    listed = [(path, path.lstat().st_mode) for path in [folder, *folder.rglob("*")]]
    return [(str(path), oct(mode)) for path, mode in listed if not stat.S_ISLNK(mode) and mode & forbidden]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the umask of this process."""
    command = [sys.executable, "-m", "nbpipe", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["here", "detached"])
@pytest.mark.parametrize("mask", [0o000, 0o022], ids=oct)
@pytest.mark.parametrize("mode, forbidden", [(0o755, OTHERS | GROUP), (0o2770, OTHERS)], ids=["alone", "group"])
def test_a_workspace_after_a_run_is_closed_to_all_others(tmp_path, mask, mode, forbidden, detach):
    project = tmp_path / "project"
    project.mkdir()
    project.chmod(mode)
    (project / "local.py").write_text("NAME = 'local'\n")
    write_notebook(project / "n.ipynb", CELLS)
    before = os.umask(mask)
    try:
        run(project, "run", "n.ipynb", *detach)
        ended = run(project, "status", "n.ipynb", "--follow")
        run(project, "plan", "n.ipynb")
    finally:
        os.umask(before)
    assert "IndexError" in ended.stdout
    workspace = project / ".nbpipe"
    names = {path.name for path in workspace.rglob("*")}
    assert {"history.db", "trusted", "objects", "record.json.gz", "notebook.ipynb", "events.jsonl", "part"} <= names
    assert too_wide(workspace, forbidden) == []


def test_a_file_and_a_folder_are_their_owner_s(tmp_path, umask):
    tmp_path.chmod(0o755)
    make_folder(tmp_path / "a" / "b")
    write_file(tmp_path / "a" / "file", b"", durable=False)
    os.close(open_private(tmp_path / "a" / "log", os.O_WRONLY | os.O_APPEND))
    made = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "file", tmp_path / "a" / "log"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o700, 0o700, 0o600, 0o600]


@pytest.mark.parametrize(
    "mode, folder, file", [(0o2775, 0o2770, 0o660), (0o770, 0o770, 0o660), (0o2750, 0o2750, 0o640)]
)
def test_in_a_shared_folder_they_are_the_group_s_too(tmp_path, umask, mode, folder, file):
    tmp_path.chmod(mode)
    make_folder(tmp_path / "a" / "b")
    write_file(tmp_path / "a" / "file", b"", durable=False)
    made = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "file"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [folder, folder, file]


def test_what_must_stay_unchanged_may_only_be_read(tmp_path, umask):
    for mode, expected in ((0o755, 0o400), (0o2770, 0o440)):
        tmp_path.chmod(mode)
        write_file(tmp_path / "object", b"", durable=False)
        protect(tmp_path / "object", 0o400)
        assert stat.S_IMODE((tmp_path / "object").stat().st_mode) == expected


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2777])
def test_a_folder_that_everybody_may_write_is_not_shared(tmp_path, mode):
    tmp_path.chmod(mode)
    assert group_bits(tmp_path) == 0
    make_folder(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
