"""The growth of a run's processes over many steps: ``python benchmarks/growth.py [STEPS]``.

A chain of minimal steps (500 by default) runs in one command. After every fiftieth step, the script prints the
descriptors, threads and MiB of the command and its worker, and the number of processes. None of these should grow: the
last line compares the end with the fiftieth step.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil

STEPS = 500
EVERY = 50
LOOKS = 40


@dataclass(frozen=True)
class Measurement:
    """The command and its worker at one moment; memory is their unique memory in MiB."""

    done: int
    seconds: float
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    memory: tuple[float, float]
    processes: int

    def line(self) -> str:
        """Return the measurement as a line of the table."""
        both = [f"{a:6.0f} {b:6.0f}" for a, b in (self.descriptors, self.threads, self.memory)]
        return f"{self.done:5} {self.seconds:6.0f} s  {'   '.join(both)}   {self.processes:6}"


def write(path: Path, steps: int) -> None:
    """Write a notebook with a chain of minimal steps."""
    cells = ["%%step s0 -o v0\nv0 = 0"]
    cells += [f"%%step s{n} -i v{n - 1} -o v{n}\nv{n} = v{n - 1} + 1" for n in range(1, steps)]
    nodes = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]  # theirs
    nbformat.write(nbformat.v4.new_notebook(cells=nodes), path)  # type: ignore[no-untyped-call]  # theirs


def done(database: Path) -> int:
    """Return how many steps have succeeded."""
    if not database.exists():
        return 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return int(connection.execute("SELECT count(*) FROM attempts WHERE status = 'succeeded'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def look(command: psutil.Process, count: int, started_at: float) -> Measurement:
    """Measure the processes of a run several times and return the minima, which are reached between steps."""
    looks = []
    for _ in range(LOOKS):
        below = command.children(recursive=True)
        worker = next(each for each in below if "spawn_main" in " ".join(each.cmdline()))
        looks.append((command.num_fds(), worker.num_fds(), command.num_threads(), worker.num_threads(), len(below) + 1))
        time.sleep(0.02)
    least = [min(each) for each in zip(*looks, strict=True)]
    memory = [each.memory_full_info().uss / (1 << 20) for each in (command, worker)]
    return Measurement(
        count, time.monotonic() - started_at,
        (least[0], least[1]), (least[2], least[3]), (memory[0], memory[1]), least[4],
    )  # fmt: skip


def followed(process: subprocess.Popen[bytes], database: Path, steps: int) -> list[Measurement]:
    """Measure a run until it has ended."""
    command, started_at, measurements = psutil.Process(process.pid), time.monotonic(), []
    while process.poll() is None:
        count = done(database)
        if count >= EVERY * (len(measurements) + 1) and count < steps:
            measurements.append(look(command, count, started_at))
            print(measurements[-1].line(), flush=True)
        time.sleep(0.05)
    print(f"exit code {process.returncode}, {time.monotonic() - started_at:.0f} s")
    return measurements


def main(steps: int) -> None:
    """Run the chain and print the measurements."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        path = Path(folder, "long.ipynb")
        write(path, steps)
        print(" done    time   descriptors       threads        own MiB     processes")
        print("               command worker  command worker  command worker")
        call = [sys.executable, "-m", "nbpipe", "run", str(path), "--json"]
        with subprocess.Popen(call, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            measurements = followed(process, Path(folder, ".nbpipe", "history.db"), steps)
    if len(measurements) > 1:
        first, last = measurements[0], measurements[-1]
        steps_between = last.done - first.done
        for name in ("descriptors", "threads", "memory"):
            command, worker = (b - a for a, b in zip(getattr(first, name), getattr(last, name), strict=True))
            print(f"{name} grown in {steps_between} steps: command {command:+.0f}, worker {worker:+.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
