"""The cost of a wide run and the time until its first step runs: ``python benchmarks/parallel.py [ROUNDS]``.

One step feeds 40 steps, which feed one step that reads all of their outputs; none computes anything. ``nbpipe run``
executes them as a command on two cores in an empty workspace. For comparison, the same rounds run papermill on
notebooks with one such cell, one after the other and two at a time in two processes; both are extrapolated to 42
notebooks. The start is the time from the start of the command until the first step's code runs, compared with
``python -m papermill``. The script prints the medians of the rounds and their ratios.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from steps import papermill, seconds, write

WIDE = 40
CORES = 2
STEPS = WIDE + 2
PAPERMILLS = 6
ROUNDS = 5


@dataclass
class Times:
    """The measured seconds of each kind, one per round."""

    run: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    papermill_start: list[float] = field(default_factory=list)
    one_by_one: list[float] = field(default_factory=list)
    two_at_once: list[float] = field(default_factory=list)


def pipeline(path: Path) -> None:
    """Write one source, many parallel steps, and one sink."""
    middle = [f"%%step m{number} -i x -o y{number}:json\ny{number} = x + {number}" for number in range(WIDE)]
    names = [f"y{number}" for number in range(WIDE)]
    sink = f"%%step sink -i {','.join(names)} -o total:json\ntotal = sum([{', '.join(names)}])"
    write(path, ["import time", "%%step source -o x:json\nx = time.time()", *middle, sink])


def environment() -> dict[str, str]:
    """Return an environment in which both commands find this nbpipe and may write bytecode."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path]))}


def limited() -> None:
    """Restrict this process and its children to the given number of cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def by_nbpipe() -> tuple[float, float]:
    """Return how long the run takes, and how long until its first step runs."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        path = Path(folder, "wide.ipynb")
        pipeline(path)
        call = [sys.executable, "-m", "nbpipe", "run", str(path), "--json"]
        started, started_at = time.perf_counter(), time.time()
        done = subprocess.run(call, check=True, capture_output=True, env=environment(), cwd=folder)
        took = time.perf_counter() - started
        report = json.loads(done.stdout)
        if report["status"] != "succeeded":
            sys.exit(f"the run ended {report['status']}")
        pulled = Path(folder, "x.json")
        call = [sys.executable, "-m", "nbpipe", "pull", str(path), "source.x", "--to", str(pulled)]
        subprocess.run(call, check=True, capture_output=True, env=environment(), cwd=folder)
        return took, json.loads(pulled.read_text(encoding="utf-8")) - started_at


def papermill_start() -> float:
    """Return the time from the start of papermill's command until the notebook's code runs."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        path, out = Path(folder, "step.ipynb"), Path(folder, "out.ipynb")
        write(path, ["import time\nprint(time.time())"])
        started_at = time.time()
        call = [sys.executable, "-m", "papermill", "--no-progress-bar", str(path), str(out)]
        subprocess.run(call, check=True, capture_output=True, env=environment())
        (output,) = json.loads(out.read_text(encoding="utf-8"))["cells"][0]["outputs"]
        return float("".join(output["text"])) - started_at


def execute(number: int) -> None:
    """Run one cell with papermill."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        path = Path(folder, "step.ipynb")
        write(path, [f"x = 1\ny = x + {number}"])
        papermill.execute_notebook(path, Path(folder, "out.ipynb"), progress_bar=False)


def main(rounds: int) -> None:
    """Print the cost of a wide run and of its start."""
    limited()
    times = Times()
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        # Both processes load their libraries before the measurements.
        list(pool.map(execute, range(2 * CORES)))
        for _ in range(rounds):
            took, start = by_nbpipe()
            times.run.append(took)
            times.start.append(start)
            times.papermill_start.append(papermill_start())
            one_by_one = seconds(lambda: [execute(number) for number in range(PAPERMILLS)])
            times.one_by_one.append(one_by_one / PAPERMILLS * STEPS)
            two_at_once = seconds(lambda: list(pool.map(execute, range(PAPERMILLS))))
            times.two_at_once.append(two_at_once / PAPERMILLS * STEPS)
    show(times, rounds)


def show(times: Times, rounds: int) -> None:
    """Print the medians and their ratios to nbpipe's."""
    run, start, theirs, one, two = (
        statistics.median(seconds)
        for seconds in (times.run, times.start, times.papermill_start, times.one_by_one, times.two_at_once)
    )
    print(f"1 → {WIDE} → 1 steps on {CORES} cores, median of {rounds} rounds")
    print(f"{'':44}{'seconds':>9}{'nbpipe is':>12}")
    print(f"{'nbpipe run, all to do':44}{run:9.2f}")
    print(f"{f'papermill {STEPS} times, one after the other':44}{one:9.2f}{run / one:10.3f} ×")
    print(f"{f'papermill {STEPS} times, two at a time':44}{two:9.2f}{run / two:10.3f} ×")
    print(f"{'nbpipe run, until the first step runs':44}{start:9.2f}")
    print(f"{'papermill, until the first cell runs':44}{theirs:9.2f}{start / theirs:10.3f} ×")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
