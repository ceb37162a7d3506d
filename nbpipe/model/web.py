"""What may be read from the web, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebLimits:
    """The limits of one transfer: its content in bytes, its duration, and what a server may keep us waiting for.

    ``header_seconds`` is the time for a response to begin, ``idle_seconds`` that without a single byte, and
    ``slowest`` the bytes per second below which a transfer is given up.
    """

    content: int = 50 << 30
    seconds: float = 6 * 3600.0
    header_seconds: float = 60.0
    idle_seconds: float = 60.0
    slowest: int = 1024


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What inputs from the web may reach beyond public addresses by ``https:``; hosts are written as in an address.

    The hosts of ``allowed`` may have addresses of a private network; those of ``unencrypted`` may be read by ``http:``.
    """

    allowed: frozenset[str] = frozenset()
    unencrypted: frozenset[str] = frozenset()
    limits: WebLimits = WebLimits()
