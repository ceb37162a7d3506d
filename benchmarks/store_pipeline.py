"""The example pipeline with its data in a datastore: ``python benchmarks/store_pipeline.py``.

``notebooks/quickstart.ipynb`` reads its table from a datastore, registers a dataset, and copies results to places in
the datastore. It is run once and then unchanged, by the command line: with outputs in the folder of its workspace, in
an S3 server (moto) and, where it is installed, in a Blob server (azurite). Seconds, as medians where unchanged, and the
requests of one run, as the server logs them. An unchanged run must reuse every step.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from object_servers import AZURE_ACCOUNT, AZURE_KEY, KEY, SECRET, azurite, free_port, make_bucket, make_container
from store_inputs import served

from nbpipe.resolve.open_datastores import OpenDatastores
from nbpipe.resolve.workspace_layout import find_workspace

_NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
_TABLE = "data/housing.csv"
_PREPARE = "%%step prepare -i raw=./data/housing.csv -o homes"
_COMPARE = "#| out: table, chart, report:json"
_REQUEST = re.compile(rb'"(?:GET|HEAD|PUT|POST|DELETE) [^"]*HTTP/1\.[01]"')
_VARIABLES = {"THE_KEY": KEY, "THE_SECRET": SECRET, "THE_ACCOUNT_KEY": AZURE_KEY}
REPEATS = 3
# A server writes its log a little after it has answered.
_LOGGED = 0.5


@dataclass(frozen=True)
class Server:
    """Where the outputs go: the log of its requests, if it is a server, and its part of nbpipe.toml."""

    name: str
    log: Path | None
    settings: str


@dataclass(frozen=True)
class Cost:
    """What a run took; ``told`` are its requests as text, empty without a server."""

    seconds: float
    told: str


def notebook() -> str:
    """Return the example with its table, its dataset and two destinations in the datastore ``lake``."""
    read = json.loads((_NOTEBOOKS / "quickstart.ipynb").read_text())
    changes = {
        _PREPARE: f"%%step prepare -i raw=store:lake/{_TABLE} -o homes\n#| register: homes=homes",
        _COMPARE: "#| out: table:parquet=store:lake/tables/{date}/, chart, report:json=store:lake/reports/{run-id}/",
    }
    for cell in read["cells"]:
        text = "".join(cell["source"])
        for old, new in list(changes.items()):
            if old in text:
                cell["source"] = text.replace(old, new)
                del changes[old]
    if changes:
        raise RuntimeError(f"the example no longer has {', '.join(changes)}")
    return json.dumps(read)


def measure(server: Server, folder: Path) -> None:
    """Run the pipeline, then again without a change, and print what that took."""
    os.environ |= {**_VARIABLES, "XDG_CACHE_HOME": str(folder / "cache")}
    project = folder / "project"
    project.mkdir()
    (project / "nbpipe.toml").write_text(server.settings)
    (project / "n.ipynb").write_text(notebook())
    OpenDatastores.of(find_workspace(project), os.environ).store("lake").put(_TABLE, _NOTEBOOKS / _TABLE)
    first, _ = _run(project, server)
    print(f"{server.name:10}  first run  {first.seconds:6.2f} s{first.told}", flush=True)
    again = [_run(project, server) for _ in range(REPEATS)]
    for _, statuses in again:
        if set(statuses) != {"reused"}:
            raise RuntimeError(f"not all steps are reused: {statuses}")
    seconds = statistics.median(run.seconds for run, _ in again)
    print(f"{server.name:10}  unchanged  {seconds:6.2f} s{again[-1][0].told}, all steps reused", flush=True)


def _run(project: Path, server: Server) -> tuple[Cost, list[str]]:
    """Run the pipeline; return what it took, and the statuses of its steps."""
    before = _requests(server.log)
    begin = time.perf_counter()
    words = [sys.executable, "-m", "nbpipe", "run", "n.ipynb", "--json"]
    told = subprocess.run(words, cwd=project, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if told.returncode != 0:
        raise RuntimeError(f"{told.stdout}{told.stderr}")
    requests = "" if server.log is None else f", {_requests(server.log) - before} requests"
    return Cost(seconds, requests), [step["status"] for step in json.loads(told.stdout)["steps"]]


def _requests(log: Path | None) -> int:
    if log is None:
        return 0
    time.sleep(_LOGGED)
    return len(_REQUEST.findall(log.read_bytes()))


def in_folder(folder: Path) -> None:
    """Measure with outputs in the workspace's own folder, and the rest in another folder."""
    lake = folder / "lake"
    lake.mkdir()
    measure(Server("own folder", None, f'[datastores.lake]\nurl = "{lake}"\n'), folder)


def in_moto(folder: Path) -> None:
    """Measure with an S3 server."""
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with served(words, port, folder / "log"):
        address = f"http://127.0.0.1:{port}"
        make_bucket(address, "team")
        more = (
            f'options = {{ endpoint = "{address}" }}\n'
            'credentials = { access_key_id = "env:THE_KEY", secret_access_key = "env:THE_SECRET" }\n'
        )
        measure(Server("S3", folder / "log", _settings("s3", more)), folder)


def in_azurite(folder: Path) -> None:
    """Measure with a Blob server, if it is installed."""
    if azurite() is None:
        print("Blob: azurite is not installed")
        return
    port = free_port()
    words = [str(azurite()), "--blobPort", str(port), "--location", str(folder / "data"), "--skipApiVersionCheck"]
    (folder / "data").mkdir()
    with served(words, port, folder / "log"):
        address = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        make_container(address, "team")
        more = (
            f'options = {{ account = "{AZURE_ACCOUNT}", endpoint = "{address}" }}\n'
            'credentials = { account_key = "env:THE_ACCOUNT_KEY" }\n'
        )
        measure(Server("Blob", folder / "log", _settings("az", more)), folder)


def _settings(scheme: str, more: str) -> str:
    return (
        f'[datastores]\ndefault = "blob"\n[datastores.blob]\nurl = "{scheme}://team/outputs"\n{more}'
        f'[datastores.lake]\nurl = "{scheme}://team/lake"\n{more}'
    )


def main() -> None:
    """Measure every kind of datastore."""
    for work in (in_folder, in_moto, in_azurite):
        folder = Path(tempfile.mkdtemp())
        try:
            work(folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
