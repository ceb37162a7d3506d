"""The time to hand a large frame from one step to the next: ``python benchmarks/handover.py [GIGABYTES]``.

For each format the frame is saved and stored as after a step, and loaded as before the next one; beside it stands the
physical floor: the same frame written by Arrow IPC, flushed to the disk, and read mapped. And the digest of a file of
four times the size, beside BLAKE3 over the mapped file. Each is measured in turn with its floor, and the ratio is the
median of theirs: other work on the machine slows both.
"""

from __future__ import annotations

import mmap
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from blake3 import blake3
from pyarrow import ipc

from nbpipe.data import formats
from nbpipe.data.artifacts import publish
from nbpipe.data.datastores import LocalStore
from nbpipe.data.digests import file_digest

REPEATS = 5
FORMATS = ("arrow", "parquet")
_COLUMNS = 16


def frame_of(count: int) -> pd.DataFrame:
    """Return a frame with about this number of bytes, most of them noise."""
    rows = count // (8 * _COLUMNS)
    noise = np.random.default_rng(1)
    return pd.DataFrame({f"c{number}": noise.random(rows) for number in range(_COLUMNS)})


def by_arrow(frame: pd.DataFrame, folder: Path) -> None:
    """Write the frame by Arrow IPC and read it mapped: less than that nobody can do."""
    path = folder / "floor.arrow"
    table = pa.Table.from_pandas(frame)
    with path.open("wb") as file:
        with ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())
    with pa.memory_map(str(path)) as mapped:
        _touch(ipc.open_file(mapped).read_all().to_pandas(split_blocks=True))
    path.unlink()


def by_format(frame: pd.DataFrame, folder: Path, format: str) -> None:
    """Save and store the frame as after a step, and load it as before the next."""
    staging, store = folder / "staging", folder / "store"
    staging.mkdir()
    saved = formats.save(frame, name="frame", format=format, folder=staging)
    local = LocalStore(store)
    output = publish(local, staging / saved.basename, name="frame", format=saved.format)
    _touch(formats.load(local.locate(output), saved.format))
    shutil.rmtree(staging)
    for each in [store, *store.rglob("*")]:
        if each.is_dir():
            each.chmod(0o700)
    shutil.rmtree(store)


def _touch(frame: pd.DataFrame) -> None:
    """Read the frame once, as a step does."""
    float(frame.iloc[:, 0].sum())


def compared(floor: Callable[[], object], work: Callable[[], object]) -> tuple[float, float, float]:
    """Return the medians of the floor's seconds, of the work's, and of their ratios."""
    times = [(_seconds(floor), _seconds(work)) for _ in range(REPEATS)]
    least, ours = zip(*times, strict=True)
    return statistics.median(least), statistics.median(ours), statistics.median(b / a for a, b in times)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def digests(folder: Path, count: int) -> None:
    """Print how long the digest of a file takes, beside BLAKE3 over the mapped file."""
    path = folder / "file"
    piece = np.random.default_rng(2).bytes(64 << 20)
    with path.open("wb") as file:
        for _ in range(count // len(piece)):
            file.write(piece)

    def floor() -> None:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            blake3(mapped, max_threads=blake3.AUTO).hexdigest()

    floor()
    least, ours, ratio = compared(floor, lambda: file_digest(path))
    print(f"digest of {count / 1e9:.1f} GB  {ours:7.2f} s  {ratio:5.2f} x BLAKE3 over the mapped file ({least:.2f} s)")


def main(gigabytes: float) -> None:
    """Measure all formats, and the digest."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        frame = frame_of(int(gigabytes * 1e9))
        for format in FORMATS:
            floor, seconds, ratio = compared(
                partial(by_arrow, frame, folder), partial(by_format, frame, folder, format)
            )
            what = f"Arrow IPC, flushed, read mapped ({floor:.2f} s)"
            print(f"{format:17}  {seconds:7.2f} s  {ratio:5.2f} x {what}", flush=True)
        digests(folder, int(gigabytes * 4e9))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
