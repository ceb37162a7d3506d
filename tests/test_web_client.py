"""Files of the web are read within limits: no address of a private network, no endless answer, no credential astray."""

from __future__ import annotations

import base64
import gzip
import itertools
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from web_servers import Page, Site, certificate, raw_server, web_site

from nbpipe.data.web.web_address import file_name
from nbpipe.data.web.web_client import WebClient, WebRequest
from nbpipe.data.web.web_connection import WebConnector
from nbpipe.errors import AddressRefused, BadUsage, NbpipeError, StoreOutOfReach
from nbpipe.model.web import WebLimits, WebSettings

PUBLIC = "93.184.216.34"
LIMITS = WebLimits(content=100_000, seconds=5.0, header_seconds=1.0, idle_seconds=0.5, slowest=1000)
ALLOWED = WebSettings(frozenset({"localhost"}), frozenset({"localhost", "a.example", "b.example"}), LIMITS)


class Network:
    """Hosts with any addresses; connections to a public one reach this machine, and are noted."""

    def __init__(self, hosts: dict[str, Sequence[str]] | Callable[[str], Sequence[str]]) -> None:
        self.looked_up: list[str] = []
        self.connected: list[str] = []
        self._hosts = hosts

    def resolve(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        return self._hosts[host] if isinstance(self._hosts, dict) else self._hosts(host)

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        self.connected.append(address[0])
        return socket.create_connection(("127.0.0.1", address[1]), timeout)


def client(network: Network | None = None, settings: WebSettings = ALLOWED, environ: dict[str, str] | None = None):
    if network is None:
        return WebClient(WebConnector(settings, environ or {}))
    return WebClient(WebConnector(settings, environ or {}, network.resolve, network.connect))


def read(url: str, reader: WebClient | None = None, **more: Any) -> bytes:
    with (reader or client()).get(WebRequest(url, url, **more)) as response:
        return b"".join(response.pieces())


def refused(url: str, kind: type[NbpipeError], reader: WebClient | None = None, **more: Any) -> str:
    with pytest.raises(NbpipeError) as caught:
        read(url, reader, **more)
    assert type(caught.value) is kind, caught.value
    return str(caught.value)


@pytest.fixture
def site():
    with web_site({"/a.csv": Page(b"x,y\n1,2\n", '"one"')}) as running:
        yield running


def test_a_file_is_read_as_it_is_stored(site):
    with client().get(WebRequest(site.url("/a.csv"), "a")) as response:
        assert (response.status, response.size, response.etag) == (200, 8, '"one"')
        assert b"".join(response.pieces()) == b"x,y\n1,2\n"
    headers = site.asked[0][1]
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == f"localhost:{site.port}"
    assert headers.keys() == {"host", "user-agent", "accept", "accept-encoding", "connection"}


@pytest.mark.parametrize("etag, expected", [('"s"', '"s"'), ('W/"s"', ""), ("s", ""), ("", ""), ('"', "")])
def test_only_a_strong_etag_vouches_for_the_content(site, etag, expected):
    site.pages["/a.csv"] = Page(b"x", etag)
    with client().get(WebRequest(site.url("/a.csv"), "a")) as response:
        assert response.etag == expected


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
        "2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "fec0::1",
    ],
)  # fmt: skip
def test_no_address_of_a_private_network_is_connected_to(site, address):
    network = Network({"a.example": [address]})
    said = refused(site.url("/a.csv", "a.example"), AddressRefused, client(network))
    assert address in said
    assert network.connected == []


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_a_public_address_is_connected_to(site, address):
    network = Network({"a.example": [address]})
    assert read(site.url("/a.csv", "a.example"), client(network)) == b"x,y\n1,2\n"
    assert network.connected == [address]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "017700000001", "[::ffff:7f00:1]"])
def test_a_host_written_in_any_way_is_looked_up_and_checked(site, host):
    unencrypted = frozenset({host.strip("[]")})
    said = refused(site.url("/a.csv", host), AddressRefused, client(settings=WebSettings(frozenset(), unencrypted)))
    assert "127.0.0.1" in said or "7f00:1" in said
    assert site.asked == []


