"""What all tests share: which real parts are here, and a summary that says which groups could not run."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings
from object_servers import azurite

# Kernels started by tests inherit the environment: without bytecode each would compile all its libraries again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A worker of pytest-xdist lacks what multiprocessing looks for before it starts a process.
sys.modules["__main__"].__dict__.setdefault("__spec__", None)

# A busy machine must not fail a property for being slow.
settings.register_profile("nbpipe", deadline=None)
settings.load_profile("nbpipe")


@pytest.fixture(autouse=True, scope="module")
def _process_left_as_it_was() -> Iterator[None]:
    """Require of each file of tests that it leaves to the next one what a process has only once."""
    before = (sys.modules["__main__"], Path.cwd())
    yield
    assert (sys.modules["__main__"], Path.cwd()) == before


def lacking_browser() -> str:
    """Get what a real JupyterLab in a real browser lacks here; empty when nothing."""
    if shutil.which("chromium") is None:
        return "there is no chromium on PATH (on Debian: apt install chromium)"
    missing = [name for name in ("jupyterlab", "playwright") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


def lacking_s3() -> str:
    """Get what real S3 servers lack here; empty when nothing."""
    missing = [name for name in ("moto", "obstore") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


# Each group's real part: whether it is here, and what its tests say when it is not.
GROUPS = {
    "kernel": (find_spec("ipykernel") is not None, "ipykernel is not installed"),
    "cluster": (find_spec("distributed") is not None, "distributed is not installed"),
    "browser": (not lacking_browser(), lacking_browser()),
    "postgres": (shutil.which("pg_ctl") is not None, "there is no pg_ctl on PATH"),
    "s3": (not lacking_s3(), lacking_s3()),
    "azure": (azurite() is not None, "there is no azurite-blob on PATH (npm install azurite), or no node"),
    "sftp": (find_spec("sshfs") is not None, "sshfs is not installed"),
    "gpu": (shutil.which("nvidia-smi") is not None, "there is no GPU (no nvidia-smi on PATH)"),
    "slow": (True, ""),
}

# How many tests of each group ran or were skipped, here or in a worker of pytest-xdist.
REPORTED: Counter[str] = Counter()


def pytest_collection_modifyitems(items) -> None:
    """Skip tests whose real part is missing, with the reason."""
    for item in items:
        for group, (present, reason) in GROUPS.items():
            if not present and item.get_closest_marker(group) is not None:
                item.add_marker(pytest.mark.skip(reason=f"{group}: {reason}"))


def pytest_runtest_logreport(report) -> None:
    """Count each test once."""
    if report.when == "setup":
        REPORTED.update(group for group in GROUPS if group in report.keywords)


def pytest_terminal_summary(terminalreporter) -> None:
    """Say for each group how many tests it has, or why they could not run."""
    terminalreporter.section("groups that need real parts")
    for group, (present, reason) in GROUPS.items():
        told = "run" if present else f"SKIPPED: {reason}"
        count = REPORTED[group]
        terminalreporter.write_line(f"{group:9} {count:4} tests {told}" if count else f"{group:9} none")
