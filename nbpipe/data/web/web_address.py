"""Addresses of the web, as authors write them and as servers are asked for them; nothing is looked up here."""

from __future__ import annotations

from urllib.parse import SplitResult, quote, unquote, urlsplit

from nbpipe.errors import AddressRefused, BadUsage, StoreOutOfReach
from nbpipe.model.web import WebSettings

PORTS = {"http": 80, "https": 443}
_PLAIN = "/%:@!$&'()*+,;=~-._?"
_LONGEST_NAME = 200


def split_address(url: str, named: str) -> SplitResult:
    """Return an address of the web, split; raise BadUsage if it is none, or holds credentials.

    ``named`` is the address that the author wrote, which led to it.
    """
    leads = "is not" if url == named else "leads to what is not"
    wrong = BadUsage(f"`{named}` {leads} an address of the web", "For example: https://host/data.csv")
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError:
        raise wrong from None
    if address.username is not None or address.password is not None:
        # They are not repeated.
        raise BadUsage(
            f"the address of a file on `{address.hostname}` holds credentials",
            "Configure a datastore whose `credentials` refer to them: docs/datastores.md",
        )
    if address.scheme not in PORTS or not address.hostname or port == 0:
        raise wrong
    return address


def require_encrypted(address: SplitResult, named: str, settings: WebSettings) -> None:
    """Raise AddressRefused if an address is read without encryption and the settings do not allow that."""
    if address.scheme == "http" and ascii_host(address) not in settings.unencrypted:
        raise AddressRefused(
            f"`{named}` is read without encryption, so anyone on the way could change it",
            f'Write https://, or allow it in nbpipe.toml: [web] unencrypted = ["{address.hostname}"]',
        )


def origin(address: SplitResult) -> tuple[str, str, int]:
    """Return what identifies a server: scheme, host and port."""
    return address.scheme, ascii_host(address), address.port or PORTS[address.scheme]


def ascii_host(address: SplitResult) -> str:
    """Return the host of an address as it is looked up; raise StoreOutOfReach if it is no name."""
    host = address.hostname or ""
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise StoreOutOfReach(f"`{host}` is not the name of a host", "Check the address.") from None


def host_header(address: SplitResult) -> str:
    """Return a host and its port as a request names them."""
    host = ascii_host(address)
    port = f":{address.port}" if address.port not in (None, PORTS[address.scheme]) else ""
    return f"[{host}]{port}" if ":" in host else f"{host}{port}"


def request_target(address: SplitResult) -> str:
    """Return the path and the query as a request names them; what is quoted stays so."""
    path, query = quote(address.path or "/", safe=_PLAIN), quote(address.query, safe=_PLAIN)
    return f"{path}?{query}" if query else path


def file_name(url: str) -> str:
    """Return the name of the file that an address names; that of its host if it names none."""
    address = urlsplit(url)
    name = unquote(address.path.rstrip("/").rpartition("/")[2]).replace("/", "_").replace("\0", "_")
    name = name if name not in ("", ".", "..") else address.hostname or "content"
    # File systems count bytes, and the ending tells what the file is.
    return name.encode("utf-8", "replace")[-_LONGEST_NAME:].decode("utf-8", "ignore")
