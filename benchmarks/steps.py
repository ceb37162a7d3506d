"""The cost of a step: ``python benchmarks/steps.py [ROUNDS]``.

``nbpipe run`` executes a chain of 25 steps and a chain of one step. The difference, divided by 24, is the cost of one
more step with its inputs, its outputs, its record in history and its executed notebook. For comparison, the same rounds
run ``papermill.execute_notebook`` once for each of a few steps (with a kernel from the notebook's kernelspec), and as
the floor the same cells one after the other in one running kernel through nbclient. All of this is done for cells
without imports and for cells that import pandas and scikit-learn. The script prints the medians of the rounds, and the
memory of an idle kernel and a zygote: resident, proportional and unique.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nbpipe.execution.attempt import slow_import_blocker  # noqa: F401  # the figures should not include the cost of JupyterLab's packages

# isort: split
import nbformat
import papermill
import psutil
from nbclient import NotebookClient

from nbpipe.compute.environments import find_interpreter, kernel_environment
from nbpipe.execution.kernels import standby_kernel, zygote_pool
from nbpipe.execution.kernels.kernel_manager import StepKernelManager, StepKernelSpec

STEPS = 25
ROUNDS = 5
PAPERMILLS = 3
IMPORTS = {
    "nothing": "",
    "pandas, sklearn": "import pandas as pd\nfrom sklearn.linear_model import LinearRegression\n",
}
USES = {"nothing": "", "pandas, sklearn": "pd.DataFrame({'a': [1]}), LinearRegression()\n"}


def body(kind: str, number: int) -> str:
    """Return the code of one step of the chain."""
    before = f"x{number - 1}" if number else "0"
    return f"{USES[kind]}x{number} = {before} + 1\nprint(x{number})"


def write(path: Path, cells: list[str]) -> None:
    """Write a notebook."""
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]  # theirs
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=code, metadata=metadata)  # type: ignore[no-untyped-call]  # theirs
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]  # theirs


def pipeline(path: Path, kind: str, steps: int) -> None:
    """Write a chain of steps."""
    heads = [f"%%step s{n}" + (f" -i x{n - 1}" if n else "") + f" -o x{n}" for n in range(steps)]
    write(path, [IMPORTS[kind] or "1", *(f"{head}\n{body(kind, n)}" for n, head in enumerate(heads))])


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(kind: str, steps: int) -> float:
    """Return how long ``nbpipe run`` takes in an empty workspace."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        path = Path(folder, "chain.ipynb")
        pipeline(path, kind, steps)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path]))
        call = [sys.executable, "-m", "nbpipe", "run", str(path), "--json"]
        started = time.perf_counter()
        done = subprocess.run(call, check=True, capture_output=True, env=environment)
        took = time.perf_counter() - started
        if json.loads(done.stdout)["status"] != "succeeded":
            sys.exit("the chain did not succeed")
        return took


def by_papermill(kind: str) -> float:
    """Return how long papermill takes for one step."""
    with tempfile.TemporaryDirectory(prefix="nbpipe-benchmark-") as folder:
        path = Path(folder, "step.ipynb")
        write(path, [IMPORTS[kind] + body(kind, 0)])
        return seconds(lambda: papermill.execute_notebook(path, Path(folder, "out.ipynb"), progress_bar=False))


def by_one_kernel(kind: str) -> float:
    """Return how long one more cell takes in a running kernel."""

    def cells(number: int) -> float:
        code = [IMPORTS[kind] or "1", *(body(kind, n) for n in range(number))]
        nodes = [nbformat.v4.new_code_cell(cell) for cell in code]  # type: ignore[no-untyped-call]  # theirs
        notebook = nbformat.v4.new_notebook(cells=nodes)  # type: ignore[no-untyped-call]  # theirs
        client = NotebookClient(notebook, kernel_name="python3")
        with client.setup_kernel():
            client.execute_cell(notebook.cells[0], 0)
            return seconds(lambda: [client.execute_cell(cell, 1 + n) for n, cell in enumerate(notebook.cells[1:])])

    return cells(STEPS) / STEPS


def memory(process: psutil.Process) -> str:
    """Return a process's memory in MiB: resident, proportional, unique."""
    usage = process.memory_full_info()
    return "/".join(f"{amount / (1 << 20):.0f}" for amount in (usage.rss, usage.pss, usage.uss))


def memories() -> Iterator[str]:
    """Yield the memory of idle kernels and zygotes."""
    environ = kernel_environment(os.environ, ())
    for kind, preload in (("nothing", ()), ("pandas, sklearn", ("pandas", "sklearn.linear_model"))):
        with tempfile.TemporaryDirectory() as folder:
            wish = StepKernelSpec(find_interpreter(None).kernel, environ, folder, preload=preload)
            first = StepKernelManager(wish)
            first.launch()
            while not zygote_pool.HERE.settled(wish.command, environ, wish.preload):
                time.sleep(0.1)
            second = StepKernelManager(wish)
            second.launch()
            time.sleep(3)
            (zygote,) = [each for each in psutil.Process().children() if "zygote" in " ".join(each.cmdline())]
            supervisor = max(zygote.children(), key=psutil.Process.create_time)
            kernel_memory = memory(supervisor.children()[0])
            yield f"{kind}: zygote {memory(zygote)}, supervisor {memory(supervisor)}, kernel {kernel_memory}"
            for kernel in (first, second):
                kernel.end()
                kernel.log_file.close()
            standby_kernel.retire_kernels()


def main(rounds: int) -> None:
    """Print the cost of a step in each way."""
    print(f"{'imports':16}{'nbpipe':>10}{'papermill':>12}{'ratio':>8}{'floor':>10}   of {rounds} rounds, seconds")
    for kind in IMPORTS:
        ours, theirs, floor = [], [], []
        for _ in range(rounds):
            ours.append((run(kind, STEPS) - run(kind, 1)) / (STEPS - 1))
            theirs += [by_papermill(kind) for _ in range(PAPERMILLS)]
            floor.append(by_one_kernel(kind))
        mine, other, least = (statistics.median(each) for each in (ours, theirs, floor))
        print(f"{kind:16}{mine:10.3f}{other:12.3f}{mine / other:8.3f}{least:10.3f}", flush=True)
    print("memory while idle, MiB resident/proportional/own:")
    for line in memories():
        print(f"  {line}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
