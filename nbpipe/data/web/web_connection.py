"""Connections to hosts of the web: to exactly the address that was checked, directly or through the user's proxy."""

from __future__ import annotations

import http.client
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import SplitResult, unquote, urlsplit

from nbpipe.data.web.public_addresses import Resolve, checked_addresses, system_addresses
from nbpipe.data.web.web_address import PORTS, ascii_host
from nbpipe.errors import StoreOutOfReach
from nbpipe.model.web import WebSettings

_CONNECT_SECONDS = 15.0

Connect = Callable[[tuple[str, int], float], socket.socket]


@dataclass
class WebConnector:
    """Opens connections as the settings allow; ``environ`` has the variables of the user, such as ``https_proxy``.

    ``resolve`` and ``connect`` reach the network.
    """

    settings: WebSettings
    environ: Mapping[str, str] = field(default_factory=dict)
    resolve: Resolve = system_addresses
    connect: Connect = socket.create_connection

    def open(self, address: SplitResult, *, is_private_allowed: bool) -> socket.socket:
        """Return a socket that is connected to the host of an address, encrypted for ``https``.

        The host is looked up once. Raise AddressRefused if it has an address that nothing is read from, and
        StoreOutOfReach if it cannot be reached, or does not prove its name.
        """
        host = ascii_host(address)
        port = address.port or PORTS[address.scheme]
        addresses = checked_addresses(host, port, self.resolve, is_private_allowed=is_private_allowed)
        proxy = self._proxy(address.scheme, host, port)
        encryption = self._encryption if address.scheme == "https" else None
        connected = self._connected(host, port, addresses, proxy)
        if encryption is None:
            return connected
        try:
            # A connection that ends without its closing message may have been cut.
            return encryption.wrap_socket(connected, server_hostname=host, suppress_ragged_eofs=False)
        except OSError as error:
            connected.close()
            raise _not_encrypted(host, error) from None

    @cached_property
    def _encryption(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        # With the variables of whoever submits, which are not those of this process in a runner.
        file, folder = self.environ.get("SSL_CERT_FILE"), self.environ.get("SSL_CERT_DIR")
        if file or folder:
            try:
                context.load_verify_locations(cafile=file or None, capath=folder or None)
            except OSError as error:
                message = f"the authorities in {file or folder} cannot be read: {error.strerror or error}"
                raise StoreOutOfReach(message, "Correct SSL_CERT_FILE or SSL_CERT_DIR.") from None
        return context

    def _connected(self, host: str, port: int, addresses: list[str], proxy: SplitResult | None) -> socket.socket:
        problem = "it has no address"
        for address in addresses:
            try:
                if proxy is not None:
                    return _tunnel(proxy, address, port)
                return self.connect((address, port), _CONNECT_SECONDS)
            except (OSError, http.client.HTTPException) as error:
                problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        through = f" through the proxy {proxy.hostname}" if proxy is not None else ""
        raise StoreOutOfReach(f"`{host}` cannot be reached{through}: {problem}", "Check the address and the network.")

    def _proxy(self, scheme: str, host: str, port: int) -> SplitResult | None:
        """Return the proxy that the environment names for a host; raise StoreOutOfReach for one of an unknown kind."""
        values = {name.lower(): value for name, value in sorted(self.environ.items()) if value}
        named = values.get(f"{scheme}_proxy") or values.get("all_proxy")
        if named is None or _passes_by(host, port, values.get("no_proxy", "")):
            return None
        proxy = urlsplit(named if "://" in named else f"http://{named}")
        if proxy.scheme != "http" or not proxy.hostname:
            message = f"the environment names a proxy for `{host}` that is not an `http:` one"
            raise StoreOutOfReach(message, f"Name another in {scheme}_proxy, or add {host} to no_proxy.")
        return proxy


def _passes_by(host: str, port: int, listed: str) -> bool:
    """Return whether ``no_proxy`` lists a host: itself, a domain that it is in, or ``*`` for all."""
    for entry in (entry.strip().lower().lstrip(".") for entry in listed.split(",")):
        if entry and (entry == "*" or f".{host}".endswith(f".{entry}") or entry == f"{host}:{port}"):
            return True
    return False


def _tunnel(proxy: SplitResult, address: str, port: int) -> socket.socket:
    """Return a socket that a proxy has connected to an address: the proxy looks up no name."""
    through = http.client.HTTPConnection(proxy.hostname or "", proxy.port or PORTS["http"], timeout=_CONNECT_SECONDS)
    headers = {}
    if proxy.username is not None:
        credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    through.set_tunnel(address, port, headers)
    through.connect()
    return through.sock


def _not_encrypted(host: str, error: OSError) -> StoreOutOfReach:
    if isinstance(error, ssl.SSLCertVerificationError):
        message = f"`{host}` does not prove its name: {error.verify_message}"
        return StoreOutOfReach(message, "If an authority of your own signs for it, name its file in SSL_CERT_FILE.")
    return StoreOutOfReach(f"`{host}` cannot be reached encrypted: {error.strerror or error}", "Check the address.")
