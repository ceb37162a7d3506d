"""The cost of a run in which nothing has changed: ``python benchmarks/reuse.py [GIGABYTES]``.

First, ``nbpipe run`` as a command on notebooks of 50 and 1,000 steps that all have results (created without kernels,
published into a real store), alternating with ``python -c "import sqlalchemy, fsspec"``: the ratio of the medians is
comparable between machines. Then a step with a folder of 10,000 files, and with one large file, as its input: seconds
and bytes read by the command (``rchar`` of its process, from the disk or from memory) for the first run, which executes
the step in a real kernel, and for the second and third run, in which it is unchanged.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from plan import prepare

SIZES = {50: 1.6, 1_000: 2.5}
REPEATS = 7
FILES = 10_000
GIGABYTES = 4
# A file's digest is remembered only when the file is older than the file system's tick.
_TICK = 2.5
_BLOCK = 1 << 24
BASE = ("-c", "import sqlalchemy, fsspec")


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a command: wall and processor seconds, bytes read, its output."""

    wall: float
    processor: float
    read: int
    output: str


def measured(*arguments: str) -> Cost:
    """Run Python as a process of its own and return its cost; a failure ends the benchmark."""
    # Bytecode is written: without it, every start would compile all libraries again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path]))
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        pid = os.posix_spawn(
            sys.executable, [sys.executable, *arguments], environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, to.fileno(), at) for at, to in ((1, output), (2, errors))],
        )  # fmt: skip
        # The process has ended but has not been reaped, so the system still has its counters.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - begin
        read = bytes_read(pid)
        _, status, used = os.wait4(pid, 0)
        output.seek(0)
        errors.seek(0)
        text, message = output.read().decode(), errors.read().decode()
    if status:
        sys.exit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}\n{message}")
    return Cost(wall, used.ru_utime + used.ru_stime, read, text)


def bytes_read(pid: int) -> int:
    """Return the bytes that a process, without its children, has read."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def run(notebook: Path, statuses: set[str]) -> Cost:
    """Run a notebook with the command; its steps must end with these statuses."""
    cost = measured("-m", "nbpipe", "run", str(notebook), "--json")
    ended = {step["status"] for step in json.loads(cost.output)["steps"]}
    if ended != statuses:
        sys.exit(f"{notebook}: the steps ended {sorted(ended)}, not {sorted(statuses)}")
    return cost


def unchanged(folder: Path) -> None:
    """Print the cost of an unchanged run for each size."""
    notebooks = {steps: prepare(folder / str(steps), steps) for steps in SIZES}
    time.sleep(_TICK)
    for path, _ in notebooks.values():
        run(path, {"reused"})
    base: list[Cost] = []
    costs: dict[int, list[Cost]] = {steps: [] for steps in SIZES}
    for _ in range(REPEATS):
        base.append(measured(*BASE))
        for steps, (path, _) in notebooks.items():
            costs[steps].append(run(path, {"reused"}))
    row("unchanged run", "seconds", "ratio", "goal", "processor", "ratio", "read", "made in")
    row(f'python {BASE[0]} "{BASE[1]}"', seconds(wall(base)), "", "", seconds(used(base)), "", size(base[-1].read), "")
    for steps, goal in SIZES.items():
        some = costs[steps]
        row(
            f"nbpipe run, {steps:,} steps", seconds(wall(some)), ratio(wall(some), wall(base)), f"≤ {goal}",
            seconds(used(some)), ratio(used(some), used(base)), size(some[-1].read), f"{notebooks[steps][1]:.1f} s",
        )  # fmt: skip


def large_inputs(folder: Path, gigabytes: float) -> None:
    """Print the cost of a folder of many files and of a large file."""
    (folder / "many").mkdir()
    for number in range(FILES):
        (folder / "many" / f"{number:05}.txt").write_text(f"{number}\n" * 100, encoding="ascii")
    row("")
    row("input of a step", "run", "seconds", "processor", "read")
    input_costs(folder, f"{FILES:,} files", "many=./many/", "len(list(many.iterdir()))")
    with (folder / "large.bin").open("wb") as file:
        for _ in range(round(gigabytes * 1e9 / _BLOCK)):
            file.write(os.urandom(_BLOCK))
    input_costs(folder, f"{gigabytes:g} GB file", "large=./large.bin", "large.stat().st_size")
    input_costs(folder, "none", "", "1")


def input_costs(folder: Path, called: str, source: str, code: str) -> None:
    """Print three runs of a step with this input: executed, unchanged, unchanged."""
    path = folder / f"{called.replace(' ', '-').replace(',', '')}.ipynb"
    step = f"%%step look {f'-i {source} ' if source else ''}-o n\nn = {code}"
    cell = {"cell_type": "code", "id": "c1", "metadata": {}, "execution_count": None, "outputs": [], "source": step}
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": [cell]}
    path.write_text(json.dumps(document), encoding="utf-8")
    time.sleep(_TICK)
    costs = [("first", run(path, {"succeeded"}))]
    time.sleep(_TICK)
    costs += [(name, run(path, {"reused"})) for name in ("second", "third")]
    for name, cost in costs:
        row(called, name, f"{cost.wall:.2f} s", f"{cost.processor:.2f} s", size(cost.read))


def wall(costs: list[Cost]) -> float:
    """Return the median wall time in seconds."""
    return statistics.median(cost.wall for cost in costs)


def used(costs: list[Cost]) -> float:
    """Return the median processor time in seconds."""
    return statistics.median(cost.processor for cost in costs)


def seconds(value: float) -> str:
    """Return seconds as text."""
    return f"{value:.3f} s"


def ratio(one: float, other: float) -> str:
    """Return a ratio as text."""
    return f"{one / other:.2f}"


def size(count: int) -> str:
    """Return bytes as text."""
    return f"{count / 1e6:,.1f} MB"


def row(first: str, *others: str) -> None:
    """Print a line of a table."""
    print(f"{first:36}" + "".join(f"{text:>12}" for text in others), flush=True)


def main(gigabytes: float) -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        unchanged(Path(folder))
        large_inputs(Path(folder), gigabytes)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else GIGABYTES)