def test_one_private_address_among_public_ones_is_refused(site):
    network = Network({"a.example": [PUBLIC, "10.0.0.1"]})
    refused(site.url("/a.csv", "a.example"), AddressRefused, client(network))
    assert network.connected == []


def test_a_host_is_looked_up_once_and_that_address_connected_to(site):
    answers = itertools.chain([[PUBLIC]], itertools.repeat(["127.0.0.1"]))
    network = Network(lambda _host: next(answers))
    assert read(site.url("/a.csv", "a.example"), client(network)) == b"x,y\n1,2\n"
    assert (network.looked_up, network.connected) == (["a.example"], [PUBLIC])


def test_the_next_address_is_tried_if_the_first_does_not_answer(site):
    network = Network({"a.example": ["1.1.1.1", PUBLIC]})
    reach = network.connect

    def connect(address, timeout):
        if address[0] == "1.1.1.1":
            raise ConnectionRefusedError
        return reach(address, timeout)

    network.connect = connect
    assert read(site.url("/a.csv", "a.example"), client(network)) == b"x,y\n1,2\n"


def test_an_allowed_host_may_be_private_but_never_a_clouds_own_service(site):
    allowed = WebSettings(frozenset({"a.example"}), frozenset({"a.example"}))
    inner = client(Network({"a.example": ["10.0.0.1"]}), allowed)
    assert read(site.url("/a.csv", "a.example"), inner) == b"x,y\n1,2\n"
    for address in ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "::ffff:169.254.169.254", "::"):
        network = Network({"a.example": [address]})
        refused(site.url("/a.csv", "a.example"), AddressRefused, client(network, allowed))
        assert network.connected == []


def redirect(site: Site, path: str, target: str, status: int = 302) -> None:
    site.pages[path] = Page(b"", status=status, headers={"Location": target})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(site, status):
    redirect(site, "/old", "/a.csv", status)
    assert read(site.url("/old")) == b"x,y\n1,2\n"


def test_each_hop_of_a_redirect_is_checked_anew(site):
    network = Network({"a.example": [PUBLIC], "b.example": ["127.0.0.1"]})
    redirect(site, "/old", site.url("/a.csv", "b.example"))
    said = refused(site.url("/old", "a.example"), AddressRefused, client(network))
    assert "`b.example` has the address 127.0.0.1" in said
    assert network.connected == [PUBLIC]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://a.example/x", "gopher://a.example/", "http://u:p@localhost/"]
)
def test_a_redirect_leads_only_to_addresses_of_the_web(site, target):
    redirect(site, "/old", target)
    refused(site.url("/old"), BadUsage)


def test_a_redirect_to_an_unencrypted_host_is_refused(site, tmp_path):
    redirect(site, "/old", f"http://c.example:{site.port}/a.csv")
    network = Network({"a.example": [PUBLIC], "c.example": [PUBLIC]})
    refused(site.url("/old", "a.example"), AddressRefused, client(network))
    assert network.looked_up == ["a.example"]


def test_an_encrypted_address_never_leads_to_one_that_is_not(site, tmp_path):
    authority, server = certificate(tmp_path, "localhost")
    with web_site({}, server) as encrypted:
        redirect(encrypted, "/old", site.url("/a.csv"))
        reader = client(environ={"SSL_CERT_FILE": str(authority)})
        said = refused(encrypted.url("/old"), AddressRefused, reader)
    assert "leads to an address that is not encrypted" in said
    assert site.asked == []


def test_redirects_come_to_an_end(site):
    for number in range(10):
        redirect(site, f"/{number}", f"/{number + 1}")
    redirect(site, "/round", "/round")
    site.pages["/10"] = Page(b"there")
    assert read(site.url("/5")) == b"there"
    assert "more than 5 other addresses" in refused(site.url("/4"), StoreOutOfReach)
    refused(site.url("/round"), StoreOutOfReach)
    redirect(site, "/nowhere", "")
    refused(site.url("/nowhere"), StoreOutOfReach)


