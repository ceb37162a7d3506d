"""The cost of a live notebook: ``python benchmarks/live.py`` prints medians.

A real kernel receives cells as from a front end. Measured are how long the kernel is busy with a step cell (the first
one, later ones, one that joins or is reused), the time from a printed line to its display on the card, and the share of
a core that the kernel spends on watching a run of 300 steps. The time for an empty cell is printed for comparison.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from front_end_kernel import Kernel  # found by the line above

STEPS = 300


def main() -> None:
    """Measure and print all costs."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        kernel = Kernel(Path(folder))
        try:
            kernel.execute("load", "%load_ext nbpipe")
            busy(kernel)
            delays(kernel)
            watching(kernel)
        finally:
            kernel.close()


def busy(kernel: Kernel) -> None:
    """Print how long the kernel is busy with cells."""
    empty = [kernel.execute("empty", "1").seconds for _ in range(20)]
    first = kernel.execute("s0", "%%step s0 -o a0\na0 = 0").seconds
    later = [
        kernel.execute(f"s{n}", f"%%step s{n} -i a{n - 1} -o a{n}\na{n} = a{n - 1} + 1").seconds for n in range(1, 20)
    ]
    kernel.run("read", "a19")
    again = [kernel.run(f"s{n}", f"%%step s{n} -i a{n - 1} -o a{n}\na{n} = a{n - 1} + 1").seconds for n in range(1, 20)]
    print(f"an empty cell            {1000 * statistics.median(empty):7.1f} ms")
    print(f"a step cell, the first   {1000 * first:7.1f} ms")
    print(f"a step cell, later ones  {1000 * statistics.median(later):7.1f} ms (at most {1000 * max(later):.1f})")
    print(f"a step cell, unchanged   {1000 * statistics.median(again):7.1f} ms (at most {1000 * max(again):.1f})")


def delays(kernel: Kernel) -> None:
    """Print how long a line takes from the step to the card."""
    seconds: list[float] = []
    seen: set[str] = set()

    def note(message: dict[str, Any]) -> None:
        now = time.time()
        content = json.dumps(message["content"], default=str)
        seconds.extend(now - float(at) for at in re.findall(r"@at=(\d+\.\d+)", content) if at not in seen)
        seen.update(re.findall(r"@at=(\d+\.\d+)", content))

    kernel.hearers.append(note)
    body = "import time\nfor n in range(30):\n    print(f'@at={time.time()}', flush=True)\n    time.sleep(0.3)\nz = 1"
    kernel.run("print", f"%%step prints -o z\n{body}")
    kernel.hearers.remove(note)
    median, most = statistics.median(seconds), max(seconds)
    print(f"from a print to the card {median:7.3f} s (at most {most:.3f}, of {len(seconds)})")


def watching(kernel: Kernel) -> None:
    """Print the kernel's processor time for watching a run of many steps."""
    kernel.execute("manual", "%nbpipe defaults run=manual")
    for n in range(STEPS):
        kernel.execute(f"w{n}", f"%%step w{n} -o b{n}\nb{n} = {n}")
    process = psutil.Process(kernel.manager.provisioner.process.pid)
    sent = [0]

    def count(message: dict[str, Any]) -> None:
        sent[0] += message["msg_type"] == "comm_msg"

    kernel.hearers.append(count)
    shown = kernel.execute("run", "%nbpipe run")
    cpu, begin = process.cpu_times(), time.monotonic()
    kernel.hear(lambda: not shown.is_live)
    took, after = time.monotonic() - begin, process.cpu_times()
    spent = after.user + after.system - cpu.user - cpu.system
    print(f"a run of {STEPS} steps: {took:.1f} s, {sent[0] / took:.1f} messages a second, "
          f"{100 * spent / took:.1f} % of one core for the view")  # fmt: skip


if __name__ == "__main__":
    main()
