"""What a run leaves on the disk beside its data: the same for each step, however many there are, and little."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted_executor import Bench

from nbpipe.codec import gunzip_text
from nbpipe.compute.targets import default_target
from nbpipe.compute.thread_executor import ThreadExecutor
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import execute_run

MODULE = "def more(x):\n    return x + 1\n" + "# as long as modules are\n" * 2_000
MOST_RECORD = 2_000
MOST_FOLDER = 5_500
MOST_STEP = 9_500
KERNEL_STEPS = 4
KEPT = ["job.json", "notebook.ipynb", "record.json.gz"]


def chain(folder: Path, steps: int) -> Bench:
    """Get steps that do next to nothing, and use a module of some size."""
    folder.mkdir()
    (folder / "tools.py").write_text(MODULE)
    heads = [f"%%step s{n}" + (f" -i x{n - 1}" if n else "") + f" -o x{n}:json" for n in range(steps)]
    bodies = [f"import tools\nx{n} = tools.more({f'x{n - 1}' if n else 0})" for n in range(steps)]
    return Bench(folder, [f"{head}\n{body}" for head, body in zip(heads, bodies, strict=True)])


def size(folder: Path) -> int:
    """Get the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def sizes(folder: Path, steps: int) -> tuple[int, int]:
    """Get how large records and database are after a run of so many steps."""
    bench = chain(folder, steps)
    bench.run()
    bench.executor.close()
    assert bench.ended() == "succeeded"
    return size(folder / ".nbpipe" / "runs"), (folder / ".nbpipe" / "history.db").stat().st_size


def test_each_step_more_costs_the_same_and_little(tmp_path):
    few, more, many = (sizes(tmp_path / str(steps), steps) for steps in (10, 30, 50))
    first, second = ([(b - a) / 20 for a, b in zip(x, y, strict=True)] for x, y in ((few, more), (more, many)))

    assert first[0] <= second[0] * 1.1
    assert second[0] <= first[0] * 1.1
    assert second[0] < MOST_RECORD
    assert second[0] + second[1] < MOST_STEP


@pytest.mark.kernel
def test_an_attempts_folder_is_small_and_its_modules_are_stored_once(tmp_path):
    bench = chain(tmp_path / "real", KERNEL_STEPS)
    executor = ThreadExecutor(default_target(1))
    with Workspace.open(bench.folder) as workspace:
        report = execute_run(workspace, bench.request(), RunOptions(), None, lambda: executor)
    executor.close()
    folders = [path.parent for path in (bench.folder / ".nbpipe" / "runs").glob("*/*/*/record.json.gz")]

    assert report.run.status.value == "succeeded"
    assert len(folders) == KERNEL_STEPS
    assert max(map(size, folders)) < MOST_FOLDER
    assert all(sorted(path.name for path in folder.iterdir()) == KEPT for folder in folders)
    texts = [(folder / name).read_text() for folder in folders for name in KEPT[:2]]
    assert MODULE not in "".join([*texts, *(gunzip_text((folder / KEPT[2]).read_bytes()) for folder in folders)])
    shared = {json.loads((folder / "job.json").read_text())["modules"][0]["stored"] for folder in folders}
    assert {(folders[0] / name).read_text() for name in shared} == {MODULE}
