"""The local cluster answers nobody but its driver: attacks by another user on every port that it listens on."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from distributed import Security
from distributed.comm import connect
from distributed.protocol.pickle import dumps
from other_user import STRANGER, as_user, needs_other_users

from nbpipe.compute.dask_executor import DaskExecutor
from nbpipe.compute.targets import default_target
from nbpipe.data import private_directory

pytestmark = [pytest.mark.cluster]

PATIENCE = 3


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    """All TCP ports on which a cluster listens: its driver's, which is this process, and those of what it started."""
    before = _listening()
    executor = DaskExecutor(default_target(1))
    executor.start()
    yield sorted(_listening() - before)
    executor.close()


def _listening() -> set[int]:
    me = psutil.Process()
    connections = [c for process in (me, *me.children(recursive=True)) for c in process.net_connections("inet")]
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


def _touch(path: str) -> None:
    Path(path).touch()


def _have_it_run(port: int, scheme: str, target: str) -> None:
    """Ask whatever listens there to run code, as any program can that speaks Dask's protocol."""
    arguments = Security.temporary().get_connection_args("client") if scheme == "tls" else {}
    message = {"op": "run", "function": dumps(_touch), "args": dumps((target,)), "kwargs": dumps({}), "reply": True}

    async def attack() -> None:
        comm = await connect(f"{scheme}://127.0.0.1:{port}", timeout=PATIENCE, **arguments)
        await comm.write(message)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(comm.read(), PATIENCE)
        comm.abort()

    # Refused while connecting, while writing or while reading: what counts is what has run.
    with suppress(OSError, asyncio.TimeoutError):
        asyncio.run(attack())


def _answer_to(port: int, request: bytes) -> bytes:
    """Return what a port says to some bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        with suppress(TimeoutError, ConnectionError):
            return connection.recv(1000)
    return b""


@needs_other_users
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_s28_another_user_has_no_code_run_by_any_part_of_a_cluster(tmp_path, ports, scheme):
    assert ports, "scheduler, nanny and worker listen"
    for port in ports:
        target = tmp_path / f"ran-{scheme}-{port}"
        as_user(STRANGER, lambda port=port, target=target: _have_it_run(port, scheme, str(target)))
        assert not target.exists()


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_s28_another_program_of_the_same_user_is_refused_as_well(tmp_path, ports, scheme):
    for port in ports:
        target = tmp_path / f"ran-{scheme}-{port}"
        _have_it_run(port, scheme, str(target))
        assert not target.exists()


def test_no_part_of_a_cluster_speaks_http(ports):
    for port in ports:
        assert b"HTTP" not in _answer_to(port, b"GET / HTTP/1.0\r\n\r\n")


def test_a_cluster_listens_on_loopback_only(ports):
    me = psutil.Process()
    connections = [c for process in (me, *me.children(recursive=True)) for c in process.net_connections("inet")]
    addresses = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port in ports}
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize("planted", ["file", "link", "folder"])
def test_s28_what_others_plant_for_dask_stops_nobody_and_is_on_no_path(tmp_path, monkeypatch, planted):
    """Dask has one name for all users for its folder of temporary files: who makes it first may swap what is in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = tmp_path / "dask-scratch-space"
    {"file": name.touch, "link": lambda: name.symlink_to("nowhere"), "folder": lambda: name.mkdir(0o777)}[planted]()
    before = set(sys.path)
    executor = DaskExecutor(default_target(1))
    try:
        executor.start()
        made = set(tmp_path.iterdir()) - {name}
        added = [Path(each) for each in sys.path if each not in before and Path(each).is_relative_to(tmp_path)]
        assert made
        assert all(each.name.startswith((private_directory.DASK, "nbk")) for each in made)
        assert all(any(each.is_relative_to(own) for own in made) for each in added)
        assert planted != "folder" or not any(name.iterdir())
    finally:
        executor.close()
