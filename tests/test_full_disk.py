"""F22: on a full disk a run succeeds or says so in one sentence; once there is space, everything works again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from full_disk import Disk, Need, needed, run_on_full_disk, small_disk
from random_corruption import NOTEBOOK, make_workspace

pytestmark = [pytest.mark.slow, pytest.mark.kernel, pytest.mark.cluster]


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with small_disk(tmp_path_factory.mktemp("full") / "disk") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def need(disk: Disk) -> Need:
    """Return how much a run needs."""
    return needed(disk)


@pytest.mark.parametrize("kind, level", [("space", 4), ("inodes", 0), ("inodes", 9)])
def test_f22_a_full_disk_is_told_and_harms_nothing(disk: Disk, need: Need, kind: str, level: int) -> None:
    found = run_on_full_disk(disk, kind, level, need)
    assert found.wrong == [], found.said


def test_f22_a_disk_that_is_full_at_the_second_run_is_told_and_harms_nothing(disk: Disk, need: Need) -> None:
    found = run_on_full_disk(disk, "space", 7, need, again=True)
    assert found.wrong == [], found.said


@pytest.mark.parametrize("verb", [("status", NOTEBOOK), ("runs", "--json"), ("plan", NOTEBOOK), ("verify",)])
def test_f22_output_that_cannot_be_written_is_told(tmp_path: Path, verb: tuple[str, ...]) -> None:
    project = make_workspace(tmp_path / "project")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nbpipe", *verb], cwd=project, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "standard output cannot be written: No space left on device" in done.stderr
