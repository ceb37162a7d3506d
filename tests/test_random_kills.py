"""Whoever of a run is killed at whatever moment: nothing is damaged, nothing is wrong, and the next run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_kills import kill_once

pytestmark = [pytest.mark.slow, pytest.mark.kernel, pytest.mark.cluster]

# About how long the run takes.
_LONGEST = 6.0


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_a_random_moment_harms_nothing(tmp_path: Path, seed: int) -> None:
    found = kill_once(tmp_path / "project", seed, _LONGEST)
    assert found.wrong == [], (found.victim, found.after)
