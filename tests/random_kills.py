"""A real run of which one process is killed at a random moment, and what is found afterwards."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from notebook_author import write_notebook

NOTEBOOK = "work.ipynb"
CELLS = (
    "import time",
    "%%step load -o table\ntime.sleep(0.2)\ntable = [1, 2, 3]",
    (
        "%%step fit -i table -o model,report:dir\ntime.sleep(0.3)\nmodel = [3 * each for each in table]\n"
        "(report / 'r.txt').write_text('fine')"
    ),
    (
        "%%step other -o text\nimport nbpipe\nfor at in range(200):\n    nbpipe.log_metric('loss', at)\n    print(at)\n"
        "text = 'said'"
    ),
    "%%step use -i model,text -o total\ntime.sleep(0.1)\ntotal = sum(model)",
)
RIGHT = {"table": [1, 2, 3], "model": [3, 6, 9], "report": "fine", "text": "said", "total": 18}
# How deep below the command a process is: the zygote is the worker's child, and forks supervisors with their kernels.
VICTIMS = ("command", "command", "worker", "zygote", "supervisor or kernel", "supervisor or kernel", "any")


@dataclass(slots=True)
class Found:
    """What became of one run: who was killed when, how the command ended, and what is wrong afterwards."""

    victim: str = "nobody"
    after: float = 0.0
    code: int = 0
    wrong: list[str] = field(default_factory=list)
    repaired: bool = False
    problems: str = ""


def kill_once(folder: Path, seed: int, longest: float) -> Found:
    """Run a notebook, kill a process of the run within so many seconds, and look at all that is left."""
    chance, found = random.Random(seed), Found()  # noqa: S311  # a choice, not a secret
    folder.mkdir()
    write_notebook(folder / NOTEBOOK, CELLS)
    _run_and_kill(folder, chance, found, longest)
    for words in (("status", NOTEBOOK), ("plan", NOTEBOOK), ("logs", NOTEBOOK, "load")):
        code, _, said = command(folder, *words)
        _look(found, words[0], code, said, allowed=(0, 2))
    _verify(found, folder)
    code, out, said = command(folder, "run", NOTEBOOK, "--json")
    _look(found, "run afterwards", code, said, allowed=(0,))
    if code == 0:
        _compare(found, out)
    _verify(found, folder)
    return found


def command(folder: Path, *words: str) -> tuple[int, str, str]:
    """Run the command line in a process of its own; get its exit code, its output and its errors."""
    done = subprocess.run(
        [sys.executable, "-m", "nbpipe", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


def _run_and_kill(folder: Path, chance: random.Random, found: Found, longest: float) -> None:
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "nbpipe", "run", NOTEBOOK], cwd=folder, stdout=said, stderr=said
        )
        found.after = chance.uniform(0, longest)
        time.sleep(found.after)
        found.victim = _kill(psutil.Process(process.pid), chance)
        found.code = process.wait(300)
        said.seek(0)
        text = said.read()
    if "Traceback" in text:
        found.wrong.append(f"the killed run: {text}")


def _kill(run: psutil.Process, chance: random.Random) -> str:
    """Kill a process of a run, or the one that carries it; return which."""
    role, pause = chance.choice(VICTIMS), chance.uniform(0, 2)
    if role != "command" and _await_victims(run, role):
        time.sleep(pause)
    among = _victims(run, role)
    victim = chance.choice(among) if among else run
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()
    return role if among else "command"


def _await_victims(run: psutil.Process, role: str) -> bool:
    """Wait until there is somebody to be killed; return False if the run ended before."""
    while run.is_running() and run.status() != psutil.STATUS_ZOMBIE:
        if _victims(run, role):
            return True
        time.sleep(0.05)
    return False


def _victims(run: psutil.Process, role: str) -> list[psutil.Process]:
    workers = [each for each in _below(run) if "spawn_main" in _words(each)]
    zygotes = [each for worker in workers for each in _below(worker)]
    deeper = [each for zygote in zygotes for each in _below(zygote, recursive=True)]
    by_role = {"worker": workers, "zygote": zygotes, "supervisor or kernel": deeper}
    return by_role.get(role, [*workers, *zygotes, *deeper] if role == "any" else [])


def _below(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return process.children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _look(found: Found, verb: str, code: int, said: str, *, allowed: tuple[int, ...]) -> None:
    if "Traceback" in said or code not in allowed:
        found.wrong.append(f"{verb} {code}: {said}")


def _verify(found: Found, folder: Path) -> None:
    code, out, said = command(folder, "verify", "--full")
    _look(found, "verify", code, said, allowed=(0, 1))
    if code != 0:
        found.repaired, found.problems = True, out + said
        code, _, said = command(folder, "verify", "--repair")
        _look(found, "repair", code, said, allowed=(0,))
        code, _, said = command(folder, "verify", "--full")
        _look(found, "verify after repair", code, said, allowed=(0,))


def _compare(found: Found, out: str) -> None:
    outputs = {name: each for step in json.loads(out)["steps"] for name, each in step["outputs"].items()}
    values = {name: _value(Path(each["uri"].removeprefix("file://"))) for name, each in outputs.items()}
    if values != RIGHT:
        found.wrong.append(f"values: {values}")


def _value(path: Path) -> object:
    return (path / "r.txt").read_text() if path.is_dir() else json.loads(path.read_text())
