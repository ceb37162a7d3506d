"""Real web servers for tests, on loopback, encrypted or not: honest ones that serve pages, and raw ones that do not."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Page:
    """What a server answers for a path."""

    content: bytes = b""
    etag: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    announces: bool = True


@dataclass
class Site:
    """A running server: its pages can be changed; ``asked`` are the requests so far, path and headers."""

    port: int
    scheme: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0

    def url(self, path: str, host: str = "localhost") -> str:
        """Get the address of a page."""
        return f"{self.scheme}://{host}:{self.port}{path}"


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Make an authority and a server's certificate for some names; get the files of both, the latter with its key."""
    now = dt.datetime.now(dt.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])

    def signed(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    own = signed(authority, authority_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
    ]
    server = signed(x509.Name([]), key.public_key()).add_extension(
        x509.SubjectAlternativeName(alternatives), critical=True
    )
    pem = serialization.Encoding.PEM
    authority_file, server_file = folder / "authority.pem", folder / "server.pem"
    authority_file.write_bytes(own.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    server_file.write_bytes(server.sign(authority_key, hashes.SHA256()).public_bytes(pem) + secret)
    return authority_file, server_file


def encryption(server: Path) -> ssl.SSLContext:
    """Get what a server encrypts with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    return context


@contextmanager
def web_site(pages: Mapping[str, Page], server: Path | None = None) -> Iterator[Site]:
    """Run a web server, encrypted if it has a certificate, until the block ends."""
    site = Site(0, "http" if server is None else "https", dict(pages))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            page = site.pages.get(self.path, Page(b"not there", status=404))
            vouched = page.etag and self.headers.get("If-None-Match") == page.etag
            self.send_response(304 if vouched else page.status)
            if page.etag:
                self.send_header("ETag", page.etag)
            for name, value in page.headers.items():
                self.send_header(name, value)
            if page.announces and not vouched:
                self.send_header("Content-Length", str(len(page.content)))
            if not page.announces:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            body = page.content if page.announces else b"%x\r\n%b\r\n0\r\n\r\n" % (len(page.content), page.content)
            with suppress(OSError):
                site.sent += self.wfile.write(b"" if vouched else body) or 0
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> tuple[Any, Any]:
            connected, address = super().get_request()
            if server is None:
                return connected, address
            # The handshake is left to the connection's own thread, which closes it whatever happens.
            context = encryption(server)
            return context.wrap_socket(connected, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, *_: object) -> None:
            pass

    listening = Server(("127.0.0.1", 0), Handler)
    site.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@contextmanager
def raw_server(answer: Callable[[socket.socket], None], server: Path | None = None) -> Iterator[int]:
    """Run a server that answers each connection as it likes, after the request has arrived; yield its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    context = encryption(server) if server is not None else None
    over = threading.Event()

    def serve(connected: socket.socket) -> None:
        with suppress(OSError), connected:
            connection = context.wrap_socket(connected, server_side=True) if context else connected
            with connection:
                connection.settimeout(20)
                received = b""
                while b"\r\n\r\n" not in received and (piece := connection.recv(4096)):
                    received += piece
                if received:
                    answer(connection)

    def accept() -> None:
        with suppress(OSError):
            while not over.is_set():
                connected, _ = listening.accept()
                threading.Thread(target=serve, args=(connected,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        with suppress(OSError):
            socket.create_connection(listening.getsockname(), timeout=1).close()
        thread.join()
        listening.close()
