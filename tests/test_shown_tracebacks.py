"""A traceback of a step shows the author's code and their libraries', and nothing of nbpipe."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from sample_jobs import executed, job

from nbpipe.execution.attempt.attempt_runner import run_attempt
from nbpipe.execution.kernels import standby_kernel
from nbpipe.model import InputKind, JobInput, JobOutput

pytestmark = pytest.mark.kernel

OURS = ("nbpipe/", "step_runtime", "step_observer", "step_api", "_nbpipe")


@pytest.fixture(autouse=True)
def no_spare_left():
    yield
    standby_kernel.retire_kernels()


@pytest.fixture(params=["forked", "fresh"], autouse=True)
def kernels(request, monkeypatch):
    if request.param == "fresh":
        monkeypatch.setenv("NBPIPE_KERNELS", "fresh")


@pytest.mark.parametrize(
    "code, said",
    [
        ("import no_such_module", "ModuleNotFoundError"),
        ("import os\nos.stat('/no/such/file')", "FileNotFoundError"),
        ("open('/no/such/file')", "FileNotFoundError"),
        ("open(data, 'w')", "PermissionError"),
        ("data.unlink()", "PermissionError"),
        ("import nbpipe\nnbpipe.log_metric('a', 'b')", "TypeError"),
        ("import importlib\nimportlib.import_module('no_such_module')", "ModuleNotFoundError"),
        ("try:\n    open(data, 'w')\nexcept OSError as error:\n    raise ValueError('mine') from error", "ValueError"),
        ("try:\n    import no_such_module\nexcept ImportError:\n    1 / 0", "ZeroDivisionError"),
        ("import threading\nx = threading.Lock()", "cannot be stored"),
        ("x_ = 1", "was not bound"),
    ],
)
def test_no_frame_of_ours_is_shown(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "data.csv").write_text("a\n")
    given = JobInput("data", InputKind.PATH, (str(tmp_path / "data.csv"),))
    outcome = run_attempt(job(tmp_path, code, inputs=[given], outputs=[JobOutput("x", None)]))
    assert outcome.failure is not None
    assert said in outcome.failure.traceback + outcome.failure.message
    shown = [output for cell in nbformat.read(executed(tmp_path, outcome), 4).cells for output in cell.outputs]
    texts = ["".join(output.traceback) for output in shown if output.output_type == "error"]
    assert texts
    for text in (outcome.failure.traceback, *texts):
        assert [word for word in OURS if word in text] == []


def test_an_error_of_a_value_that_cannot_be_shown_is_named(tmp_path: Path) -> None:
    """A kernel replies that nothing was raised, and shows the error all the same."""
    code = "class Odd:\n    def __repr__(self):\n        raise ValueError('odd')\nx = 1\nOdd()"
    outcome = run_attempt(job(tmp_path, code, outputs=[JobOutput("x", None)]))
    assert outcome.failure is not None
    assert "ValueError: odd" in outcome.failure.message
