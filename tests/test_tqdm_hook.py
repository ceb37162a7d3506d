"""tqdm's bars tell how far a step has come, exactly and whichever kind they are."""

from __future__ import annotations

import pytest
from notebook_author import Author

from nbpipe.compute.targets import default_target
from nbpipe.compute.thread_executor import ThreadExecutor
from nbpipe.execution.kernel_runtime import tqdm_hook
from nbpipe.model import StepEvent, StepEventKind
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_execution import execute_run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

KINDS = {
    "plain": "from tqdm import tqdm",
    "auto": "from tqdm.auto import tqdm",
    "notebook": "from tqdm.notebook import tqdm",
}


def heard_from(folder, code) -> list[StepEvent]:
    """Run one step and get the progress that it told of."""
    heard: list[StepEvent] = []
    executor = ThreadExecutor(default_target(1))
    with Workspace.open(folder) as workspace:
        report = execute_run(
            workspace, request_for(Author(folder, code).write()), RunOptions(), executors=lambda: executor,
            watch=lambda update: heard.extend(event for _, _, events in update.outputs for event in events),
        )  # fmt: skip
    executor.close()
    assert [step.failure for step in report.steps] == [None]
    return [event for event in heard if event.kind is StepEventKind.PROGRESS]


@pytest.mark.parametrize("imported", KINDS.values(), ids=KINDS)
def test_a_bar_tells_exact_numbers(tmp_path, imported):
    code = f"{imported}\nimport time\nfor x in tqdm(range(12_345), desc='rows'):\n    time.sleep(0.0001)"
    heard = heard_from(tmp_path, f"%%step s -o x\n{code}")

    assert {(event.content["total"], event.content["description"]) for event in heard} == {(12345.0, "rows")}
    done = [event.content["done"] for event in heard]
    assert done == sorted(done)
    assert done[-1] == 12345.0
    assert len(done) > 3


def test_of_bars_within_bars_the_outermost_tells(tmp_path):
    code = (
        "from tqdm import tqdm, trange\nimport time\n"
        "for x in tqdm(['a', 'b', 'c'], desc='outer'):\n    for y in trange(50, desc='inner', leave=False):\n"
        "        time.sleep(0.005)\n"
        "with tqdm(desc='after', disable=True) as bar:\n    bar.update(2)\n"
        "with tqdm(total=float('inf'), desc='endless') as bar:\n    bar.update(2)"
    )
    heard = heard_from(tmp_path, f"%%step s -o x\n{code}")

    assert {event.content["description"] for event in heard} == {"outer", "endless"}
    assert [event.content["done"] for event in heard if event.content["description"] == "outer"][-1] == 3.0
    assert (heard[-1].content["done"], heard[-1].content["total"]) == (2.0, None)


def test_a_bar_in_worker_processes_does_no_harm(tmp_path):
    code = (
        "from tqdm import tqdm\nimport multiprocessing as mp\n"
        "def work(n):\n    return sum(1 for _ in tqdm(range(n)))\n"
        "with mp.get_context('fork').Pool(2) as pool:\n    x = list(tqdm(pool.imap(work, [10, 20]), total=2))"
    )
    heard = heard_from(tmp_path, f"%%step s -o x\n{code}")

    assert {event.content["total"] for event in heard} == {2.0}
    assert heard[-1].content["done"] == 2.0


def test_a_bar_that_counts_something_odd_is_left_alone():
    told: list[tuple[float, float | None, str]] = []
    outermost = tqdm_hook._Outermost(lambda *given: told.append(given))

    class Bar:
        n = "many"
        total = None
        desc = None

    outermost.moved(Bar(), over=False)
    assert told == []
