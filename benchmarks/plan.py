"""The time of a plan when nothing has changed: ``python benchmarks/plan.py [STEPS …]``.

For each size a notebook is generated (layers of ten parallel steps with two inputs each, shared imports, a helper, a
parameter) and executed once by an executor that publishes artifacts without starting kernels, so that history and
store are real. The script measures ``nbpipe plan`` as a command, compared with the same command on a notebook of one
step (the start-up), and each phase of the planning in this process. Processor time is printed besides wall time,
because on a busy machine only processor time is meaningful.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbpipe.compute.report_queue import ReportQueue
from nbpipe.data.artifacts import publish
from nbpipe.data.materializer import DistantStore
from nbpipe.data.stores.worker_stores import stores_of
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import AttemptEnded, AttemptReport, AttemptStarted, Job, Outcome, ReuseVerdict, Status
from nbpipe.planning.plan import Planner, plan_steps
from nbpipe.resolve.resolved_request import resolve_request
from nbpipe.resolve.reuse_lookup import ReuseLookup
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_execution import execute_run

SIZES = (50, 1_000, 10_000)
LAYER = 10
REPEATS = 5
# A file's digest is remembered only when the file is older than the file system's tick.
_TICK = 2.5

SHARED = '''\
import math
from pathlib import Path

import numpy as np
import pandas as pd

SCALE = 10.0


def scaled(values, factor=SCALE):
    """Return the values, scaled by a factor and cut at the limit."""
    total = 0.0
    for value in values:
        total += min(abs(value) * factor, limit)
    return {"total": total, "root": math.sqrt(total)}
'''


class Instant:
    """An executor that publishes the outputs of attempts at once, without a kernel."""

    slots = 1

    def __init__(self) -> None:
        self._reports = ReportQueue()

    def submit(self, job: Job) -> None:
        """Publish the job's outputs; each contains the names of its step and its output."""
        store, staging = stores_of(job).store(job.output_store), Path(job.directory) / "staging"
        staging.mkdir(parents=True)
        artifacts = []
        for output in job.outputs:
            staged = staging / f"{output.name}.json"
            staged.write_text(json.dumps([job.step, output.name]), encoding="utf-8")
            artifacts.append(publish(store, staged, name=output.name, format="json"))
        self._reports.expect(job.attempt)
        self._reports.put(AttemptStarted(job.attempt, time.time()))
        stored = store.take_written() if isinstance(store, DistantStore) else ()
        outcome = Outcome(job.attempt, job.token, Status.SUCCEEDED, 0.01, "", tuple(artifacts), stored=stored)
        self._reports.put(AttemptEnded(outcome))

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Return the reports of attempts."""
        return self._reports.wait(timeout)

    def cancel(self, attempt: str) -> None:
        """Do nothing: an attempt has ended before it could be cancelled."""

    def close(self) -> None:
        """Do nothing: there is nothing to stop."""


def notebook(path: Path, steps: int) -> None:
    """Write a notebook with this number of steps."""
    sources: list[tuple[str, list[str]]] = [
        ("limit = 100.0  # the largest value that counts", ["parameters"]),
        (SHARED, []),
    ]
    sources += [(step_source(number), []) for number in range(steps)]
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code", "id": f"c{number}", "metadata": {"tags": tags}, "execution_count": None,
            "outputs": [], "source": source,
        }
        for number, (source, tags) in enumerate(sources)
    ]  # fmt: skip
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": cells}
    path.write_text(json.dumps(document), encoding="utf-8")


def step_source(number: int) -> str:
    """Return a step's cell: without inputs in the first layer, then with inputs from two steps of the layer before."""
    layer, place = divmod(number, LAYER)
    if layer == 0:
        return (
            f"%%step s{number} -o d{number}:json\n"
            f"rows = np.arange({number + 1} * 100).reshape(-1, 10)\n"
            f"d{number} = scaled(rows.mean(axis=1).tolist())"
        )
    first, second = ((layer - 1) * LAYER + (place + shift) % LAYER for shift in (0, 1))
    return (
        f"%%step s{number} -i d{first},d{second} -o d{number}:json\n"
        f"# Join what the two earlier steps have found, and scale it.\n"
        f'frame = pd.DataFrame([d{first}, d{second}]).assign(total=lambda f: f["total"] + {number})\n'
        f'summary = {{name: float(frame[name].mean()) for name in ("total", "root")}}\n'
        f'd{number} = scaled([summary["total"], summary["root"]], factor=0.5)'
    )


