"""The picture of a graph: no box on another, every line forward, the same each time, and quick enough for 300 steps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.views.dag_layout import GraphLayout, LayoutSpacing, NodeBox, layout


@st.composite
def graphs(draw):
    """Get nodes in an order of no meaning, and what each needs of some that may come before it."""
    count = draw(st.integers(0, 25))
    names = [f"s{number}" for number in range(count)]
    needs = {
        name: tuple(draw(st.lists(st.sampled_from(names[:place]), max_size=4, unique=True))) if place else ()
        for place, name in enumerate(names)
    }
    return draw(st.permutations(names)), needs


def drawn(graph, width=960.0) -> GraphLayout:
    nodes, needs = graph
    return layout(nodes, needs, LayoutSpacing(width=width))


widths = st.sampled_from([200.0, 500.0, 960.0, 1e9])


@given(graph=graphs(), width=widths)
def test_no_box_lies_on_another_or_outside(graph, width):
    found = drawn(graph, width)
    space = found.spacing
    boxes = sorted(found.boxes, key=lambda box: (box.x, box.y))

    for upper, lower in pairwise(boxes):
        assert upper.x + space.box <= lower.x or upper.y + space.height + 1 <= lower.y
    for box in boxes:
        assert 0 <= box.x <= found.width - space.box
        assert -0.01 <= box.y <= found.height - space.height + 0.01


@given(graph=graphs(), width=widths)
def test_every_line_goes_forward_from_box_to_box(graph, width):
    nodes, needs = graph
    found = drawn(graph, width)
    boxes = {box.name: box for box in found.boxes}

    assert {(edge.source, edge.target) for edge in found.edges} == {(n, name) for name in nodes for n in needs[name]}
    for edge in found.edges:
        source, target = boxes[edge.source], boxes[edge.target]
        assert (source.band, source.x) < (target.band, target.x)
        assert source.rank < target.rank
        assert edge.points[0] == pytest.approx((source.x + found.spacing.box, source.y + found.spacing.height / 2))
        assert edge.points[-1] == pytest.approx((target.x, target.y + found.spacing.height / 2))


@given(graph=graphs())
def test_the_same_graph_gives_the_same_picture(graph):
    assert drawn(graph) == drawn(graph)


def test_a_line_through_ranks_does_not_run_through_boxes():
    """A step that also reads what an early one made: the line passes beside the steps between."""
    found = layout(["a", "b", "c", "d"], {"b": ("a",), "c": ("b",), "d": ("c", "a")})
    boxes = {box.name: box for box in found.boxes}
    (long,) = [edge for edge in found.edges if (edge.source, edge.target) == ("a", "d")]

    for x, y in long.points[1:-1]:
        for name in ("b", "c"):
            assert not (boxes[name].x <= x <= boxes[name].x + 160 and boxes[name].y < y < boxes[name].y + 38)


def crossings(found: GraphLayout) -> int:
    """Count crossings of lines between neighbouring ranks, by their ends."""
    lines = [(edge.points[0], edge.points[-1]) for edge in found.edges]
    return sum(
        (a[1] - c[1]) * (b[1] - d[1]) < 0
        for at, (a, b) in enumerate(lines)
        for c, d in lines[at + 1 :]
        if a[0] == c[0] and b[0] == d[0]
    )


def test_what_can_be_untangled_is():
    nodes = [*"abcd", *"stuv"]
    found = layout(nodes, {"s": ("d",), "t": ("c",), "u": ("b",), "v": ("a",)})

    assert crossings(found) == 0


def test_a_chain_is_straight_and_a_long_one_is_wrapped():
    short = layout(["a", "b", "c"], {"b": ("a",), "c": ("b",)})
    assert {box.y for box in short.boxes} == {0.0}
    names = [f"s{number}" for number in range(300)]
    long = layout(names, {name: (before,) for before, name in pairwise(names)})
    assert long.width <= 960
    assert len({box.band for box in long.boxes}) == 75


def test_no_node_one_node_and_unknown_needs_are_drawn():
    assert layout([], {}) == GraphLayout(0.0, 0.0, (), (), LayoutSpacing())
    assert layout(["a"], {"a": ("elsewhere",)}).boxes == (NodeBox("a", 0.0, 0.0, 0, 0),)


def test_a_ring_is_refused():
    with pytest.raises(ValueError, match="the graph has a cycle"):
        layout(["a", "b"], {"a": ("b",), "b": ("a",)})


def test_a_graph_of_all_possible_lines_is_drawn_without_bends_beyond_measure():
    """300 steps that each need all before them have four million bends."""
    names = [f"s{number}" for number in range(120)]
    found = layout(names, {name: tuple(names[:at]) for at, name in enumerate(names)})

    assert len(found.edges) == 120 * 119 // 2
    assert sum(len(edge.points) for edge in found.edges) < 60_000
