"""Real servers of objects for tests, on loopback: S3 (moto, rclone), Azure Blob (azurite), SFTP (asyncssh)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEY, SECRET = "access-key-of-tests", "secret-of-tests-4711"
# The emulator's account, which its documentation publishes.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_PATIENCE = 60.0
_ROOT = Path(__file__).resolve().parents[1]


def azurite() -> str | None:
    """Get the program of the Blob emulator, if it is installed: on PATH, or by CI in .servers."""
    own = _ROOT / ".servers/node_modules/.bin/azurite-blob"
    return str(own) if own.exists() and shutil.which("node") else shutil.which("azurite-blob")


def free_port() -> int:
    """Get a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server {process.args} did not listen on port {port}")


@contextmanager
def _running(words: list[str], port: int, folder: Path, **environment: str) -> Iterator[None]:
    """Run a server until the block ends; it is ended by its id, with its children."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, start_new_session=True,
            env={**os.environ, **environment},
        )  # fmt: skip
    try:
        _await_port(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def moto_server(folder: Path, *, checks_access: bool = False) -> Iterator[str]:
    """Run an S3 server that keeps all in memory; yield its address."""
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(words, port, folder, INITIAL_NO_AUTH_ACTION_COUNT="3" if checks_access else "1000000000"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def rclone_server(folder: Path) -> Iterator[str]:
    """Run an S3 server that serves a folder; yield its address."""
    port = free_port()
    program = str(Path(sys.executable).parent / "rclone")
    served = folder / "served"
    served.mkdir()
    words = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", str(served)]
    with _running(words, port, folder, RCLONE_CONFIG=str(folder / "rclone.conf")):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def azurite_server(folder: Path) -> Iterator[str]:
    """Run a Blob emulator; yield the address of its account."""
    port = free_port()
    words = [str(azurite()), "--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck", "--silent"]
    with _running(words, port, folder):
        yield f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"


@contextmanager
def sftp_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run an SFTP server for a folder; yield its port and a file with its host key."""
    import asyncio

    import asyncssh

    port, key = free_port(), asyncssh.generate_private_key("ssh-ed25519")
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    served = folder / "served"
    served.mkdir()

    connections: list[asyncssh.SSHServerConnection] = []

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (KEY, SECRET)

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(channel, chroot=str(served))

    loop = asyncio.new_event_loop()
    serving = asyncssh.create_server(Server, "127.0.0.1", port, server_host_keys=[key], sftp_factory=Files)
    acceptor = loop.run_until_complete(serving)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port, known
    finally:

        async def end() -> None:
            acceptor.close()
            await acceptor.wait_closed()
            for connection in connections:
                connection.abort()
                await connection.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def make_bucket(endpoint: str, name: str, *, versioned: bool = False) -> None:
    """Create a bucket on an S3 server."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    client.create_bucket(Bucket=name)
    if versioned:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def make_container(endpoint: str, name: str) -> None:
    """Create a container on a Blob server, by the signed request that its interface asks for."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

    date = formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}\nrestype:container"
    signed = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}{resource}"
    digest = hmac.new(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT")  # noqa: S310 - the test's own
    request.add_header("x-ms-date", date)
    request.add_header("x-ms-version", "2021-08-06")
    request.add_header("Authorization", f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}")
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the test's own
        assert answer.status == 201
