"""One gesture is one run: cells that are run together, or while a run goes on, and what their cards say."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from front_end_kernel import Kernel
from test_live_notebook import attempts, eventually, executions, go, opened, runs, slow

from nbpipe.model import Status

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

STEPS = 10
# Longer than the time after which an idle kernel has begun a new gesture.
PAUSE = "import time\ntime.sleep(0.5)"


@pytest.fixture
def kernel(tmp_path) -> Iterator[Kernel]:
    kernel = opened(tmp_path)
    yield kernel
    kernel.close()


def chapters() -> list[tuple[str, str]]:
    """Return a notebook of steps, most with an ordinary cell that takes a while before the next one."""
    cells = [("s0", "%%step s0 -o v0\nv0 = 0")]
    for n in range(1, STEPS):
        cells.append((f"s{n}", f"%%step s{n} -i v{n // 2} -o v{n}\nv{n} = v{n // 2} + 1"))
        if n % 3:
            cells.append((f"c{n}", PAUSE))
    return [*cells, cells[0]]


def all_over(folder: Path) -> bool:
    return all(status.terminal for status, _ in runs(folder))


def test_run_all_is_one_run_and_says_reused_only_of_what_is_older(kernel, tmp_path):
    cells = chapters()
    steps = [f"s{n}" for n in range(STEPS)]
    first = kernel.run_all(cells)
    eventually(lambda: all_over(tmp_path))
    assert runs(tmp_path) == [(Status.SUCCEEDED, dict.fromkeys(steps, Status.SUCCEEDED))]
    heads = [shown.text.splitlines()[0] for (cell, _), shown in zip(cells, first, strict=True) if cell in steps]
    assert [head.split(" in ")[0] for head in heads] == [f"✓ {step} succeeded" for step in (*steps, "s0")]
    assert all(head.endswith("run 1") for head in heads)
    assert heads[-1] == heads[0]
    assert not any(word in shown.text for shown in first for word in ("reused", "saved"))
    assert [attempts(tmp_path, step) for step in steps] == [1] * STEPS

    second = kernel.run_all(cells)
    eventually(lambda: all_over(tmp_path))
    assert runs(tmp_path)[1:] == [(Status.SUCCEEDED, dict.fromkeys(steps, Status.REUSED))]
    for (cell, _), shown in zip(cells, second, strict=True):
        if cell in steps:
            assert shown.text.startswith(f"↺ {cell} reused")
            assert "from run 1" in shown.text


def test_a_cell_edited_and_run_while_another_step_runs_joins_its_run(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    kernel.run("other", "%%step other -o x\nx = 1")
    assert kernel.run("read", "x").text == "1"
    eventually(lambda: attempts(tmp_path, "slow"))
    edited = kernel.execute("other", "%%step other -o x\nx = 2")
    # The older result is there, and is not what the cell stands for any more.
    assert kernel.execute("read", "x").text.endswith("2")
    kernel.run("other", "%%step other -o x\nx = 1")
    assert kernel.execute("read", "x").text.endswith("1")
    kernel.hear(lambda: not edited.is_live)
    go(tmp_path)
    assert kernel.run("slow", "slow_out").text.endswith("1")
    eventually(lambda: all_over(tmp_path))
    assert runs(tmp_path) == [(Status.SUCCEEDED, {"slow": Status.SUCCEEDED, "other": Status.SUCCEEDED})]
    assert attempts(tmp_path, "other") == 2


def test_a_cell_takes_the_newest_version_of_a_step_that_is_being_replaced(kernel, tmp_path):
    first = slow(tmp_path, value=1)
    kernel.execute("make", first)
    kernel.execute("take", "%%step take -i slow_out -o y\ny = slow_out * 10")
    eventually(lambda: attempts(tmp_path, "slow"))
    for source in (first.replace("= 1", "= 2"), first, first.replace("= 1", "= 3")):
        kernel.send("make", source)
        kernel.send("take", "%%step take -i slow_out -o y\ny = slow_out * 10")
    kernel.execute("done", "1")
    go(tmp_path)
    assert kernel.run("read", "slow_out, y").text.endswith("(3, 30)")
    eventually(lambda: all_over(tmp_path))
    assert [status for status, _ in runs(tmp_path)] == [Status.SUCCEEDED]
    assert executions(tmp_path, "slow")[-1] is Status.SUCCEEDED


def test_the_card_of_a_step_that_was_tried_again_tells_of_the_newest_attempt(kernel, tmp_path):
    source = (
        "%%step flaky -o x\n#| retries: 1\nimport pathlib\nimport nbpipe\n"
        f"again = pathlib.Path({str(tmp_path / 'again')!r})\n"
        "for n in range(3):\n    nbpipe.log_metric('loss', 50 + n if again.exists() else 90 + n)\n"
        "print('tried again' if again.exists() else 'tried first', flush=True)\n"
        "if not again.exists():\n    again.touch()\n    raise ValueError('not yet')\nx = 1"
    )
    text = kernel.run("flaky", source).text
    assert "2 attempts" in text
    assert "tried again" in text
    assert "tried first" not in text
    assert "52" in text
    assert "92" not in text


def test_a_failed_step_is_tried_again_by_its_own_cell_in_the_same_run(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    bad = "%%step bad -o x\nimport pathlib\nassert pathlib.Path('mended').exists(), 'not mended'\nx = 1"
    kernel.run("bad", bad)
    assert "not mended" in kernel.run("read", "x").error
    (tmp_path / "mended").touch()
    kernel.run("bad", bad)
    assert kernel.run("read", "x").text.endswith("1")
    go(tmp_path)
    eventually(lambda: all_over(tmp_path))
    assert runs(tmp_path) == [(Status.SUCCEEDED, {"slow": Status.SUCCEEDED, "bad": Status.SUCCEEDED})]
    assert executions(tmp_path, "bad") == [Status.FAILED, Status.SUCCEEDED]


def test_cells_that_join_a_run_whose_runner_is_killed_are_told_or_carried_out(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    eventually(lambda: attempts(tmp_path, "slow"))
    (runner,) = [each for each in kernel.processes() if "nbpipe.runner" in " ".join(each.cmdline())]
    kernel.execute("one", "%%step one -o a\na = 1")
    os.kill(runner.pid, signal.SIGKILL)
    kernel.execute("two", "%%step two -o b\nb = 2")
    assert kernel.run("read", "b").text.endswith("2")
    shown = kernel.run("first", "a")
    assert shown.text.endswith("1") or "lost" in shown.error or "ended" in shown.error
    assert "which is lost" in kernel.run("slow", "slow_out").error
    kernel.hear(lambda: not any(cell.is_live for cell in kernel.cells.values()))
    assert not psutil.pid_exists(runner.pid) or runner.status() == psutil.STATUS_ZOMBIE


def test_the_button_that_cancels_reaches_a_step_that_joined_and_nothing_else(kernel, tmp_path):
    kernel.execute("make", slow(tmp_path))
    kernel.execute("more", slow(tmp_path, "more"))
    eventually(lambda: attempts(tmp_path, "more"))
    press = (
        "from nbpipe.widget import CardWidget\nimport gc\n"
        "for card in [each for each in gc.get_objects() if isinstance(each, CardWidget)]:\n"
        "    if card._state is not None and card._state.focus == 'more':\n        card._act('cancel', '')"
    )
    kernel.execute("press", press)
    assert "which is cancelled" in kernel.run("read", "more_out").error
    go(tmp_path)
    assert kernel.run("fine", "slow_out").text.endswith("1")
    eventually(lambda: all_over(tmp_path))
    assert [steps for _, steps in runs(tmp_path)] == [{"slow": Status.SUCCEEDED, "more": Status.CANCELLED}]