def used() -> float:
    """Return the processor time in seconds of this process and its children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usages)


def clocked(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return the median wall and processor seconds of some work."""
    times = []
    for _ in range(repeats):
        begin, used_before = time.perf_counter(), used()
        work()
        times.append((time.perf_counter() - begin, used() - used_before))
    return statistics.median(wall for wall, _ in times), statistics.median(cpu for _, cpu in times)


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor seconds of some work, the minimum of three, and its last result."""
    times, result = [], None
    for _ in range(3):
        begin = used()
        result = work()
        times.append(used() - begin)
    return min(times), result


def command(path: Path) -> None:
    """Plan a notebook with the command; every step must be reused."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path]))
    call = [sys.executable, "-m", "nbpipe", "plan", str(path), "--json"]
    done = subprocess.run(call, check=True, capture_output=True, env=environment)
    verdicts = {step["verdict"] for step in json.loads(done.stdout)["steps"]}
    if verdicts != {"reuse"}:
        sys.exit(f"{path.name}: not everything is reused: {sorted(verdicts)}")


def phases(path: Path) -> dict[str, float]:
    """Return the processor seconds of each phase of a plan: reading, parsing, pinning, deciding."""
    with Workspace.open(path.parent) as workspace:
        context = workspace.context
        load, saved = seconds_of(lambda: read_notebook(path))
        read, _ = seconds_of(lambda: parse_cells(saved.cells))
        request = request_for(path)
        resolve, resolved = seconds_of(
            lambda: resolve_request(
                request, context.layout, context.environ, context.digests, context.remote_inputs(context.environ)
            )
        )
        pipeline = workspace.catalog.pipeline_of(request).pipeline.id

        def decide() -> Any:
            lookup = ReuseLookup(context.history, context.materializer, context.digests, resolved.around, context.clock)
            return plan_steps(Planner(resolved.graph, resolved.circumstances, lookup.past(pipeline)), resolved.selected)

        verdicts, decisions = seconds_of(decide)
    if not all(isinstance(decision.verdict, ReuseVerdict) for decision in decisions.values()):
        sys.exit(f"{path.name}: not everything is reused")
    return {"load": load, "read": read, "link+pin": resolve, "decide": verdicts}


def prepare(folder: Path, steps: int) -> tuple[Path, float]:
    """Return a notebook whose steps all have results, and the time that it took to create them."""
    folder.mkdir()
    path = folder / "pipeline.ipynb"
    notebook(path, steps)
    with Workspace.open(folder) as workspace:
        report = execute_run(workspace, request_for(path), RunOptions(), executors=Instant)
    if report.run.status is not Status.SUCCEEDED:
        sys.exit(f"{steps} steps: the run ended {report.run.status}")
    return path, report.seconds


HEADS = ("steps", "command", "beyond start-up", "its processor", "per step", "load", "read", "link+pin", "decide",
         "first run")  # fmt: skip


def main(sizes: tuple[int, ...]) -> None:
    """Print a line for each size."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        one, _ = prepare(Path(folder) / "one", 1)
        time.sleep(_TICK)
        command(one)
        start, start_cpu = clocked(lambda: command(one), 2 * REPEATS)
        print(f"nbpipe plan, nothing changed; start-up (one step): {start:.2f} s, processor {start_cpu:.2f} s")
        print("  ".join(f"{head:>9}" for head in HEADS), flush=True)
        for steps in sizes:
            path, seconds = prepare(Path(folder) / str(steps), steps)
            time.sleep(_TICK)
            command(path)
            print(line(path, steps, seconds=seconds, start=start, start_cpu=start_cpu), flush=True)


def line(path: Path, steps: int, *, seconds: float, start: float, start_cpu: float) -> str:
    """Return the line of the table for a notebook."""
    took, cpu = clocked(lambda: command(path), REPEATS)
    inside = phases(path)
    cells = [
        f"{steps:,}", f"{took:.2f} s", f"{took - start:.2f} s", f"{cpu - start_cpu:.2f} s",
        f"{(cpu - start_cpu) / steps * 1e3:.2f} ms",
        *(f"{inside[name]:.2f} s" for name in ("load", "read", "link+pin", "decide")), f"{seconds:.1f} s",
    ]  # fmt: skip
    return "  ".join(f"{cell:>{max(9, len(head))}}" for head, cell in zip(HEADS, cells, strict=True))


if __name__ == "__main__":
    main(tuple(int(word) for word in sys.argv[1:]) or SIZES)
