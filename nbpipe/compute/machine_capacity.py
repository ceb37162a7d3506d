"""What this machine has for steps: cores, memory, and GPUs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from nbpipe.model.compute import DEVICES

_QUERY_SECONDS = 10
_DEVICE_FILES = Path("/dev")
_GROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@cache
def memory() -> int:
    """Return the bytes of memory that this process and its children may use: the machine's, or its group's."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_group_limits()])


def gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of the NVIDIA GPUs that this process may use, as CUDA takes them; none if there are none.

    They are those that the environment names, as a scheduler has assigned them, or else all of the machine.
    """
    named = environ.get(DEVICES)
    if named is None:
        return _installed()
    ids = [each.strip() for each in named.split(",")]
    # CUDA ignores what follows an id that it does not know, and -1 is none.
    usable = ids[: next((place for place, each in enumerate(ids) if each in ("", "-1", "NoDevFiles")), len(ids))]
    return tuple(dict.fromkeys(usable)) if _installed() else ()


@cache
def _installed() -> tuple[str, ...]:
    """Return the indices of the machine's GPUs: one for each device file, or as the driver's own program lists them."""
    files = [each for each in _DEVICE_FILES.glob("nvidia[0-9]*") if each.name.removeprefix("nvidia").isdigit()]
    if files:
        # In a container the files may have other numbers than CUDA gives the devices.
        return tuple(map(str, range(len(files))))
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip().isdigit())


def _group_limits() -> list[int]:
    """Return the limits of the control groups that this process is in, with those around them."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
        inner = next((line.partition("::")[2] for line in lines if line.startswith("0::")), "")
        group = _GROUPS / inner.lstrip("/")
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / "memory.max").read_text(encoding="ascii")))
    return limits
