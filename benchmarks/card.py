"""The cost of a card for its kernel: the share of a core at eight updates a second of a run of many steps.

::

    python benchmarks/card.py [STEPS]

The kernel is real, so all messages are encoded and sent. Each update changes the status of a few steps, the log, and
the metrics and the progress of the step in focus.
"""

from __future__ import annotations

import sys

from jupyter_client.manager import start_new_kernel

PREPARE = '''
import dataclasses, time
from nbpipe.model import Reason, RunRecord, Status, ExecutionRecord
from nbpipe.views.card_state import CardState, StepActivity
from nbpipe.widget import CardWidget

COUNT = {count}
NAMES = [f"step_{{n}}" for n in range(COUNT)]
NEEDS = {{NAMES[n]: tuple({{NAMES[max(0, n - 1 - n % 7)], NAMES[n // 2]}} - {{NAMES[n]}}) for n in range(1, COUNT)}}
RUN = RunRecord("r", 1, "p", "/work/many.ipynb", "many", Status.RUNNING, 1000.0, None, {{}}, {{}}, None, "me")
WHY = (Reason("parameter:rate", "0.1", "0.2"),)

def record(n, at):
    """Return a step of a run in which twenty steps run at once."""
    status = Status.SUCCEEDED if n < at else Status.RUNNING if n < at + 20 else Status.QUEUED
    has_begun = status is not Status.QUEUED
    return ExecutionRecord(
        f"e{{n}}", "r", NAMES[n], n, status, int(has_begun), 1.5 if status is Status.SUCCEEDED else 0.0, 0.0,
        WHY if has_begun else (), (),
        None, None, None, (), None, 1000.0 + n if has_begun else None,
    )

def state(turn):
    at = 2 * turn % COUNT
    steps = tuple(record(n, at) for n in range(COUNT))
    tail = tuple(f"epoch {{n}}: the loss is {{1 / (n + 1):.6f}} and goes on" for n in range(10 * turn, 10 * turn + 200))
    points = tuple((float(n), 1 / (n + 1)) for n in range(turn + 100))
    focus = NAMES[min(at + 5, COUNT - 1)]
    activities = {{focus: StepActivity(tail, (turn, 400.0, "epochs"), {{"loss": points, "accuracy": points}})}}
    return CardState(RUN, steps, NEEDS, focus, activities, {{}}, {{}}, 1000.0 + turn / 8)

states = [state(turn) for turn in range(81)]
card = CardWidget(print)
card.show()
begin = time.perf_counter()
card.update(states[0])
first = time.perf_counter() - begin
cpu, wall = time.process_time(), time.perf_counter()
for turn in range(1, 81):
    card.update(states[turn])
    time.sleep(max(0.0, wall + turn / 8 - time.perf_counter()))
spent, took = time.process_time() - cpu, time.perf_counter() - wall
idle = time.process_time()
time.sleep(3)
rest = (time.process_time() - idle) / 3
print(f"first update {{first * 1000:.1f}} ms; then {{spent / 80 * 1000:.2f}} ms of CPU an update,")
print(f"{{spent / took:.1%}} of a core at 8 a second (of which {{rest:.1%}} is the idle kernel's own)")
'''


def main(count: int) -> None:
    """Measure and print the results."""
    manager, client = start_new_kernel()
    try:
        client.execute_interactive(PREPARE.format(count=count), timeout=120)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
