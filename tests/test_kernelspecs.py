"""A kernelspec is honoured whole: its command line, wrappers included, its variables, its way of interrupting."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sample_jobs import KERNEL, executed, job

from nbpipe.execution.attempt.attempt_runner import run_attempt
from nbpipe.execution.kernels import standby_kernel, zygote_pool
from nbpipe.model import Status

pytestmark = pytest.mark.kernel

TELL = """
import json, os, sys
_ = open("told.json", "w").write(json.dumps({
    "level": os.environ.get("LEVEL"), "nice": os.nice(0), "forked": "nbpipe_warm" in sys.modules,
    "flags": [sys.flags.optimize, sys.flags.dev_mode], "argv": sys.orig_argv[1:3],
}))
"""


@pytest.fixture(autouse=True)
def no_spare_left():
    yield
    standby_kernel.retire_kernels()


def script(folder: Path, text: str) -> str:
    path = folder / "start kernel"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def told(folder: Path, kernel: tuple[str, ...], code: str = TELL, **more: Any) -> dict[str, Any]:
    """Get what a step tells of its kernel; the second step's, since the first may have started before a zygote."""
    for name in ("a1", "a2"):
        outcome = run_attempt(dataclasses.replace(job(folder, code, name=name), kernel=kernel, **more))
        assert outcome.failure is None, outcome.failure
    found: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return found


def test_a_script_that_sets_variables_and_starts_its_arguments(tmp_path):
    wrapper = script(tmp_path, 'export LEVEL=wrapped\nexec "$@"')
    assert told(tmp_path, (wrapper, *KERNEL))["level"] == "wrapped"


def test_a_script_that_stands_for_the_interpreter(tmp_path):
    wrapper = script(tmp_path, f'export LEVEL=wrapped\nexec {sys.executable} "$@"')
    assert told(tmp_path, (wrapper, *KERNEL[1:]))["level"] == "wrapped"


def test_a_script_that_names_the_module_itself_and_starts_it_as_a_child(tmp_path):
    wrapper = script(tmp_path, f'export LEVEL=wrapped\n{sys.executable} -m ipykernel_launcher -f "$1"')
    assert told(tmp_path, (wrapper, "{connection_file}"))["level"] == "wrapped"


@pytest.mark.parametrize("start, name, value", [(("env", "LEVEL=1"), "level", "1"), (("nice", "-n", "3"), "nice", 3)])
def test_a_program_that_starts_another(tmp_path, start, name, value):
    assert told(tmp_path, (*start, *KERNEL))[name] == value


@pytest.mark.parametrize(
    "options, flags", [(("-O",), [1, False]), (("-X", "dev"), [0, True]), (("-Xdev", "-OO"), [2, True])]
)
def test_options_of_the_interpreter(tmp_path, options, flags):
    there = told(tmp_path, (KERNEL[0], *options, *KERNEL[1:]))
    assert there["flags"] == flags
    assert there["forked"] == (sys.platform == "linux")


@pytest.mark.parametrize(
    "start, forked",
    [
        (KERNEL, True),
        ((KERNEL[0], "-W", "ignore", *KERNEL[1:]), True),
        (("env", *KERNEL), False),
        (("/bin/sh", "-c", *KERNEL), False),
        ((KERNEL[0], "wrapper.py", *KERNEL[1:]), False),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="zygotes are Linux's")
def test_only_a_plain_interpreter_is_forked(start, forked):
    assert zygote_pool.forks(start, {"PYTHONHASHSEED": "0"}) is forked


SLEEP = """
import pathlib, time
try:
    while True: time.sleep(0.05)
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
    raise
"""


@pytest.mark.parametrize("by_message", [False, True])
def test_a_kernel_is_interrupted_as_its_kernelspec_says(tmp_path, by_message):
    asked = dataclasses.replace(job(tmp_path, SLEEP, timeout=3), by_message=by_message)
    outcome = run_attempt(asked)
    assert (outcome.status, outcome.failure and outcome.failure.kind) == (Status.FAILED, "timeout")
    assert (tmp_path / "interrupted").exists()
    assert "KeyboardInterrupt" in executed(tmp_path, outcome).read_text()
