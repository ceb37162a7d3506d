"""What all tests share: which real parts are here, and a summary that says which groups could not run."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from importlib.util import find_spec

import pytest
from hypothesis import settings

# Kernels started by tests inherit the environment: without bytecode each would compile all its libraries again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine must not fail a property for being slow.
settings.register_profile("nbpipe", deadline=None)
settings.load_profile("nbpipe")


def lacking_browser() -> str:
    """Get what a real JupyterLab in a real browser lacks here; empty when nothing."""
    if shutil.which("chromium") is None:
        return "there is no chromium on PATH (on Debian: apt install chromium)"
    missing = [name for name in ("jupyterlab", "playwright") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


# Each group's real part: whether it is here, and what its tests say when it is not.
GROUPS = {
    "kernel": (find_spec("ipykernel") is not None, "ipykernel is not installed"),
    "cluster": (find_spec("distributed") is not None, "distributed is not installed"),
    "browser": (not lacking_browser(), lacking_browser()),
    "postgres": (shutil.which("pg_ctl") is not None, "there is no pg_ctl on PATH"),
    "gpu": (shutil.which("nvidia-smi") is not None, "there is no GPU (no nvidia-smi on PATH)"),
    "slow": (True, ""),
}

COLLECTED = pytest.StashKey[Counter[str]]()


def pytest_collection_modifyitems(config, items) -> None:
    """Skip tests whose real part is missing, with the reason."""
    counts: Counter[str] = Counter()
    for item in items:
        for group, (present, reason) in GROUPS.items():
            if item.get_closest_marker(group) is None:
                continue
            counts[group] += 1
            if not present:
                item.add_marker(pytest.mark.skip(reason=f"{group}: {reason}"))
    config.stash[COLLECTED] = counts


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Say for each group how many tests it has, or why they could not run."""
    counts = config.stash.get(COLLECTED, Counter())
    terminalreporter.section("groups that need real parts")
    for group, (present, reason) in GROUPS.items():
        told = "run" if present else f"SKIPPED: {reason}"
        terminalreporter.write_line(f"{group:9} {counts[group]:4} tests {told}" if counts[group] else f"{group:9} none")
