"""Graph layout: layers from left to right, few crossings, long chains wrapped like lines of text.

Ranks are longest paths; an edge bends where it passes a rank; barycentre sweeps keep the best order; the heights in a
rank are as near as possible to its neighbours' without overlap. The same graph gives the same picture.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

# The longest edges are drawn without bends beyond this number in all: a bend costs as much as a box.
_MOST_BENDS = 3_000
_SWEEPS = 12
_ALIGNMENTS = 6
# Lines between two bands of a wrapped graph: their distance, and how many there is room for.
_LANE = 5.0
_LANES = 5


@dataclass(frozen=True, slots=True)
class LayoutSpacing:
    """Sizes and gaps: ``across`` between ranks, ``down`` between boxes of a rank; graphs wrap at ``width``."""

    box: float = 160.0
    height: float = 38.0
    across: float = 36.0
    down: float = 14.0
    width: float = 960.0


@dataclass(frozen=True, slots=True)
class NodeBox:
    """A node's position: ``x`` and ``y`` are its upper left corner; ``band`` is the band that its rank is in."""

    name: str
    x: float
    y: float
    rank: int
    band: int


@dataclass(frozen=True, slots=True)
class EdgeLine:
    """A line from a box to a box that depends on it, through ``points``."""

    source: str
    target: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class GraphLayout:
    """A laid-out graph, with boxes in the order of the nodes."""

    width: float
    height: float
    boxes: tuple[NodeBox, ...]
    edges: tuple[EdgeLine, ...]
    spacing: LayoutSpacing


# The entries of a rank are numbers of nodes; bends have numbers beyond those of the nodes.
_Ranks = list[list[int]]


@dataclass(slots=True)
class _Drawing:
    """The state shared by the passes: ranks, and the neighbours of each node to the left and to the right."""

    ranks: _Ranks
    before: dict[int, list[int]]
    after: dict[int, list[int]]
    nodes: int


def layout(
    nodes: Sequence[str], needs: Mapping[str, Sequence[str]], spacing: LayoutSpacing | None = None
) -> GraphLayout:
    """Return the positions of nodes and of the lines from their needs; ``needs`` is acyclic, unknown names are skipped.

    If nodes are wrapped, a line may lead from the end of one band to the beginning of a later one.
    """
    space = spacing or LayoutSpacing()
    number = {name: place for place, name in enumerate(nodes)}
    edges = [
        (number[need], number[name]) for name in nodes for need in dict.fromkeys(needs.get(name, ())) if need in number
    ]
    ranked = _ranked(len(nodes), edges)
    drawing, chains = _with_bends(ranked, edges)
    _untangle(drawing)
    columns = _columns(len(drawing.ranks), space)
    heights = _aligned(drawing, space, columns)
    return _Placed(drawing, heights, space, columns).layout(nodes, ranked, edges, chains)


