"""Temporary directories: private, named by their process, swept after its death, and never a stranger's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from other_user import STRANGER, needs_other_users

from nbpipe.data import private_directory
from nbpipe.data.private_directory import DASK, HERE, MEMORY


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Have a folder for temporary files of the test's own, as TMPDIR names one."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    before, tempfile.tempdir = tempfile.tempdir, None
    yield folder
    tempfile.tempdir = before


def of_a_dead_process(purpose: str) -> Path:
    """Have a process make a directory and die."""
    code = f"from nbpipe.data import private_directory as p; print(p.make({purpose!r}))"
    return Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_its_user_can_enter_it_whatever_the_umask(umask):
    before = os.umask(umask)
    try:
        made = [private_directory.make(DASK), private_directory.make_for_sockets()]
    finally:
        os.umask(before)
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in made} == {0o700}


@pytest.mark.parametrize("purpose", [DASK, HERE, MEMORY])
def test_that_of_a_dead_process_is_swept(purpose):
    made = of_a_dead_process(purpose)
    (made / "folder").mkdir()
    (made / "folder" / "file").touch()
    private_directory.sweep()
    assert not made.exists()


def test_that_of_a_living_process_stays():
    made = Path(private_directory.make(DASK))
    private_directory.sweep()
    assert made.exists()
    private_directory.remove(str(made))
    assert not made.exists()


@pytest.mark.parametrize(
    "name", [f"{DASK}{'9' * 30}-x", f"{DASK}{'9' * 10}-x", f"{DASK}-1-x", f"{DASK}x-y", DASK, "nbk"]
)
def test_a_planted_name_stops_nobody(temporary_folder, name):
    (temporary_folder / name).mkdir()
    private_directory.sweep()
    assert Path(private_directory.make(DASK)).is_dir()


def test_a_planted_link_is_not_followed(temporary_folder):
    """A link that bears the name of a dead process's directory and leads elsewhere."""
    precious = temporary_folder.parent / "precious"
    precious.mkdir()
    (precious / "file").touch()
    dead = of_a_dead_process(DASK)
    dead.rmdir()
    dead.symlink_to(precious)
    private_directory.sweep()
    assert (precious / "file").exists()
    assert dead.is_symlink()


def test_a_file_of_such_a_name_stays(temporary_folder):
    dead = of_a_dead_process(DASK)
    dead.rmdir()
    dead.touch()
    private_directory.sweep()
    assert dead.exists()


@needs_other_users
def test_a_directory_of_another_user_stays(temporary_folder):
    dead = of_a_dead_process(DASK)
    os.chown(dead, STRANGER.number, STRANGER.number)
    private_directory.sweep()
    assert dead.exists()


def test_a_folder_for_temporary_files_that_has_vanished_is_replaced(temporary_folder):
    assert tempfile.gettempdir() == str(temporary_folder)
    temporary_folder.rmdir()
    made = Path(private_directory.make(DASK))
    assert made.is_dir()
    assert temporary_folder not in made.parents
    private_directory.remove(str(made))


def test_sockets_have_a_short_path_where_the_folder_has_a_long_one(tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    tempfile.tempdir = str(long)
    made = private_directory.make_for_sockets()
    assert len(made) < 70
    private_directory.remove(made)