def test_credentials_go_to_their_own_origin_only(site):
    with web_site({"/a.csv": Page(b"elsewhere")}) as other:
        redirect(site, "/near", "/a.csv")
        redirect(site, "/far", other.url("/a.csv"))
        redirect(site, "/alias", site.url("/a.csv", "b.example"))
        network = Network({"localhost": ["127.0.0.1"], "b.example": [PUBLIC]})
        for path in ("/near", "/far", "/alias"):
            read(site.url(path), client(network), authorization="Bearer canary", is_own=True)
        assert [path for path, headers in site.asked if headers.get("authorization") == "Bearer canary"] == [
            "/near", "/a.csv", "/far", "/alias",
        ]  # fmt: skip
        assert "canary" not in repr(other.asked)
        assert "canary" not in repr(site.asked[-1])


def test_what_a_configured_host_leads_to_is_as_little_trusted_as_any(site):
    redirect(site, "/far", f"http://127.0.0.1:{site.port}/a.csv")
    own = WebSettings(frozenset(), frozenset({"127.0.0.1"}))
    assert read(site.url("/a.csv"), client(settings=own), is_own=True) == b"x,y\n1,2\n"
    refused(site.url("/far"), AddressRefused, client(settings=own), is_own=True)


@pytest.mark.parametrize("url", ["https://user:canary@localhost/a.csv", "https://canary@localhost/a.csv"])
def test_credentials_in_an_address_are_refused_and_not_repeated(url):
    assert "canary" not in refused(url, BadUsage)


@pytest.mark.parametrize(
    "url", ["https://", "https:///x", "https://h:99999/", "https://h:0/", "https://[::1/", "ftp://h/x", "https://ex℀/x"]
)
def test_what_is_no_address_is_told(url):
    refused(url, BadUsage)


def test_without_encryption_only_listed_hosts_are_read(site):
    said = refused(site.url("/a.csv"), AddressRefused, client(settings=WebSettings(frozenset({"localhost"}))))
    assert '[web] unencrypted = ["localhost"]' in said
    assert site.asked == []


def answers(*pieces: bytes, pause: float = 0.0, forever: bytes = b"") -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        deadline = time.monotonic() + 10
        while forever and time.monotonic() < deadline:
            connection.sendall(forever)
            time.sleep(pause)

    return answer


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "announced": (answers(OK + b"Content-Length: 100001\r\n\r\n"), "more than 100,000 bytes"),
    "chunked": (answers(CHUNKED, forever=b"1000\r\n" + b"x" * 4096 + b"\r\n"), "more than 100,000 bytes"),
    "until it closes": (answers(OK + b"\r\n", forever=b"x" * 4096), "more than 100,000 bytes"),
    "continue": (answers(forever=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "headers without an end"),
    "headers": (answers(OK, forever=b"X: y\r\n" * 1000), "more than 100 headers"),
    "long headers": (answers(OK, forever=b"X: " + b"y" * 60_000 + b"\r\n"), "headers without an end"),
    "one header": (answers(OK + b"X: ", forever=b"y" * 4096), "header line"),
    "trailers": (answers(CHUNKED + b"0\r\n", forever=b"X: y\r\n" * 1000), "headers without an end"),
    "chunk extension": (answers(CHUNKED + b"1;", forever=b"y" * 4096), "not read to its end"),
    "no status": (answers(forever=b"\r\n" * 1000), "cannot be read"),
    "no answer": (answers(pause=3, forever=b""), "cannot be read"),
}


@pytest.mark.parametrize("attack", ENDLESS)
def test_an_endless_answer_is_given_up(attack):
    answer, expected = ENDLESS[attack]
    begin = time.monotonic()
    with raw_server(answer) as port:
        assert expected in refused(f"http://localhost:{port}/x", StoreOutOfReach)
    assert time.monotonic() - begin < 5


SLOW = {
    "header": answers(OK, pause=0.2, forever=b"X"),
    "silence": answers(OK + b"Content-Length: 9\r\n\r\n1", pause=8),
    "drops": answers(OK + b"Content-Length: 99999\r\n\r\n", pause=0.1, forever=b"x"),
    "drops in chunks": answers(CHUNKED, pause=0.1, forever=b"1\r\nx\r\n"),
    "chunk size": answers(CHUNKED, pause=0.1, forever=b"0"),
}