def _ranked(count: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """Return each node's rank: after all nodes it needs, and as near as possible to the nodes that need it."""
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    order = _order(before, after)
    ranks = [0] * count
    for node in order:
        ranks[node] = max((ranks[need] + 1 for need in before[node]), default=0)
    for node in reversed(order):
        if after[node] and not before[node]:
            ranks[node] = min(ranks[later] for later in after[node]) - 1
    return ranks


def _order(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> list[int]:
    """Return the nodes in topological order."""
    missing = [len(needs) for needs in before]
    order = [node for node, count in enumerate(missing) if not count]
    for node in order:
        for later in after[node]:
            missing[later] -= 1
            if not missing[later]:
                order.append(later)
    if len(order) < len(before):
        raise ValueError("the graph has a cycle")
    return order


def _with_bends(
    ranked: Sequence[int], edges: Sequence[tuple[int, int]]
) -> tuple[_Drawing, dict[tuple[int, int], list[int]]]:
    """Add a bend for each edge to every rank that it passes; return the chain of nodes and bends of each edge."""
    ranks: _Ranks = [[] for _ in range(max(ranked, default=-1) + 1)]
    for node, rank in enumerate(ranked):
        ranks[rank].append(node)
    longest = _longest_allowed([ranked[target] - ranked[source] for source, target in edges])
    drawing = _Drawing(ranks, {}, {}, len(ranked))
    chains: dict[tuple[int, int], list[int]] = {}
    fresh = len(ranked)
    for source, target in edges:
        chain = [source]
        if ranked[target] - ranked[source] <= longest:
            for rank in range(ranked[source] + 1, ranked[target]):
                ranks[rank].append(fresh)
                chain.append(fresh)
                fresh += 1
        chain.append(target)
        chains[source, target] = chain
        if ranked[target] - ranked[source] <= longest:
            for left, right in pairwise(chain):
                drawing.after.setdefault(left, []).append(right)
                drawing.before.setdefault(right, []).append(left)
    return drawing, chains


def _longest_allowed(spans: Sequence[int]) -> int:
    """Return the length up to which edges get bends, to limit their number."""
    room, longest = _MOST_BENDS, 1
    for span in sorted(spans):
        room -= span - 1
        if room < 0:
            break
        longest = span
    return longest


# Order within ranks


def _untangle(drawing: _Drawing) -> None:
    """Sweep over the ranks, right and left, and keep the order with the fewest crossings."""
    best, fewest = [list(rank) for rank in drawing.ranks], _crossings(drawing)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        rightwards = sweep % 2 == 0
        toward = drawing.before if rightwards else drawing.after
        ranks = drawing.ranks if rightwards else drawing.ranks[::-1]
        for fixed, free in pairwise(ranks):
            place = {node: at for at, node in enumerate(fixed)}
            middle = {node: _middle(toward.get(node, ()), place, at) for at, node in enumerate(free)}
            free.sort(key=middle.__getitem__)
        crossings = _crossings(drawing)
        if crossings < fewest:
            best, fewest = [list(rank) for rank in drawing.ranks], crossings
    drawing.ranks[:] = best


def _middle(neighbours: Sequence[int], place: Mapping[int, int], now: int) -> float:
    positions = [place[node] for node in neighbours if node in place]
    return sum(positions) / len(positions) if positions else float(now)


def _crossings(drawing: _Drawing) -> int:
    """Count the pairs of lines that cross between two ranks."""
    count = 0
    for left, right in pairwise(drawing.ranks):
        place = {node: at for at, node in enumerate(right)}
        passed: list[int] = []
        for node in left:
            targets = sorted(place[other] for other in drawing.after.get(node, ()))
            # Lines that come earlier and end further down are crossed.
            count += sum(len(passed) - _after(passed, target) for target in targets)
            for target in targets:
                insort(passed, target)
    return count


def _after(passed: Sequence[int], target: int) -> int:
    return bisect_left(passed, target + 1)


# Heights


def _columns(ranks: int, space: LayoutSpacing) -> int:
    """Return how many ranks fit into a band; a wrapped graph needs room at its sides for lines between bands."""
    step = space.box + space.across
    return ranks if ranks * step - space.across <= space.width else max(1, int((space.width - space.across) // step))


def _aligned(drawing: _Drawing, space: LayoutSpacing, columns: int) -> dict[int, float]:
    """Return the middle of each node: as near to its neighbours' in the same band as order and room allow."""
    band = {node: place // columns for place, rank in enumerate(drawing.ranks) for node in rank}
    sizes = {node: space.height if node < drawing.nodes else 2.0 for rank in drawing.ranks for node in rank}
    offsets = [_offsets(rank, sizes, space.down) for rank in drawing.ranks]
    heights = {
        node: at for rank, line in zip(drawing.ranks, offsets, strict=True) for node, at in zip(rank, line, strict=True)
    }
    for turn in range(_ALIGNMENTS):
        rightwards = turn % 2 == 0
        toward = drawing.before if rightwards else drawing.after
        numbered = list(zip(drawing.ranks, offsets, strict=True))
        for rank, line in numbered if rightwards else numbered[::-1]:
            near = ([heights[o] for o in toward.get(node, ()) if band[o] == band[node]] for node in rank)
            preferred = [_mean(neighbours, heights[node]) for node, neighbours in zip(rank, near, strict=True)]
            heights.update(zip(rank, _nearest(preferred, line), strict=True))
    return heights


def _offsets(rank: Sequence[int], sizes: Mapping[int, float], gap: float) -> list[float]:
    """Return the middles of a rank's nodes when they are packed."""
    middles, at = [], 0.0
    for node in rank:
        middles.append(at + sizes[node] / 2)
        at += sizes[node] + gap
    return middles


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _nearest(preferred: Sequence[float], packed: Sequence[float]) -> list[float]:
    """Return the heights nearest to the preferred ones that keep order and distances (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for height, offset in zip(preferred, packed, strict=True):
        total, count = height - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    shifts = [total / count for total, count in pools for _ in range(count)]
    return [offset + shift for offset, shift in zip(packed, shifts, strict=True)]


# Places


class _Placed:
    """Ranks as columns, wrapped into bands if there are too many for the width."""

    def __init__(self, drawing: _Drawing, heights: Mapping[int, float], space: LayoutSpacing, columns: int) -> None:
        self._space = space
        self._heights = heights
        self._rank = {node: place for place, rank in enumerate(drawing.ranks) for node in rank}
        self._columns = max(columns, 1)
        self._margin = space.across if columns < len(drawing.ranks) else 0.0
        self._bands = self._stack(drawing)
        self._lane = 0

    def _stack(self, drawing: _Drawing) -> list[tuple[float, float]]:
        """Return for each band its vertical offset and its lower end."""
        bands, top = [], 0.0
        for first in range(0, len(drawing.ranks), self._columns):
            nodes = [node for rank in drawing.ranks[first : first + self._columns] for node in rank]
            low = min(self._heights[node] for node in nodes) - self._space.height / 2
            high = max(self._heights[node] for node in nodes) + self._space.height / 2
            bands.append((top - low, top + high - low))
            top += high - low + self._space.down * 2 + _LANE * _LANES
        return bands

    def layout(
        self,
        nodes: Sequence[str],
        ranked: Sequence[int],
        edges: Sequence[tuple[int, int]],
        chains: Mapping[tuple[int, int], Sequence[int]],
    ) -> GraphLayout:
        """Return the finished layout."""
        boxes = tuple(
            NodeBox(name, self._x(node), self._y(node) - self._space.height / 2, ranked[node], self._band(node))
            for node, name in enumerate(nodes)
        )
        lines = tuple(EdgeLine(nodes[edge[0]], nodes[edge[1]], tuple(self._line(chains[edge]))) for edge in edges)
        right = max((box.x + self._space.box for box in boxes), default=0.0) + self._margin
        lower = self._bands[-1][1] if self._bands else 0.0
        return GraphLayout(right, lower, boxes, lines, self._space)

    def _band(self, node: int) -> int:
        return self._rank[node] // self._columns

    def _x(self, node: int) -> float:
        return self._margin + (self._rank[node] % self._columns) * (self._space.box + self._space.across)

    def _y(self, node: int) -> float:
        return self._heights[node] + self._bands[self._band(node)][0]

    def _line(self, chain: Sequence[int]) -> Iterable[Point]:
        """Return the points of a line: through its bends, and through the lane under a band to continue in another."""
        yield self._x(chain[0]) + self._space.box, self._y(chain[0])
        for left, right in pairwise(chain):
            if self._band(left) != self._band(right):
                yield from self._detour(left, right)
            yield self._x(right), self._y(right)
            if right != chain[-1]:
                yield self._x(right) + self._space.box, self._y(right)

    def _detour(self, left: int, right: int) -> Iterable[Point]:
        shift = _LANE * (1 + self._lane % _LANES)
        self._lane += 1
        lane = self._bands[self._band(left)][1] + self._space.down + shift - _LANE
        out, back = self._x(left) + self._space.box + shift + _LANE, self._x(right) - shift - _LANE
        yield out, self._y(left)
        yield out, lane
        yield back, lane
        yield back, self._y(right)
