"""Commands whose standard streams are closed, full or read by nobody: their work and exit code are their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from notebook_author import write_notebook

STEP = "%%step a -o x\nprint('said')\nx = 1"
ENDS = (">&-", "2>&-", "<&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full", "| head -n 0")

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def real(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that runs steps."""
    return pytest.mark.kernel(pytest.mark.cluster(pytest.mark.slow(test)))


def _shell(folder: Path, words: str, end: str) -> subprocess.CompletedProcess[str]:
    command = f"set -o pipefail; '{sys.executable}' -m nbpipe {words} {end}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder whose notebook was run once."""
    folder = tmp_path_factory.mktemp("project")
    write_notebook(folder / "n.ipynb", [STEP])
    assert _shell(folder, "run n.ipynb", "").returncode == 0
    return folder


@needs_full
@real
@pytest.mark.parametrize("end", ENDS)
def test_a_run_ends_as_it_ends_whatever_its_streams_are(project: Path, end: str) -> None:
    ended = _shell(project, "run n.ipynb --force", end)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)
    assert "✓ succeeded" in _shell(project, "status n.ipynb", "").stdout


@needs_full
@real
@pytest.mark.parametrize("end", [">&-", ">/dev/full 2>&-"])
def test_every_verb_does_without_its_streams(project: Path, end: str) -> None:
    for words in ("plan n.ipynb", "status n.ipynb --json", "status n.ipynb --follow", "why n.ipynb a", "logs n.ipynb a",
                  "runs", "show 1", "compare 1 1", "verify", "debug n.ipynb a"):  # fmt: skip
        ended = _shell(project, words, end)
        assert (words, ended.returncode, "Traceback" in ended.stderr) == (words, 0, False)


@needs_full
@pytest.mark.parametrize("end", [">&-", ">&- 2>&- <&-", ">/dev/full", "| head -n 0"])
@pytest.mark.parametrize("words, code", [("--help", 0), ("lint n.ipynb", 0), ("fmt n.ipynb", 0), ("plam n.ipynb", 2)])
def test_an_exit_code_is_the_command_s_own(tmp_path: Path, words: str, code: int, end: str) -> None:
    write_notebook(tmp_path / "n.ipynb", [STEP])
    ended = _shell(tmp_path, words, end)
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False)


@needs_full
def test_output_that_is_lost_on_a_full_disk_is_told(tmp_path: Path) -> None:
    told = _shell(tmp_path, "--help", ">/dev/full").stderr
    assert told == "warning: standard output cannot be written: No space left on device\n"
    assert _shell(tmp_path, "--help", "| head -n 0").stderr == ""


@needs_full
def test_no_file_of_ours_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys; from nbpipe.cli.streams import lenient\n"
        "with lenient():\n"
        "    found = os.open('mine', os.O_CREAT | os.O_WRONLY)\n"
        "    print('lost'); sys.exit(found < 3)"
    )
    ended = subprocess.run(
        ["bash", "-c", '"$@" >&- 2>&- <&-', "-", sys.executable, "-c", program], cwd=tmp_path, timeout=60, check=False
    )
    assert (ended.returncode, (tmp_path / "mine").read_text()) == (0, "")
