"""Which addresses of a host may be connected to: those of the public internet, or of a private network if allowed.

A name may lead anywhere, and an address of version 6 may hold one of version 4.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from nbpipe.errors import AddressRefused, StoreOutOfReach

IPAddress = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host as texts."""

# What clouds tell their machines, credentials included, at addresses that are public by their numbers.
_CLOUD_SERVICES = frozenset({ip_address("168.63.129.16"), ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})
# Where there is only version 6, a translator reaches the address of version 4 that ends one of these.
_TRANSLATED = ip_network("64:ff9b::/96")
# Other networks whose addresses end in one of version 4: compatible ones, and those of a local translator.
_ENDING_IN_V4 = (ip_network("::/96"), ip_network("64:ff9b:1::/48"))
# The documentation's and the translators' own networks, which newer versions of Python know, too.
_NOT_PUBLIC = (ip_network("64:ff9b:1::/48"), ip_network("3fff::/20"), ip_network("5f00::/16"), ip_network("fec0::/10"))


def system_addresses(host: str, port: int) -> list[str]:
    """Return what this machine's resolver says, without repeats; raise OSError if it knows no such host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_addresses(host: str, port: int, resolve: Resolve, *, is_private_allowed: bool) -> list[str]:
    """Return the addresses of a host, looked up once; raise AddressRefused if any of them may not be connected to."""
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a name"
        raise StoreOutOfReach(f"there is no host `{host}`: {reason}", "Check the address and the network.") from None
    for text in found:
        address = ip_address(text.partition("%")[0])
        if _is_never_read(address):
            raise AddressRefused(f"`{host}` has the address {text}, which nothing is read from", "Use another host.")
        if not is_private_allowed and not is_public(address):
            raise AddressRefused(
                f"`{host}` has the address {text}, which is not on the public internet",
                f'If it is a server of yours, allow it in nbpipe.toml: [web] allow = ["{host}"]',
            )
    return list(found)


def is_public(address: IPAddress) -> bool:
    """Return whether an address, and each one that it holds, is on the public internet."""
    return all(
        each.is_global
        and not (each.is_multicast or each.is_reserved or each.is_unspecified or each in _CLOUD_SERVICES)
        and not any(each in network for network in _NOT_PUBLIC)
        for each in _with_held(address)
    )


def _is_never_read(address: IPAddress) -> bool:
    """Return whether an address is link-local, where clouds tell credentials, one of their services, or no host's."""
    return any(
        each.is_link_local or each.is_multicast or each.is_unspecified or each in _CLOUD_SERVICES
        for each in _with_held(address)
    )


def _with_held(address: IPAddress) -> list[IPAddress]:
    """Return an address and those of version 4 that it holds; only the latter if it is just another way to write it."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    ending = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _TRANSLATED:
        return [ending]
    held: list[IPAddress | None] = [address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _ENDING_IN_V4) and not (address.is_loopback or address.is_unspecified):
        held.append(ending)
    return [address, *(each for each in held if each is not None)]
