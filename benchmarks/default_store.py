"""The time of an unchanged plan with outputs in S3, beside the workspace's own folder.

``python benchmarks/default_store.py [STEPS …]``: for each size the notebook of ``benchmarks/plan.py`` is executed once
with each of the two datastores, by an executor without kernels. Then ``nbpipe plan`` is measured as a command, one
after the other in turn, with the requests that the S3 server (moto, one process) has logged.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from object_servers import KEY, SECRET, free_port, make_bucket
from plan import Instant, notebook

from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_execution import execute_run

SIZES = (50, 1_000)
REPEATS = 5
_REQUEST = re.compile(rb'"(?:GET|HEAD|PUT|POST|DELETE) [^"]*HTTP/1\.[01]"')
# A file's digest is remembered only when the file is older than the file system's tick.
_TICK = 2.5


def main(sizes: list[int]) -> None:
    """Measure all sizes."""
    os.environ |= {"THE_KEY": KEY, "THE_SECRET": SECRET, "INITIAL_NO_AUTH_ACTION_COUNT": "1000000000"}
    with tempfile.TemporaryDirectory() as made:
        folder, port = Path(made), free_port()
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        log = folder / "server.log"
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with log.open("wb") as output:
            server = subprocess.Popen(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            _await(f"http://127.0.0.1:{port}")
            for size in sizes:
                _measure(folder, size, f"http://127.0.0.1:{port}", log)
        finally:
            server.terminate()
            server.wait()


def _await(address: str) -> None:
    for _ in range(200):
        try:
            make_bucket(address, "outputs")
        except Exception:  # noqa: BLE001  # it has not started yet
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start")


def _measure(folder: Path, size: int, address: str, log: Path) -> None:
    settings = (
        f'[datastores]\ndefault = "blob"\n[datastores.blob]\nurl = "s3://outputs/{size}"\n'
        f'options = {{ endpoint = "{address}" }}\n'
        'credentials = { access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }\n'
    )
    projects = {"own folder": "source = []\n", "S3": settings}
    paths = {name: _executed(folder / f"{size} {name}", size, text) for name, text in projects.items()}
    time.sleep(_TICK)
    for path in paths.values():
        _plan(path)
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    requests: dict[str, int] = {}
    for _ in range(REPEATS):
        for name, path in paths.items():
            before = len(_REQUEST.findall(log.read_bytes()))
            seconds[name].append(_plan(path))
            requests[name] = len(_REQUEST.findall(log.read_bytes())) - before
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, median in medians.items():
        ratio = median / medians["own folder"]
        print(f"{size:6} steps  {name:10}  {median:7.3f} s  {ratio:5.2f} x  {requests[name]:5} requests", flush=True)


def _executed(folder: Path, size: int, settings: str) -> Path:
    folder.mkdir()
    (folder / "nbpipe.toml").write_text(settings)
    path = folder / "n.ipynb"
    notebook(path, size)
    with Workspace.open(folder) as workspace:
        execute_run(workspace, request_for(path, workspace.layout), RunOptions(), executors=Instant)
    return path


def _plan(path: Path) -> float:
    begin = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-m", "nbpipe", "plan", str(path)], check=True, capture_output=True, text=True, cwd=path.parent
    )
    if " run" in told.stdout.splitlines()[-1]:
        raise RuntimeError(told.stdout.splitlines()[-1])
    return time.perf_counter() - begin


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(SIZES))
