"""A dead owner is known as dead at once, a living one is never taken for dead; a number used twice fools nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from nbpipe.run.process_identity import is_alive, this_owner

SLEEP = (
    "import sys; from nbpipe.run.process_identity import this_owner; "
    "print(this_owner('r1'), flush=True); sys.stdin.read()"
)


@pytest.fixture
def other():
    """Get another process and its owner text."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def changed(owner: str, place: int, value: str) -> str:
    """Get the owner with one of its parts changed."""
    parts = owner.split("|")
    parts[place] = value
    return "|".join(parts)


def test_this_process_is_alive():
    assert is_alive(this_owner("r1"))


def test_two_runs_of_one_process_are_two_owners():
    assert this_owner("r1") != this_owner("r2")


def test_another_process_lives_until_it_is_killed(other):
    process, owner = other
    assert is_alive(owner)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not is_alive(owner)


def test_a_process_that_nobody_waited_for_is_dead(other):
    """A zombie does no work."""
    process, owner = other
    os.kill(process.pid, signal.SIGKILL)
    ends = time.monotonic() + 10
    while is_alive(owner):
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_stopped_process_is_alive(other):
    """It may go on at any moment, and its lease says how long others wait."""
    process, owner = other
    process.send_signal(signal.SIGSTOP)

    assert is_alive(owner)
    process.send_signal(signal.SIGCONT)


def test_a_process_number_that_was_used_again_is_another_process():
    assert not is_alive(changed(this_owner("r1"), 3, "1"))


def test_what_ran_before_the_machine_was_started_is_dead():
    assert not is_alive(changed(this_owner("r1"), 1, "another boot"))


def test_only_a_lease_can_tell_about_another_machine():
    assert is_alive(changed(this_owner("r1"), 0, "elsewhere.example.org"))


@pytest.mark.parametrize("owner", ["", "me", "a|b", "||||", "a|b|c|d|e|f|g"])
def test_what_is_no_owner_is_dead(owner):
    assert not is_alive(owner)


@pytest.mark.parametrize("pid", ["", "x", "-1", "99999999999999", "²"])
def test_a_number_that_no_process_has_is_dead(pid):
    assert not is_alive(changed(this_owner("r1"), 2, pid))
