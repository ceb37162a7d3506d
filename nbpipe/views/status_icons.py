"""The icons of statuses: each has its own shape and word, and a colour that only supports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nbpipe.model import Status
from nbpipe.views.html import Html, element


@dataclass(frozen=True, slots=True)
class StatusIcon:
    """A status as one letter (in messages), as an SVG path in a 16 by 16 square, and as a colour for any background."""

    letter: str
    path: str
    colour: str


_GREY, _AMBER = "#7d8794", "#b7791f"

MARKS: Mapping[Status, StatusIcon] = MappingProxyType(
    {
        Status.QUEUED: StatusIcon("q", "M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0M8 4.8V8l2.2 1.4", _GREY),
        Status.PREPARING: StatusIcon("p", "M3.4 8h.1M8 8h.1M12.6 8h.1", _GREY),
        Status.RUNNING: StatusIcon("r", "M5 3.2v9.6L12.8 8z", "#2f7de1"),
        Status.SUCCEEDED: StatusIcon("s", "M3 8.6l3.4 3.4L13 4.6", "#2e9e5b"),
        Status.REUSED: StatusIcon("u", "M13 9.4A5.2 5.2 0 1 1 12.2 5M12.8 2.4v3h-3", "#0e8a9a"),
        Status.FAILED: StatusIcon("f", "M4 4l8 8M12 4l-8 8", "#d9412f"),
        Status.CANCELLED: StatusIcon("c", "M4 4h8v8H4z", _AMBER),
        Status.SKIPPED: StatusIcon("k", "M4 3.6L9.4 8 4 12.4M12.4 3.6v8.8", _GREY),
        Status.LOST: StatusIcon("l", "M5.6 6a2.5 2.5 0 1 1 3.6 2.2C8.4 8.6 8 9.1 8 10M8 12.8h.1", _AMBER),
        Status.PARTIAL: StatusIcon("h", "M8 2a6 6 0 0 0 0 12zM8 2a6 6 0 0 1 0 12", _AMBER),
    }
)


def icon(status: Status) -> Html:
    """Return a status's icon as an inline SVG in the colour of the surrounding text."""
    shape = element("path", d=MARKS[status].path)
    return element("svg", shape, class_="nbpipe-icon", viewBox="0 0 16 16", width="16", height="16", aria_hidden="true")
