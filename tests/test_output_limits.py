"""However much a step says or shows, its notebook stays small and true, and neither kernel nor worker grows."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_jobs import executed, job

from nbpipe.execution.attempt.attempt_runner import run_attempt
from nbpipe.execution.kernels import standby_kernel
from nbpipe.execution.output_limits.output_budget import CellOutputs, OutputBudget, error, shown
from nbpipe.execution.output_limits.output_limiter import RateLimitedStream, TokenBucket
from nbpipe.model import JobOutput, Outcome, Status

MEGABYTE = 1_000_000
LEFT_OUT = re.compile(r"\n\[nbpipe left out ([\d,]+) lines \(([\d,]+) characters\)\]\n")


@pytest.fixture(autouse=True)
def nothing_left():
    before = set(psutil.Process().children(recursive=True))
    yield
    standby_kernel.retire_kernels()
    assert set(psutil.Process().children(recursive=True)) <= before


def cells(folder: Path, outcome: Outcome) -> list[Any]:
    """Get the cells of a valid, small executed notebook."""
    assert executed(folder, outcome).stat().st_size < 10 * MEGABYTE
    notebook = nbformat.read(executed(folder, outcome), as_version=4)
    nbformat.validate(notebook)
    return list(notebook.cells)


def said(folder: Path, outcome: Outcome) -> str:
    outputs = [output for cell in cells(folder, outcome) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


class TestValve:
    """What leaves the kernel."""

    def test_an_allowance_grows_with_time(self):
        now = [0.0]
        bucket = TokenBucket(10, 2, lambda: now[0])
        assert bucket.take(10)
        assert not bucket.take(1)
        now[0] = 1.0
        assert (bucket.take(3), bucket.take(2)) == (False, True)
        now[0] = 100.0
        assert (bucket.take(11), bucket.take(10)) == (False, True)

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 900_000), st.booleans()), max_size=8))
    @settings(max_examples=30)
    def test_nothing_is_changed_while_there_is_room_and_all_is_counted_when_not(self, pieces):
        passed: list[str] = []
        valve = RateLimitedStream(passed.append, lambda: 0.0)
        texts = [letter * length + "\n" * ended for letter, length, ended in pieces]
        for text in texts:
            assert valve.write(text) == len(text)
        valve.release()
        whole, rest = "".join(texts), "".join(passed)
        while found := LEFT_OUT.search(rest):
            lines, characters = (int(number.replace(",", "")) for number in found.groups())
            assert whole[: found.start()] == rest[: found.start()]
            left, whole = whole[found.start() :][:characters], whole[found.start() + characters :]
            assert left.count("\n") == lines
            rest = rest[found.end() :]
        assert whole == rest

    def test_what_is_held_is_the_end(self):
        passed: list[str] = []
        valve = RateLimitedStream(passed.append, lambda: 0.0)
        for number in range(400_000):
            valve.write(f"{number:09}\n")
        valve.release()
        assert sum(map(len, passed)) < 2_300_000
        assert passed[0] == "000000000\n"
        assert passed[-1].endswith("000399999\n")


class TestKept:
    """What stays in the notebook."""

    @given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(0, 90_000)), max_size=30))
    def test_beginning_and_end_are_kept_and_the_middle_is_counted(self, pieces):
        outputs: list[Any] = []
        kept = CellOutputs(outputs, OutputBudget())
        for number, (name, length) in enumerate(pieces):
            kept.say(name, f"{number:05}" + "x" * length)
        kept.settle()
        whole = "".join(f"{number:05}" + "x" * length for number, (_, length) in enumerate(pieces))
        text = "".join(output["text"] for output in outputs)
        if len(whole) <= 500_000:
            assert text == whole
        else:
            first, marker, _ = text.partition("\n[nbpipe left out ")
            assert marker
            assert (len(first), first) == (250_000, whole[:250_000])
            assert text.endswith(whole[-250_000:])
            assert f"({len(whole) - 500_000:,} characters)" in text

    def test_what_the_kernel_left_out_counts_where_its_line_is_dropped(self):
        outputs: list[Any] = []
        kept = CellOutputs(outputs, OutputBudget())
        for text in ("x" * 300_000, "\n[nbpipe left out 1,000 lines (5,000 characters)]\n", "y" * 400_000):
            kept.say("stdout", text)
        kept.settle()
        assert "left out 1,000 lines" in "".join(output["text"] for output in outputs)

    def test_a_notebook_of_many_floods_has_an_end(self):
        budget, outputs = OutputBudget(), list[Any]()
        for _ in range(60):
            kept = CellOutputs(outputs, budget)
            kept.say("stdout", "\0\n" * 600_000)
            kept.settle()
        assert (
            len(nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])))
            < 10 * MEGABYTE
        )

    def test_what_is_too_large_to_show_is_told_by_its_size(self):
        small, large = {"data": {"text/plain": "1"}}, {"data": {"image/png": "x" * 5_000_000, "text/plain": "1"}}
        budget = OutputBudget()
        assert shown(small, budget) == small
        told = shown(large, budget)
        assert told is not None
        images = [shown({"data": {"image/png": "x" * 3_000_000}}, budget) for _ in range(9)]
        assert sum("image/png" in image["data"] for image in images if image) == 2

    def test_what_is_updated_counts_as_it_is_now(self):
        budget = OutputBudget()
        for _ in range(1_000):
            assert shown({"data": {"text/plain": "x" * 100_000}, "transient": {"display_id": "a"}}, budget)
        assert budget.left > 7_000_000

    def test_a_long_error_keeps_its_ends(self):
        told = error(
            {"ename": "E", "evalue": "a" + "x" * MEGABYTE + "z", "traceback": [f"{n}" * 9 for n in range(5_000)]}
        )
        assert (told["evalue"][0], told["evalue"][-1], len(told["evalue"]) < 60_000) == ("a", "z", True)
        assert (told["traceback"][0], told["traceback"][-1], len(told["traceback"])) == ("0" * 9, "4999" * 9, 101)


@pytest.mark.kernel
class TestSteps:
    """Real kernels that say too much."""

    @pytest.mark.slow
    def test_ten_gigabytes_of_prints(self, tmp_path):
        """F19, M7: memory and files stay flat."""
        code = "line = 'x' * 999_999 + '\\n'\nprint('first')\n"
        code += "for i in range(10_000):\n    print(line, end='')\nprint('last')"
        code += "\nimport resource\nassert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 400_000"
        before = psutil.Process().memory_info().rss
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.failure is None
        assert psutil.Process().memory_info().rss - before < 150 * MEGABYTE
        text = said(tmp_path, outcome)
        assert text.startswith("first\nxxx")
        assert text.endswith("xxx\nlast\n")
        counted = sum(int(found[2].replace(",", "")) for found in LEFT_OUT.finditer(text))
        assert abs(counted + len(LEFT_OUT.sub("", text)) - 10_000 * MEGABYTE) < 1_000
        assert sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file()) < 12 * MEGABYTE

    def test_a_flood_from_a_process_that_the_step_starts(self, tmp_path):
        code = "import subprocess\nsubprocess.run('yes | head -c 100000000', shell=True)\nprint('last')"
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.failure is None
        assert "left out" in said(tmp_path, outcome)
        assert all(log.stat().st_size < MEGABYTE for log in tmp_path.rglob("kernel.log"))

    def test_both_streams(self, tmp_path):
        code = "import sys\nfor i in range(300_000):\n    print('out', i)\n    print('err', i, file=sys.stderr)"
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.failure is None
        text = said(tmp_path, outcome)
        assert "left out" in text
        assert "err 299999" in text
        assert "out 299999" in text

    def test_flushed_lines_arrive_complete_and_soon(self, tmp_path):
        started = time.monotonic()
        outcome = run_attempt(job(tmp_path, "for i in range(20_000): print(i, flush=True)"))
        assert said(tmp_path, outcome).split() == [str(i) for i in range(20_000)]
        assert time.monotonic() - started < 10

    def test_things_that_are_shown(self, tmp_path):
        code = "from IPython.display import display, Image\nfor i in range(5_000): display(i)\n"
        code += "display({'image/png': 'x' * 6_000_000}, raw=True)\n'the end'"
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.failure is None
        outputs = [output for cell in cells(tmp_path, outcome) for output in cell.outputs]
        assert 900 < len(outputs) < 1_500
        assert "displayed outputs" in said(tmp_path, outcome)

    @pytest.mark.parametrize(
        "code",
        [
            "import os; os.write(1, bytes(range(256)) * 100)",
            "print('\\x00\\x01\\x1b[31mred\\x1b[0m\\x1b]0;title\\x07 \\u202e \\u2066 \\ud800')",
            "import sys; sys.stdout.write('\\r10%\\r20%\\b\\b'); sys.stderr.write('\\x1b[2J')",
            "print('é漢字🎉' * 1000)",
        ],
        ids=["bytes", "escapes", "progress", "letters"],
    )
    def test_what_is_odd_is_harmless(self, tmp_path, code):
        outcome = run_attempt(job(tmp_path, code, "print('after')"))
        assert outcome.failure is None
        assert "after" in said(tmp_path, outcome)

    def test_output_that_is_cleared_does_not_count(self, tmp_path):
        code = "from IPython.display import clear_output\nfor i in range(30):\n    print(f'{i} ' + 'x' * 50_000)\n"
        code += "    clear_output(wait=bool(i % 2))\nprint('end')"
        text = said(tmp_path, run_attempt(job(tmp_path, code)))
        assert text == "end\n"

    def test_an_exception_in_a_thread_is_a_note(self, tmp_path):
        """F21: the step succeeds, and says so."""
        code = "import threading\nthread = threading.Thread(target=lambda: 1 / 0, name='loader')\n"
        code += "thread.start(); thread.join()"
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.status is Status.SUCCEEDED
        assert outcome.notes == (
            "an exception ended the thread loader in the background: ZeroDivisionError: division by zero",
        )
        assert "ZeroDivisionError" in said(tmp_path, outcome)

    def test_what_a_forked_process_says_when_its_cell_has_ended_is_kept_with_it(self, tmp_path):
        """Here while the outputs are being saved; the last words of a pool can be as late."""
        code = "import multiprocessing, time\nfork = multiprocessing.get_context('fork')\n"
        code += "begun, said = fork.Event(), fork.Event()\n"
        code += "def speak():\n    begun.wait(60)\n    print('at last', flush=True)\n    said.set()\n"
        code += "fork.Process(target=speak).start()\n"
        code += "class Slow:\n    def __reduce__(self):\n        begun.set()\n        said.wait(60)\n"
        code += "        time.sleep(0.5)\n        return (dict, ())\nprint('first')\nx = Slow()"
        outcome = run_attempt(job(tmp_path, code, outputs=[JobOutput("x")]))
        assert outcome.failure is None
        (step,) = (cell for cell in cells(tmp_path, outcome) if cell.metadata.nbpipe.role == "step")
        assert [output.text for output in step.outputs] == ["first\nat last\n"]

    @pytest.mark.parametrize("kernels", ["forked", "fresh"])
    def test_s28_what_forked_processes_say_comes_through_no_port(self, tmp_path, monkeypatch, kernels):
        """A kernel listens for it on a port of this machine, which other users can fill."""
        monkeypatch.setenv("NBPIPE_KERNELS", kernels)
        code = "import multiprocessing, psutil\nmine = psutil.Process().net_connections('inet')\n"
        code += "print([c.laddr.port for c in mine if c.status == psutil.CONN_LISTEN])\n"
        code += "child = multiprocessing.get_context('fork').Process(target=print, args=('child',))\n"
        code += "child.start()\nchild.join()"
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.failure is None
        assert said(tmp_path, outcome).splitlines() == ["[]", "child"]

    def test_what_forked_processes_say_comes_once(self, tmp_path):
        """A pool that is ended at once may take some of it along, as in every kernel."""
        code = "import multiprocessing as m\nfor i in range(400_000): print('parent', i)\n"
        code += "def work(n): print(f'number-{n} ', end='', flush=True)\n"
        code += "with m.get_context('fork').Pool(2) as pool: pool.map(work, range(50))\nprint('\\nafter')"
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.failure is None
        text = said(tmp_path, outcome)
        lines, numbers = text.splitlines(), re.findall(r"number-\d+ ", text)
        assert len(numbers) == len(set(numbers))
        assert (lines.count("parent 399999"), lines[-1]) == (1, "after")
