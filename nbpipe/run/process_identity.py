"""The identity of the process that drives a run, so that the claims of a dead process need no manual unlock."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from nbpipe.data.process_start import start_of


def this_owner(run: str) -> str:
    """Return the owner text of a run driven by this process: host, boot, process id, its start, run, user."""
    process = str(os.getpid()), start_of(os.getpid()) or ""
    return "|".join((socket.gethostname(), _boot(), *process, run, this_user().replace("|", "")))


def is_alive(owner: str) -> bool:
    """Return whether the owner may be alive; an owner on another host counts as alive until its lease expires."""
    parts = owner.split("|")
    if len(parts) != 6 or not parts[0]:
        return False
    host, boot, pid, started = parts[:4]
    if host != socket.gethostname():
        return True
    if boot != _boot() or not (pid.isascii() and pid.isdecimal()):
        return False
    return start_of(int(pid)) == started


def this_user() -> str:
    """Return the name of the current user, or the user id if it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
