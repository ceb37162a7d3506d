"""A laid-out graph as SVG: a live one that a style sheet colours, and a static, self-contained one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from itertools import pairwise

from nbpipe.model import Status
from nbpipe.views.dag_layout import EdgeLine, GraphLayout, NodeBox, Point
from nbpipe.views.html import Html, element
from nbpipe.views.status_icons import MARKS
from nbpipe.views.terminal_text import fit, one_line

_PAD = 6.0
_NAME_COLUMNS = 16
_LABEL_COLUMNS = 21

# Readable on white and on black: the boxes bring their own background.
_INK, _PAPER, _LINE = "#1f2430", "#f7f8fa", "#8a93a0"
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif"


def live_svg(graph: GraphLayout) -> Html:
    """Return a graph whose boxes are buttons; ``data-step`` is a node's number, the front end sets the statuses."""
    number = {box.name: place for place, box in enumerate(graph.boxes)}
    lines = [
        element(
            "g", element("path", d=_path(edge)), element("path", class_="nbpipe-tip", d=_tip(edge)),
            class_="nbpipe-line", data_from=str(number[edge.source]), data_to=str(number[edge.target]),
        )
        for edge in graph.edges
    ]  # fmt: skip
    boxes = [_button(place, box, graph) for place, box in enumerate(graph.boxes)]
    return _svg(graph, [*lines, *boxes], class_="nbpipe-graph", role="group", aria_label="steps")


def still_svg(graph: GraphLayout, statuses: Mapping[str, Status], labels: Mapping[str, str]) -> Html:
    """Return a static graph as an SVG document with ``labels`` under the names."""
    lines = [
        part
        for edge in graph.edges
        for part in (
            element("path", d=_path(edge), fill="none", stroke=_LINE, stroke_width="1.4", stroke_linejoin="round"),
            element("path", d=_tip(edge), fill=_LINE),
        )
    ]
    boxes = [
        _still_box(box, graph, statuses.get(box.name, Status.QUEUED), labels.get(box.name, "")) for box in graph.boxes
    ]
    return _svg(graph, [*lines, *boxes], style=_FONT)


def data_uri(svg: Html) -> str:
    """Return an SVG as a data URI for an image, which untrusted notebooks display."""
    return "data:image/svg+xml;base64," + b64encode(svg.text.encode()).decode("ascii")


def _svg(graph: GraphLayout, content: Sequence[Html], **attributes: str) -> Html:
    width, height = graph.width + 2 * _PAD, graph.height + 2 * _PAD
    box = f"{-_PAD:g} {-_PAD:g} {width:.0f} {height:.0f}"
    size = {"viewBox": box, "width": f"{width:.0f}", "height": f"{height:.0f}"}
    return element("svg", *content, xmlns="http://www.w3.org/2000/svg", **size, **attributes)


def _button(place: int, box: NodeBox, graph: GraphLayout) -> Html:
    space, name = graph.spacing, one_line(box.name)
    width, height = f"{space.box:g}", f"{space.height:g}"
    shape = element("path", class_="nbpipe-shape", d="")
    return element(
        "g",
        element("title", name),
        element("rect", class_="nbpipe-box", width=width, height=height, rx="6"),
        element("rect", class_="nbpipe-side", width="4", height=height, rx="2"),
        element("g", shape, transform=f"translate(11 {space.height / 2 - 8:g})"),
        element("text", fit(name, _NAME_COLUMNS), class_="nbpipe-name", x="34", y=f"{space.height / 2 - 3:g}"),
        element("text", class_="nbpipe-detail", x="34", y=f"{space.height / 2 + 12:g}"),
        class_="nbpipe-node", role="button", tabindex="-1", data_step=str(place), aria_label=name,
        transform=f"translate({box.x:.1f} {box.y:.1f})",
    )  # fmt: skip


def _still_box(box: NodeBox, graph: GraphLayout, status: Status, label: str) -> Html:
    space, mark = graph.spacing, MARKS[status]
    width, height = f"{space.box:g}", f"{space.height:g}"
    name, shown = fit(one_line(box.name), _NAME_COLUMNS), fit(one_line(label or status.value), _LABEL_COLUMNS)
    shape = element(
        "path", d=mark.path, fill="none", stroke=mark.colour, stroke_width="2", stroke_linecap="round",
        stroke_linejoin="round",
    )  # fmt: skip
    above, below = f"{space.height / 2 - 3:g}", f"{space.height / 2 + 12:g}"
    return element(
        "g",
        element("rect", width=width, height=height, rx="6", fill=_PAPER, stroke=mark.colour),
        element("rect", width="4", height=height, rx="2", fill=mark.colour),
        element("g", shape, transform=f"translate(11 {space.height / 2 - 8:g})"),
        element("text", name, x="34", y=above, font_size="12.5", font_weight="600", fill=_INK),
        element("text", shown, x="34", y=below, font_size="10.5", fill="#4b5563"),
        transform=f"translate({box.x:.1f} {box.y:.1f})",
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


def alt_text(names: Sequence[str], labels: Mapping[str, str]) -> str:
    """Return the alternative text of a graph: the label of each step."""
    return one_line("; ".join(f"{name}: {labels.get(name, '')}" for name in names))
