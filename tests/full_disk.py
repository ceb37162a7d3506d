"""A small disk of one's own, on which a run finds as much space, or as many inodes, as a test says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from notebook_author import write_notebook
from random_corruption import CELLS, NOTEBOOK, RIGHT

LEVELS = 20
_PAGE = 4096
_PLENTY = {"size": f"{64 << 20}", "nr_inodes": "20000"}
_AGAIN = (CELLS[0], *(f"{cell}\nagain = True" for cell in CELLS[1:]))
_STATUSES = {"load": "succeeded", "fit": "succeeded", "use": "succeeded", "broken": "failed"}


@dataclass(slots=True)
class Disk:
    """A file system in memory, mounted for a test."""

    folder: Path

    def limit(self, options: Mapping[str, str]) -> None:
        """Give it another size or another number of inodes."""
        words = ",".join(f"{name}={value}" for name, value in (_PLENTY | options).items())
        subprocess.run(["mount", "-o", f"remount,{words}", self.folder], check=True)

    def used(self) -> tuple[int, int]:
        """Get how many bytes and how many inodes are used."""
        at = os.statvfs(self.folder)
        return (at.f_blocks - at.f_bfree) * at.f_frsize, at.f_files - at.f_ffree


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount a disk at a new folder; skip the test where that is not allowed."""
    folder.mkdir()
    words = ",".join(f"{name}={value}" for name, value in _PLENTY.items())
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", words, "none", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("SKIPPED LOUDLY: only root can mount, where that is allowed")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@dataclass(slots=True)
class Found:
    """What became of the runs on one full disk."""

    level: str
    code: int = 0
    said: str = ""
    wrong: list[str] = field(default_factory=list)
    repaired: bool = False


def command(folder: Path, *words: str) -> tuple[int, str, str]:
    """Run the command line in a process of its own; get its exit code, its output and its errors."""
    done = subprocess.run(
        [sys.executable, "-m", "nbpipe", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


@dataclass(frozen=True, slots=True)
class Need:
    """How many bytes and inodes the first run in a workspace takes, and the second one, which runs all steps again."""

    first: tuple[int, int]
    second: tuple[int, int]


def needed(disk: Disk) -> Need:
    """Get how much the runs take."""
    project = disk.folder / "measured"
    project.mkdir()
    return Need(*(_most(disk, project, cells) for cells in (CELLS, _AGAIN)))


def _most(disk: Disk, project: Path, cells: Sequence[str]) -> tuple[int, int]:
    """Get the most that a run takes while it runs: the database's log is larger than what it leaves behind."""
    write_notebook(project / NOTEBOOK, cells)
    before, most = disk.used(), (0, 0)
    process = subprocess.Popen(
        [sys.executable, "-m", "nbpipe", "run", NOTEBOOK], cwd=project, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        most = tuple(map(max, zip(most, disk.used(), strict=True)))
        time.sleep(0.01)
    return most[0] - before[0], most[1] - before[1]


def run_on_full_disk(disk: Disk, kind: str, level: int, need: Need, *, again: bool = False) -> Found:
    """Run with a part of what a run needs; then with plenty, and look whether all is right.

    With ``again`` it is the second run in its workspace.
    """
    found, project = Found(f"{kind} {level} again" if again else f"{kind} {level}"), disk.folder / "project"
    shutil.rmtree(project, ignore_errors=True)
    project.mkdir()
    write_notebook(project / NOTEBOOK, CELLS)
    (bytes_, inodes) = need.second if again else need.first
    if again:
        command(project, "run", NOTEBOOK)
        write_notebook(project / NOTEBOOK, _AGAIN)
    used = disk.used()
    if kind == "space":
        disk.limit({"size": str((used[0] + bytes_ * level // LEVELS + _PAGE) // _PAGE * _PAGE)})
    else:
        disk.limit({"nr_inodes": str(used[1] + 1 + inodes * level // LEVELS)})
    found.code, _, found.said = command(project, "run", NOTEBOOK)
    _look(found, "run", found.code, found.said)
    for words in (("status", NOTEBOOK), ("plan", NOTEBOOK), ("verify",)):
        code, _, said = command(project, *words)
        _look(found, words[0], code, said)
    disk.limit({})
    _afterwards(found, project)
    return found


def _look(found: Found, verb: str, code: int, said: str) -> None:
    # The author's own errors are shown with IPython's traceback, which has no colon there.
    if "Traceback (most recent call last):" in said or code not in (0, 1, 2, 3):
        found.wrong.append(f"{verb} {code}: {said}")
    if code == 3 and not said.startswith("error: ") and "\nerror: " not in said:
        found.wrong.append(f"{verb} does not say what is wrong: {said}")


def _afterwards(found: Found, project: Path) -> None:
    code, out, said = command(project, "run", NOTEBOOK, "--json")
    _look(found, "run afterwards", code, said)
    steps = {step["name"]: step for step in json.loads(out)["steps"]} if code in (0, 1) else {}
    statuses = {name: step["status"].replace("reused", "succeeded") for name, step in steps.items()}
    if statuses != _STATUSES:
        found.wrong.append(f"afterwards {code}: {statuses} {said}")
    for name, value in RIGHT.items():
        for step in steps.values():
            uri = step.get("outputs", {}).get(name, {}).get("uri")
            if uri is not None and _value(Path(uri.removeprefix("file://"))) != value:
                found.wrong.append(f"{name} is {_value(Path(uri.removeprefix('file://')))!r}")
    code, _, said = command(project, "verify", "--full")
    if code != 0:
        found.repaired = True
        code, _, said = command(project, "verify", "--repair")
        _look(found, "repair", code, said)
        code, _, said = command(project, "verify", "--full")
        if code != 0:
            found.wrong.append(f"verify after repair {code}: {said}")


def _value(path: Path) -> object:
    return (path / "r.txt").read_text() if path.is_dir() else json.loads(path.read_text())
