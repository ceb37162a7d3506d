"""A laid-out graph as SVG: a live one that a style sheet colours, and a still one that needs nothing around it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from nbpipe.model import Status
from nbpipe.views.dag_layout import EdgeLine, GraphLayout, NodeBox, Point
from nbpipe.views.status_icons import MARKS
from nbpipe.views.terminal_text import fit, one_line

_PAD = 6.0
_NAME_COLUMNS = 16
_LABEL_COLUMNS = 21

# Readable on white and on black: the boxes bring their own background.
_INK, _PAPER, _LINE = "#1f2430", "#f7f8fa", "#8a93a0"
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif"


def live_svg(graph: GraphLayout) -> str:
    """Get a graph whose boxes are buttons: ``data-step`` is a node's number, statuses are set from outside."""
    number = {box.name: place for place, box in enumerate(graph.boxes)}
    lines = "".join(
        f'<g class="nbpipe-line" data-from="{number[edge.source]}" data-to="{number[edge.target]}">'
        f'<path d="{_path(edge)}"/><path class="nbpipe-tip" d="{_tip(edge)}"/></g>'
        for edge in graph.edges
    )
    boxes = "".join(_button(place, box, graph) for place, box in enumerate(graph.boxes))
    return f'{_opening(graph)} class="nbpipe-graph" role="group" aria-label="steps">{lines}{boxes}</svg>'


def still_svg(graph: GraphLayout, statuses: Mapping[str, Status], labels: Mapping[str, str]) -> str:
    """Get a finished graph as an SVG document; ``labels`` stand under the names."""
    lines = "".join(
        f'<path d="{_path(edge)}" fill="none" stroke="{_LINE}" stroke-width="1.4" stroke-linejoin="round"/>'
        f'<path d="{_tip(edge)}" fill="{_LINE}"/>'
        for edge in graph.edges
    )
    boxes = "".join(
        _still_box(box, graph, statuses.get(box.name, Status.QUEUED), labels.get(box.name, "")) for box in graph.boxes
    )
    return f'{_opening(graph)} style="{_FONT}">{lines}{boxes}</svg>'


def data_uri(svg: str) -> str:
    """Get an SVG as the address of an image, which untrusted notebooks keep."""
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode("ascii")


def _opening(graph: GraphLayout) -> str:
    width, height = graph.width + 2 * _PAD, graph.height + 2 * _PAD
    box = f"{-_PAD:g} {-_PAD:g} {width:.0f} {height:.0f}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{width:.0f}" height="{height:.0f}"'


def _button(place: int, box: NodeBox, graph: GraphLayout) -> str:
    space, name = graph.spacing, one_line(box.name)
    return (
        f'<g class="nbpipe-node" role="button" tabindex="-1" data-step="{place}" aria-label="{_text(name)}"'
        f' transform="translate({box.x:.1f} {box.y:.1f})"><title>{_text(name)}</title>'
        f'<rect class="nbpipe-box" width="{space.box:g}" height="{space.height:g}" rx="6"/>'
        f'<rect class="nbpipe-side" width="4" height="{space.height:g}" rx="2"/>'
        f'<g transform="translate(11 {space.height / 2 - 8:g})"><path class="nbpipe-shape" d=""/></g>'
        f'<text class="nbpipe-name" x="34" y="{space.height / 2 - 3:g}">{_text(fit(name, _NAME_COLUMNS))}</text>'
        f'<text class="nbpipe-told" x="34" y="{space.height / 2 + 12:g}"></text></g>'
    )


def _still_box(box: NodeBox, graph: GraphLayout, status: Status, label: str) -> str:
    space, mark = graph.spacing, MARKS[status]
    shown = fit(one_line(label or status.value), _LABEL_COLUMNS)
    return (
        f'<g transform="translate({box.x:.1f} {box.y:.1f})">'
        f'<rect width="{space.box:g}" height="{space.height:g}" rx="6" fill="{_PAPER}" stroke="{mark.colour}"/>'
        f'<rect width="4" height="{space.height:g}" rx="2" fill="{mark.colour}"/>'
        f'<g transform="translate(11 {space.height / 2 - 8:g})"><path d="{mark.path}" fill="none"'
        f' stroke="{mark.colour}" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></g>'
        f'<text x="34" y="{space.height / 2 - 3:g}" font-size="12.5" font-weight="600" fill="{_INK}">'
        f"{_text(fit(one_line(box.name), _NAME_COLUMNS))}</text>"
        f'<text x="34" y="{space.height / 2 + 12:g}" font-size="10.5" fill="#4b5563">{_text(shown)}</text></g>'
    )


def _path(edge: EdgeLine) -> str:
    first, *_ = edge.points
    return f"M{first[0]:.1f} {first[1]:.1f}" + "".join(_piece(a, b) for a, b in pairwise(edge.points))


def _piece(start: Point, end: Point) -> str:
    (x0, y0), (x1, y1) = start, end
    if x1 <= x0 or abs(y1 - y0) < 0.5:
        return f"L{x1:.1f} {y1:.1f}"
    middle = (x0 + x1) / 2
    return f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"


def _tip(edge: EdgeLine) -> str:
    x, y = edge.points[-1]
    return f"M{x:.1f} {y:.1f}l-6 -3.5v7z"


def _text(text: str) -> str:
    return escape(text, quote=True)


def labelled(names: Sequence[str], told: Mapping[str, str]) -> str:
    """Get what a picture shows in words, for those who do not see it."""
    return one_line("; ".join(f"{name}: {told.get(name, '')}" for name in names))
