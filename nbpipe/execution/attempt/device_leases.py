"""Leases of GPUs: each device belongs to one attempt at a time, among all attempts of this user on this machine.

The file of a device names the processes that use it: the worker, and the supervisor of the attempt's kernel, which ends
after everything that the kernel has started. A device is free when all of them have ended, so one that a killed worker
leaves behind is free again as soon as nothing of the attempt runs any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from nbpipe.data import private_directory
from nbpipe.data.digests import bytes_digest, short_digest
from nbpipe.data.process_start import start_of
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import AttemptWaiting, Job
from nbpipe.model.compute import DEVICES

_FOLDER = "nbpipe-devices"
_LOCK = "lock"
_PAUSE_SECONDS = 0.1


@dataclass(slots=True)
class DeviceLease:
    """Devices that an attempt has until they are given back; ``files`` are those that say so."""

    devices: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    simulated: bool = False
    _supervisor: int | None = field(default=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return a kernel's environment with these devices visible, and no others."""
        return {**env, DEVICES: "" if self.simulated else ",".join(self.devices)}

    def used_below(self, supervisor: int | None) -> None:
        """Note the supervisor of the kernel that uses the devices, before the kernel runs the author's code."""
        self._supervisor = supervisor
        if supervisor is not None:
            for file in self.files:
                _write_users(file, (os.getpid(), supervisor))

    def give_back(self) -> None:
        """Make the devices free, or leave them to what is still running of the attempt."""
        files, self.files = self.files, ()
        ended = self._supervisor is None or start_of(self._supervisor) is None
        for file in files:
            if ended:
                file.unlink(missing_ok=True)
            elif self._supervisor is not None:
                _write_users(file, (self._supervisor,))


def lease_for(job: Job, report: Callable[[AttemptWaiting], None], stopped: Callable[[], bool]) -> DeviceLease:
    """Return a lease of as many devices as a job needs, waiting until they are free; an empty one if it is stopped.

    Raise StoreOutOfReach if what says which devices are free cannot be written.
    """
    target, needed, told = job.placement.target, job.placement.needs.gpu, ""
    devices = target.devices
    if not needed:
        return DeviceLease()
    while not stopped():
        with _locked(target.pool) as folder:
            files = {device: folder / short_digest(bytes_digest(device.encode()), 16) for device in devices}
            free = [device for device, file in files.items() if not _users(file)][:needed]
            if len(free) == needed:
                for device in free:
                    _write_users(files[device], (os.getpid(),))
                return DeviceLease(tuple(free), tuple(files[device] for device in free), target.simulated)
            others = sorted({user for file in files.values() for user in _users(file)})
        reason = _reason(needed, len(devices) - len(free), len(devices), others)
        if reason != told:
            report(AttemptWaiting(job.attempt, reason))
            told = reason
        time.sleep(_PAUSE_SECONDS)
    return DeviceLease()


def _reason(needed: int, taken: int, total: int, users: Sequence[int]) -> str:
    wanted = f"{needed} GPU{'s' if needed > 1 else ''}"
    named = f"process{'es' if len(users) > 1 else ''} {', '.join(map(str, users))}"
    return f"waiting for {wanted}: {taken} of {total} taken, by {named}"


@contextlib.contextmanager
def _locked(pool: str) -> Iterator[Path]:
    """Open the folder of a pool of devices, which one process at a time may change."""
    try:
        folder = Path(private_directory.shared(_FOLDER), pool)
        folder.mkdir(0o700, exist_ok=True)
        lock = (folder / _LOCK).open("a", encoding="ascii")
    except OSError as error:
        message = f"the leases of GPUs cannot be written: {error.filename}: {error.strerror}"
        raise StoreOutOfReach(message, "See to the folder for temporary files, or set TMPDIR to another.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _users(file: Path) -> list[int]:
    """Return the processes that use a device and have not ended."""
    try:
        listed = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return []
    # One that had ended when it was written has no start.
    return [pid for pid, start in listed if start is not None and start_of(pid) == start]


def _write_users(file: Path, users: Sequence[int]) -> None:
    text = json.dumps([[pid, start_of(pid)] for pid in users])
    draft = file.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}")
    draft.write_text(text, encoding="ascii")
    draft.replace(file)
