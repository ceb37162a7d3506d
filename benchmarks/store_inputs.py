"""The time of a plan with an unchanged prefix of many objects: ``python benchmarks/store_inputs.py [FILES]``.

A real S3 server (moto) and, where it is installed, a real Blob emulator (azurite) are filled with small objects, and a
first plan reads them all. Then the script measures plans in which nothing has changed: seconds, requests, as the server
logs them, and the bytes of objects that are read, which must be none.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from object_servers import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    KEY,
    SECRET,
    azurite,
    free_port,
    make_bucket,
    make_container,
)
from sample_pipelines import cells

from nbpipe.data.stores.object_store import ObjectStore
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.remote_inputs import RemoteInputs
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.workspace_layout import find_workspace
from nbpipe.workspace import Workspace

FILES = 10_000
REPEATS = 5
_NAME = "prefix"
_STEP = "%%step look -i files=store:lake/set/ -o n:json\nn = len(list(files.iterdir()))"
_REQUEST = re.compile(rb'"(?:GET|HEAD|PUT|POST|DELETE) [^"]*HTTP/1\.[01]"')
_VARIABLES = {"THE_KEY": KEY, "THE_SECRET": SECRET, "THE_ACCOUNT_KEY": AZURE_KEY}


@contextmanager
def served(words: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server that writes a line for each request."""
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "1000000000"}
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment)
    try:
        _await(port)
        yield
    finally:
        process.terminate()
        process.wait()


def _await(port: int) -> None:
    import socket

    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start")


def measure(server: str, folder: Path, log: Path, settings: str, count: int) -> None:
    """Fill a datastore, have it read by a plan, and print what plans without a change cost."""
    os.environ |= {**_VARIABLES, "XDG_CACHE_HOME": str(folder / "cache")}
    (folder / "nbpipe.toml").write_text(settings)
    datastores = OpenDatastores.of(find_workspace(folder), os.environ)
    store = datastores.store("lake")
    filling = timed(lambda: fill(store, count))
    read: list[int] = []
    original = RemoteInputs._read  # noqa: SLF001  # what is counted here

    def counted(self: RemoteInputs, *rest: object) -> object:
        found = original(self, *rest)  # type: ignore[arg-type]
        read.append(found.info.size)
        return found

    RemoteInputs._read = counted  # type: ignore[method-assign,assignment]  # noqa: SLF001
    try:
        request = PipelineRequest(str(folder / "n.ipynb"), parse_cells(cells(_STEP)), folder)
        with Workspace.open(folder) as workspace:
            first = timed(lambda: workspace.plans.plan(request))
            print(f"{server}: {count} objects filled in {filling:.1f} s; first plan {first:.1f} s, {sum(read)} bytes")
            read.clear()
            before = len(_REQUEST.findall(log.read_bytes()))
            seconds = [timed(lambda: workspace.plans.plan(request)) for _ in range(REPEATS)]
            time.sleep(0.5)
            requests = (len(_REQUEST.findall(log.read_bytes())) - before) / REPEATS
            print(
                f"{server}: unchanged plan {statistics.median(seconds):.2f} s (median of {REPEATS}, "
                f"{min(seconds):.2f} to {max(seconds):.2f}), {requests:g} requests, {sum(read)} bytes of objects read"
            )
    finally:
        RemoteInputs._read = original  # type: ignore[method-assign]  # noqa: SLF001


def fill(store: ObjectStore, count: int) -> None:
    """Write the objects."""
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda number: store.put(f"set/{number:05}.txt", b"%d" % number), range(count)):
            pass


def timed(work: Callable[[], object]) -> float:
    """Get the seconds that some work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_moto(count: int) -> None:
    """Measure with objects in an S3 server."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name, "s3"), free_port()
        folder.mkdir()
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with served(words, port, folder / "log"):
            make_bucket(f"http://127.0.0.1:{port}", _NAME)
            credentials = '{ access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }'
            settings = (
                f'[datastores.lake]\nurl = "s3://{_NAME}"\noptions = {{ endpoint = "http://127.0.0.1:{port}" }}\n'
                f"credentials = {credentials}\n"
            )
            measure("moto", folder, folder / "log", settings, count)


def in_azurite(count: int) -> None:
    """Measure with objects in a Blob server, if it is installed."""
    if azurite() is None:
        print("azurite: not installed")
        return
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name, "blob"), free_port()
        folder.mkdir()
        words = [str(azurite()), "--blobPort", str(port), "--location", str(folder / "data"), "--skipApiVersionCheck"]
        (folder / "data").mkdir()
        with served(words, port, folder / "log"):
            address = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
            make_container(address, _NAME)
            settings = (
                f'[datastores.lake]\nurl = "az://{_NAME}"\n'
                f'options = {{ account = "{AZURE_ACCOUNT}", endpoint = "{address}" }}\n'
                'credentials = { account_key = "env:THE_ACCOUNT_KEY" }\n'
            )
            measure("azurite", folder, folder / "log", settings, count)


if __name__ == "__main__":
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    in_moto(files)
    in_azurite(files)
