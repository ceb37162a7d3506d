"""A process of another UNIX user, for tests of what a machine's other users can do: only root can make one."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

needs_other_users = pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED LOUDLY: only root can be other users")


class User(NamedTuple):
    """Somebody: a number, which is also that of their own group, and further groups."""

    number: int
    groups: tuple[int, ...] = ()


STRANGER = User(1703)


def as_user(user: User, function: Callable[[], Any]) -> Any:
    """Call a function in a process of that user; return what it returns, or raise what it raises."""
    with tempfile.TemporaryDirectory() as own:
        # Not everywhere may everybody write to the system's folder for temporary files.
        os.chown(own, user.number, user.number)
        return _in_a_process_of(user, function, own)


def _in_a_process_of(user: User, function: Callable[[], Any], own: str) -> Any:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            tempfile.tempdir = own
            os.setgroups(user.groups)
            os.setgid(user.number)
            os.setuid(user.number)
            os.umask(0o022)
            answer = (True, function())
        except BaseException as error:  # noqa: BLE001 - it is told to the parent, which raises it
            answer = (False, error)
        os.write(write, pickle.dumps(answer))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        went_well, value = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if not went_well:
        raise value
    return value
