"""Check that the cost of a run grows linearly with its steps: ``python benchmarks/scale.py [STEPS …]``.

For each size a notebook is generated and executed by an executor that starts no kernels, in a process of its own.
The script prints the processor time and the bytes on disk without outputs per step, and the growth of the driver's
memory from the first tenth of the steps to the last. Next to each value is its ratio to that of the previous size: if
costs are linear, the ratio is 1.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
from plan import Instant, notebook, used

from nbpipe.model import Job, Status
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_execution import execute_run

SIZES = (100, 1_000, 10_000)


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of a run: seconds and bytes per step, megabytes of memory per thousand steps."""

    seconds: float
    disk: float
    memory: float


class Watched(Instant):
    """An executor that records the memory of this process after a tenth of the attempts and after all of them."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.count = 0
        self.early = self.late = 0

    def submit(self, job: Job) -> None:
        """Publish the job's outputs."""
        super().submit(job)
        self.count += 1
        if self.count == self.steps // 10:
            self.early = psutil.Process().memory_info().rss
        if self.count == self.steps:
            self.late = psutil.Process().memory_info().rss


def carry_out(folder: Path, steps: int) -> None:
    """Run a notebook with this number of steps and write its costs to a file beside it."""
    folder.mkdir()
    path = folder / "pipeline.ipynb"
    notebook(path, steps)
    executor = Watched(steps)
    begin = used()
    with Workspace.open(folder) as workspace:
        report = execute_run(workspace, request_for(path), RunOptions(), executors=lambda: executor)
    seconds = used() - begin
    if report.run.status is not Status.SUCCEEDED:
        sys.exit(f"{steps} steps: the run ended {report.run.status}")
    memory = (executor.late - executor.early) / 1e6 / (0.9 * steps / 1000)
    costs = [seconds / steps, size(folder / ".nbpipe") / steps, memory]
    (folder / "costs.json").write_text(json.dumps(costs), encoding="utf-8")


def size(workspace: Path) -> int:
    """Return the bytes of all files of a workspace except outputs."""
    total = 0
    for place, folders, names in os.walk(workspace):
        if Path(place) == workspace and "store" in folders:
            folders.remove("store")
        if "staging" in folders:
            folders.remove("staging")
        total += sum((Path(place) / name).stat().st_size for name in names)
    return total


def costs_of(folder: Path, steps: int) -> Costs:
    """Return the cost of a run with this number of steps."""
    process = multiprocessing.get_context("spawn").Process(target=carry_out, args=(folder, steps))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)
    return Costs(*json.loads((folder / "costs.json").read_text(encoding="utf-8")))


def main() -> None:
    """Print a line for each size."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    before: Costs | None = None
    print(f"{'steps':>7} {'ms/step':>9} {'kB/step':>9} {'MB/1000':>9}   times the line before")
    with tempfile.TemporaryDirectory() as folder:
        for steps in sizes:
            costs = costs_of(Path(folder) / str(steps), steps)
            line = f"{steps:>7,} {costs.seconds * 1e3:>9.2f} {costs.disk / 1e3:>9.2f} {costs.memory:>9.2f}"
            if before is not None:
                line += f"   time {costs.seconds / before.seconds:.2f}, disk {costs.disk / before.disk:.2f}"
            print(line, flush=True)
            before = costs


if __name__ == "__main__":
    main()
