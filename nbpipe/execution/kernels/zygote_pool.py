"""Kernels forked from a zygote if that is equivalent, else started by command.

A worker has one zygote for each interpreter and each set of environment variables that matter when a process starts
(see :mod:`nbpipe.execution.kernels.zygote`), and all of them end with it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nbpipe.execution.kernels import supervisor_handle
from nbpipe.execution.kernels.import_graph_recorder import read_in_c
from nbpipe.execution.kernels.supervisor_handle import LaunchRequest, SupervisorHandle

# What may be loaded before a fork: importing it starts no threads, opens no device, and runs no parallel region.
# Excluded on purpose: polars (importing it starts a thread pool, whose threads a fork lacks), torch, tensorflow and jax
# (their pools, and CUDA, which does not survive a fork).
FORK_SAFE = frozenset({"matplotlib", "numpy", "pandas", "PIL", "pyarrow", "scipy", "sklearn"})

_LOG = logging.getLogger(__name__)
# A variable in the worker's environment: with ``fresh`` every kernel is started by its command.
_SETTING = "NBPIPE_KERNELS"
_LAUNCH = ("-m", "ipykernel_launcher")
_BOOT = (
    "import sys; '' in sys.path[:1] and sys.path.pop(0); sys.path.insert(0, sys.argv.pop(1)); "
    "from nbpipe.execution.kernels import zygote; sys.path.pop(0); zygote.main()"
)
# A zygote has to finish its current import before it can fork.
_PATIENCE_SECONDS = 20.0
# With more environments than this, the oldest zygote is ended.
_MOST = 6
_TRIES = 4
# Options of an interpreter whose value is a word of its own.
_WITH_VALUE = ("-X", "-W")
_PROGRAMS = ("python", "pypy")


@dataclass(frozen=True, slots=True)
class _Key:
    """What the kernels of one zygote have in common: the interpreter, and variables that it was started with.

    ``bare`` says that nothing but what every kernel needs is loaded in it.
    """

    interpreter: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    bare: bool


class _Zygote:
    """A handle of one zygote for the worker: ``importing`` is what it was importing according to its last message."""

    def __init__(self, key: _Key, launch: LaunchRequest, preload: Sequence[str]) -> None:
        self.importing = ""
        self.ready = False
        self.settled = False
        self._received = b""
        self.control, its = socket.socketpair()
        with its:
            self.process = subprocess.Popen(
                [*key.interpreter, "-c", _BOOT, supervisor_handle.ROOT, *launch.runtime, *preload],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=dict(launch.env),
                start_new_session=True,
            )

    def fork(self, launch: LaunchRequest, request: bytes) -> SupervisorHandle | None:
        """Return the supervisor of a new kernel; None if this zygote cannot fork any more."""
        try:
            supervisor = supervisor_handle.hand_over(self.control, launch.log)
        except OSError:
            return None
        if supervisor.wait_for_start(_PATIENCE_SECONDS):
            supervisor.say(request)
            return supervisor
        supervisor.let_go()
        return None

    def listen(self) -> None:
        """Read the zygote's messages."""
        while supervisor_handle.readable(self.control, 0):
            try:
                more = self.control.recv(4096)
            except ConnectionError:
                more = b""
            if not more:
                return
            *lines, self._received = (self._received + more).split(b"\n")
            for message in map(json.loads, lines):
                self.ready = True
                self.settled = message["event"] == "settled"
                self.importing = message["name"] if message["event"] == "importing" else ""

    def let_go(self) -> None:
        """Let it end when its kernels have ended."""
        self.control.close()

    def end(self) -> None:
        """End it now; its kernels have their own sockets."""
        self.control.close()
        self.process.kill()
        self.process.wait()