@pytest.mark.parametrize("attack", SLOW)
def test_a_slow_answer_is_given_up(attack):
    begin = time.monotonic()
    # What arrives within a chunk's size is not seen as content: only the whole duration ends it.
    limits = WebLimits(100_000, 2.0 if attack == "chunk size" else 60.0, 1.0, 0.5, 1000)
    with raw_server(SLOW[attack]) as port:
        reader = client(settings=WebSettings(ALLOWED.allowed, ALLOWED.unencrypted, limits))
        refused(f"http://localhost:{port}/x", StoreOutOfReach, reader)
        assert time.monotonic() - begin < 4


def test_a_transfer_ends_in_time_however_fast_it_is():
    limits = WebLimits(1 << 40, 0.5, 1.0, 0.5, 1000)
    with raw_server(answers(OK + b"\r\n", forever=b"x" * 65536)) as port:
        begin = time.monotonic()
        settings = WebSettings(ALLOWED.allowed, ALLOWED.unencrypted, limits)
        refused(f"http://localhost:{port}/", StoreOutOfReach, client(settings=settings))
        assert time.monotonic() - begin < 3


def test_small_chunks_are_read_whole():
    with raw_server(answers(CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")) as port:
        assert read(f"http://localhost:{port}/x") == b"x" * 50_000


def test_nothing_is_decompressed(site):
    bomb = gzip.compress(bytes(10_000_000))
    site.pages["/x.csv"] = Page(bomb, headers={"Content-Encoding": "gzip"})
    assert "sends it as 'gzip'" in refused(site.url("/x.csv"), StoreOutOfReach)
    site.pages["/x.csv.gz"] = Page(bomb, headers={"Content-Encoding": "gzip"})
    assert read(site.url("/x.csv.gz")) == bomb


@pytest.mark.parametrize(
    "answer", [OK + b"Content-Length: 9\r\n\r\n12345", CHUNKED + b"5\r\n12345\r\n", CHUNKED + b"9\r\n12345"]
)
def test_a_cut_answer_is_told(answer):
    with raw_server(answers(answer)) as port:
        assert "was not read to its end" in refused(f"http://localhost:{port}/x", StoreOutOfReach)


def test_an_encrypted_answer_of_unknown_length_that_is_cut_is_told(tmp_path):
    authority, server = certificate(tmp_path, "localhost")

    def cut(connection: socket.socket) -> None:
        connection.sendall(OK + b"\r\n12345")
        time.sleep(0.2)
        # As someone on the way would: without the message that the encrypted connection ends.
        socket.socket(fileno=connection.detach()).close()

    with raw_server(cut, server) as port:
        reader = client(environ={"SSL_CERT_FILE": str(authority)})
        assert "was not read to its end" in refused(f"https://localhost:{port}/x", StoreOutOfReach, reader)


def test_a_server_proves_its_name(tmp_path):
    authority, server = certificate(tmp_path, "a.example")
    network = Network({"a.example": [PUBLIC], "b.example": [PUBLIC]})
    trusting = client(network, environ={"SSL_CERT_FILE": str(authority)})
    with web_site({"/x": Page(b"secret")}, server) as site:
        assert read(site.url("/x", "a.example"), trusting) == b"secret"
        assert "does not prove its name" in refused(site.url("/x", "b.example"), StoreOutOfReach, trusting)
        assert "does not prove its name" in refused(site.url("/x", "a.example"), StoreOutOfReach, client(network))
        assert len(site.asked) == 1


def test_a_server_that_is_busy_is_asked_again(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("nbpipe.data.web.web_client.time.sleep", pauses.append)
    busy = iter([b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"", OK + b"Content-Length: 2\r\n\r\nok"])
    with raw_server(lambda connection: connection.sendall(next(busy))) as port:
        assert read(f"http://localhost:{port}/x") == b"ok"
    assert pauses == [0.5, 1.0]


@pytest.mark.parametrize(
    "status, expected",
    [
        (401, "refuses access"),
        (403, "refuses access"),
        (500, "answers 500"),
        (206, "answers 206"),
        (204, "answers 204"),
    ],
)
def test_what_a_server_refuses_is_told(site, monkeypatch, status, expected):
    monkeypatch.setattr("nbpipe.data.web.web_client.time.sleep", lambda _seconds: None)
    site.pages["/x"] = Page(b"", status=status)
    assert expected in refused(site.url("/x"), StoreOutOfReach)


def test_nobody_at_home_is_told():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "cannot be reached" in refused(f"http://localhost:{port}/", StoreOutOfReach)
    nowhere = client(Network(lambda _host: (_ for _ in ()).throw(socket.gaierror(-2, "Name or service not known"))))
    assert "there is no host `a.example`" in refused("http://a.example/", StoreOutOfReach, nowhere)


@pytest.fixture
def proxy(site):
    """Run a proxy that connects nowhere but to the site; get its address, and what it was asked for."""
    asked: list[bytes] = []
    opened: list[socket.socket] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def pass_on(begin: socket.socket, end: socket.socket) -> None:
        with suppress(OSError):
            while piece := begin.recv(65536):
                end.sendall(piece)
            end.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connected, _ = listening.accept()
                asked.append(connected.recv(4096))
                onward = socket.create_connection(("127.0.0.1", site.port))
                opened.extend([connected, onward])
                connected.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                threading.Thread(target=pass_on, args=(connected, onward), daemon=True).start()
                threading.Thread(target=pass_on, args=(onward, connected), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://user:p%40ss@127.0.0.1:{listening.getsockname()[1]}", asked
    listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    for each in (listening, *opened):
        each.close()


def test_a_proxy_is_told_the_address_that_was_checked(site, proxy):
    address, asked = proxy
    network = Network({"a.example": [PUBLIC], "b.example": ["10.0.0.1"]})
    reader = client(network, environ={"http_proxy": address})
    assert read(site.url("/a.csv", "a.example"), reader) == b"x,y\n1,2\n"
    assert asked[0].startswith(f"CONNECT {PUBLIC}:{site.port} ".encode())
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:p@ss") in asked[0]
    refused(site.url("/a.csv", "b.example"), AddressRefused, reader)
    assert (len(asked), network.connected) == (1, [])


@pytest.mark.parametrize("listed", ["localhost", "*", ".example, localhost", "LOCALHOST"])
def test_hosts_that_need_no_proxy_are_connected_to_directly(site, listed):
    reader = client(environ={"http_proxy": "http://127.0.0.1:1", "NO_PROXY": listed})
    assert read(site.url("/a.csv"), reader) == b"x,y\n1,2\n"


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://"])
def test_a_proxy_of_another_kind_is_refused_openly(site, named):
    assert "names a proxy" in refused(site.url("/a.csv"), StoreOutOfReach, client(environ={"ALL_PROXY": named}))
    assert site.asked == []


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://h/a/b.csv", "b.csv"),
        ("https://h/a/b.csv?v=1/2", "b.csv"),
        ("https://h/a%20b%2Fc.csv", "a b_c.csv"),
        ("https://h/a/", "a"),
        ("https://h", "h"),
        ("https://h/..", "h"),
        ("https://h/%2e%2e", "h"),
        ("https://h/" + "ü" * 300 + ".csv", "ü" * 98 + ".csv"),
    ],
)
def test_the_name_of_a_file_is_one_that_a_folder_can_hold(url, name):
    assert file_name(url) == name


def test_an_address_is_asked_for_as_it_is_written(site):
    site.pages["/a%20b/%C3%BC.csv?x=1&y=%2F"] = Page(b"found")
    assert read(site.url("/a b/ü.csv?x=1&y=%2F")) == b"found"


def test_a_local_authority_is_a_file_of_the_user(tmp_path: Path):
    missing = client(environ={"SSL_CERT_FILE": str(tmp_path / "none.pem")})
    with raw_server(answers(OK)) as port:
        assert "SSL_CERT_FILE" in refused(f"https://localhost:{port}/", StoreOutOfReach, missing)
