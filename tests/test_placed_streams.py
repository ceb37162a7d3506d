"""Whatever the author puts in the place of the standard streams, a step ends, and its outputs are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from sample_jobs import job

from nbpipe.execution.attempt.attempt_directory import AttemptDirectory
from nbpipe.execution.attempt.attempt_runner import run_attempt
from nbpipe.execution.kernels import standby_kernel
from nbpipe.model import JobOutput, Outcome, Status

pytestmark = pytest.mark.kernel

PLACED = """
import sys
class Placed:
    def write(self, text):
        {write}
    {more}
"""
WRITES_ONLY = PLACED.format(write="pass", more="")
BOTH = "sys.stdout = sys.stderr = Placed()\n"
FLUSHING = "def flush(self): raise "


@pytest.fixture(autouse=True)
def no_spare_left():
    yield
    standby_kernel.retire_kernels()


@pytest.fixture(params=["forked", "fresh"])
def kernels(request, monkeypatch):
    """Have kernels started both ways."""
    if request.param == "fresh":
        monkeypatch.setenv("NBPIPE_KERNELS", "fresh")


def run(folder: Path, *cells: str) -> tuple[Outcome, list[Any]]:
    asked = job(folder, *cells, outputs=[JobOutput("x", None)], timeout=20)
    outcome = run_attempt(asked)
    executed = AttemptDirectory(Path(asked.directory)).notebook
    return outcome, [output for cell in nbformat.read(executed, as_version=4).cells for output in cell.outputs]


@pytest.mark.parametrize(
    "code",
    [
        WRITES_ONLY + "sys.stdout = Placed()\nprint('said')",
        WRITES_ONLY + "sys.stderr = Placed()\nprint('said', file=sys.stderr)",
        PLACED.format(write="pass", more=FLUSHING + "KeyError(1)") + BOTH + "print('said')",
        PLACED.format(write="pass", more=FLUSHING + "SystemExit(3)") + BOTH + "print('said')",
        PLACED.format(write="raise OSError(5)", more="flush = None") + BOTH,
        PLACED.format(write="pass", more="isatty = fileno = encoding = property(lambda self: 1 / 0)") + BOTH,
        "import sys\nsys.stdout = sys.stderr = None\nprint('said')",
        "import io, sys\nsys.stdout = io.StringIO()\nsys.stdout.close()",
        "import sys\nsys.stdout.close()",
        "import sys\nsys.stdout = sys.stderr = 5",
        "import sys\nsys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__",
        "import sys\nsys.displayhook = sys.excepthook = None",
    ],
)
def test_a_stream_left_in_place_costs_no_output(tmp_path, code):
    outcome, _ = run(tmp_path, code + "\nx = {1}")
    assert (outcome.status, outcome.failure) == (Status.SUCCEEDED, None)
    assert [artifact.name for artifact in outcome.artifacts] == ["x"]
    assert outcome.seconds < 10


@pytest.mark.usefixtures("kernels")
def test_what_is_shown_beside_such_a_stream_is_kept(tmp_path):
    outcome, outputs = run(tmp_path, WRITES_ONLY + BOTH + "display('one')\n'two'", "print('gone')\nx = 1\ndisplay(3)")
    assert outcome.status is Status.SUCCEEDED
    assert [output.data["text/plain"] for output in outputs] == ["'one'", "'two'", "3"]


def test_what_such_a_stream_hands_on_belongs_to_its_cell(tmp_path):
    tee = PLACED.format(write="self.to.write(text.upper())", more="to = sys.stdout")
    outcome, outputs = run(tmp_path, tee + "sys.stdout = Placed()\nprint('one')", "print('two')\nx = 1")
    assert outcome.status is Status.SUCCEEDED
    assert [output.text for output in outputs] == ["ONE\n", "TWO\n"]


def test_a_file_in_its_place_is_complete_when_its_cell_has_ended(tmp_path):
    outcome, _ = run(tmp_path, "import sys\nsys.stdout = open('log', 'w')\nprint('said')", "x = open('log').read()")
    assert outcome.status is Status.SUCCEEDED
    assert (tmp_path / "log").read_text() == "said\n"


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "code, told",
    [
        (WRITES_ONLY + BOTH + "1 / 0", "ZeroDivisionError: division by zero"),
        (WRITES_ONLY + BOTH + "x = (", "SyntaxError"),
        (
            "import io, sys\nsys.stdout = io.StringIO()\nsys.stdout.close()\nprint(1)",
            "ValueError: I/O operation on clo",
        ),
        (
            PLACED.format(write="raise OSError('no room')", more="") + BOTH + "ip = get_ipython()\n"
            "def hook():\n    1 / 0\nip.events.register('post_execute', hook)",
            "OSError: no room",
        ),
    ],
)
def test_an_error_beside_such_a_stream_is_told(tmp_path, code, told):
    outcome, _ = run(tmp_path, code)
    assert outcome.failure is not None
    assert outcome.failure.kind == "user"
    assert outcome.failure.message.startswith(told)
    assert outcome.seconds < 10


def test_a_flush_that_never_returns_is_waited_for_once_and_told(tmp_path):
    stuck = PLACED.format(write="pass", more="def flush(self): import time; time.sleep(10**6)")
    outcome, _ = run(tmp_path, stuck + "sys.stdout = Placed()\nprint('said')", "print('more')", "x = {1}\ndisplay(3)")
    assert outcome.status is Status.SUCCEEDED
    assert [note for note in outcome.notes if "flush" in note] == ["sys.stdout.flush() did not return within 3 s"]
    assert outcome.seconds < 10


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.close(0); os.close(1); os.close(2)",
        "import os\nnowhere = os.open(os.devnull, os.O_WRONLY)\nfor n in (0, 1, 2): os.dup2(nowhere, n)",
        "import os\nread, write = os.pipe()\nos.dup2(write, 1)\nos.write(1, b'x' * 60_000)\nprint('said')",
        "import os, tempfile\nos.chdir(tempfile.mkdtemp())\nos.rmdir(os.getcwd())",
        "import os\nos.environ.clear()\nos.umask(0o777)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()",
        "import atexit, time\natexit.register(time.sleep, 1000)",
        "import logging\nlogging.basicConfig(stream=open('/dev/full', 'w'))\nlogging.warning('lost')",
    ],
)
def test_what_a_cell_does_to_its_process_costs_no_output(tmp_path, code):
    outcome, _ = run(tmp_path, code, "x = {1}\nprint('end')")
    assert (outcome.status, outcome.failure) == (Status.SUCCEEDED, None)
    assert outcome.seconds < 10


@pytest.mark.parametrize(
    "code, kind",
    [
        ("import os\nos.closerange(3, 4096)", "kernel"),
        ("import asyncio\nasyncio.get_event_loop().stop()", "kernel"),
        ("get_ipython().display_formatter = None\n5", "user"),
        ("class Odd:\n    def __repr__(self): raise SystemExit(3)\nOdd()", "user"),
        ("get_ipython().display_pub = None\ndisplay(4)", "user"),
        ("get_ipython().showtraceback = lambda *a, **k: 1 / 0\nraise KeyError('own')", "user"),
        ("import sys\nsys.settrace(lambda *a: 1 / 0)", "user"),
    ],
)
def test_what_a_cell_does_to_its_kernel_ends_the_step_with_a_word(tmp_path, code, kind):
    outcome, _ = run(tmp_path, code, "x = {1}\nprint('end')")
    assert outcome.failure is not None
    assert (outcome.failure.kind, bool(outcome.failure.message)) == (kind, True)
    assert outcome.seconds < 10


@pytest.mark.parametrize(
    "code", ["del builtins.len", "builtins.isinstance = builtins.print = None",
             "for name in ('len', 'type', 'hasattr', 'Exception', 'open'):\n    delattr(builtins, name)"],
)  # fmt: skip
@pytest.mark.usefixtures("kernels")
def test_a_step_that_spoils_built_in_functions_ends_and_keeps_its_outputs(tmp_path, code: str):
    outcome, _ = run(tmp_path, f"import builtins\nbuiltins.mine = 3\n{code}", "x = mine")
    assert (outcome.status, outcome.failure) == (Status.SUCCEEDED, None)