class ZygotePool:
    """All zygotes of this process; :meth:`start` may be called from any thread."""

    def __init__(self) -> None:
        self._here: dict[_Key, _Zygote] = {}
        self._leaving: list[_Zygote] = []
        self._refused: set[str] = set()
        self._hopeless: set[_Key] = set()
        self._lock = threading.Lock()

    def start(self, launch: LaunchRequest, preload: Sequence[str], local: Iterable[str]) -> SupervisorHandle:
        """Start a kernel; ``preload`` names what the run's steps import, ``local`` the author's own modules."""
        key = _key(launch.command, launch.env, preload)
        request = supervisor_handle.request(launch, local) if key else b""
        for _ in range(_TRIES):
            zygote = self._zygote(key, launch, preload) if key else None
            if zygote is None:
                break
            supervisor = zygote.fork(launch, request)
            if supervisor is not None:
                return supervisor
            self._give_up(zygote)
        return supervisor_handle.start(launch)

    def settled(self, command: tuple[str, ...], env: Mapping[str, str], preload: Sequence[str]) -> bool | None:
        """Return whether the zygote for such kernels has loaded everything; None if there is none."""
        key = _key(command, env, preload)
        with self._lock:
            zygote = self._here.get(key) if key else None
            if zygote is None or zygote.process.poll() is not None:
                return None
            zygote.listen()
            return zygote.settled

    def retire(self) -> None:
        """End all zygotes, and wait for that."""
        with self._lock:
            ending = [*self._here.values(), *self._leaving]
            self._here.clear()
            self._leaving.clear()
        for zygote in ending:
            zygote.end()

    def _zygote(self, key: _Key, launch: LaunchRequest, preload: Sequence[str]) -> _Zygote | None:
        with self._lock:
            self._leaving = [leaving for leaving in self._leaving if leaving.process.poll() is None]
            zygote = self._here.get(key)
            if zygote is None and key not in self._hopeless:
                if len(self._here) >= _MOST:
                    self._leave(next(iter(self._here)))
                zygote = self._here[key] = _Zygote(key, launch, tuple(self._safe(preload)))
            return zygote

    def _safe(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if name.partition(".")[0] in FORK_SAFE and name not in self._refused:
                yield name

    def _give_up(self, zygote: _Zygote) -> None:
        """Give up a zygote that failed; the next one omits what this one was importing."""
        with self._lock:
            zygote.listen()
            if zygote.importing:
                _LOG.info("`%s` is not loaded ahead of steps: loading it ended the process", zygote.importing)
                self._refused.add(zygote.importing)
            for key in [key for key, one in self._here.items() if one is zygote]:
                if not zygote.ready:
                    _LOG.info("kernels of %s are started afresh: its zygote does not start", key.interpreter[0])
                    self._hopeless.add(key)
                self._leave(key)

    def _leave(self, key: _Key) -> None:
        zygote = self._here.pop(key)
        zygote.let_go()
        self._leaving.append(zygote)


def _key(command: tuple[str, ...], env: Mapping[str, str], preload: Sequence[str] = ()) -> _Key | None:
    """Return the key of a kernel's zygote; None if the kernel must be started by its command."""
    if os.environ.get(_SETTING) == "fresh":
        return None
    at = command.index("-m") if "-m" in command else 0
    if sys.platform != "linux" or command[at : at + 2] != _LAUNCH or not _is_interpreter(command[:at]):
        return None
    # The hash seed is chosen when a process starts, so all forks of it would share what should be random.
    if not env.get("PYTHONHASHSEED", "").isdigit():
        return None
    if not all(place.startswith("/") for place in env.get("PYTHONPATH", "/").split(":")):
        return None
    return _Key(command[:at], tuple(sorted((name, env[name]) for name in read_in_c(env))), not preload)


@lru_cache(maxsize=64)
def _is_interpreter(start: tuple[str, ...]) -> bool:
    """Return whether a command line begins with an interpreter and its options: a wrapper acts on each process anew."""
    program, *options = start
    path = Path(program)
    after_one_with_value = [False, *(option in _WITH_VALUE for option in options)]
    only_options = all(
        option.startswith("-") or follows for option, follows in zip(options, after_one_with_value, strict=False)
    )
    try:
        with path.open("rb") as file:
            binary = file.read(2) != b"#!"
    except OSError:
        return False
    return only_options and binary and path.name.startswith(_PROGRAMS)


def forks(command: tuple[str, ...], env: Mapping[str, str]) -> bool:
    """Return whether such kernels can be forked at all."""
    return _key(command, env) is not None


HERE = ZygotePool()
