"""Whatever is damaged in a workspace: nothing wrong is shown, every verb ends clearly, and a repair mends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_corruption import attack, make_workspace

CASES = 200


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace in which everything is right."""
    return make_workspace(tmp_path_factory.mktemp("base") / "project")


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_random_damage_is_never_wrong_and_never_beyond_repair(base: Path, tmp_path: Path, block: int) -> None:
    size = CASES // 10
    for seed in range(block * size, (block + 1) * size):
        folder = tmp_path / str(seed)
        folder.mkdir()
        result = attack(base, folder / "project", seed)
        assert (result.wrong, result.tracebacks, result.forever) == ([], [], []), (seed, result.damage)
