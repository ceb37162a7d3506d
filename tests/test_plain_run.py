"""Any small notebook gives what one kernel would give, or its author is told beforehand."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st
from sample_cells import read

from nbpipe.language.notebook_parser import ParsedNotebook
from nbpipe.planning.graph import PipelineGraph, build_graph

DEFINITIONS = (
    "kept = []\ntable = {'n': 1}\nLIMIT = 3\ncount = 0",
    "def push(x):\n    kept.append(x)\n    return len(kept)",
    "def fill(d):\n    d.append(9)\n    return d",
    "def same(d):\n    return d",
    "def bump():\n    global count\n    count += 1\n    return count",
    "def size():\n    return len(kept) + len(table) + LIMIT",
    ("class Counter:\n    made = 0\n    seen = []\n    def __init__(self):\n        type(self).made += 1\n"
    "    def see(self, x):\n        self.seen.append(x)\n        return self\n    def tell(self):\n"
    "        return [self.made, len(self.seen)]"),
)  # fmt: skip
CHANGES = (
    "{0}.append(5)", "{0}[0] = 7", "{0} += [6]", "{0} = list({0}) + [8]", "{0} = [4]", "del {0}[:1]", "{0}.extend([1])",
    "fill({0})", "same({0}).append(2)", "t = {0}\nt.append(3)", "t = list({0})\nt.append(3)",
    "[t.append(0) for t in [{0}]]", "for t in [{0}]:\n    t.insert(0, 1)", "for {0} in [{0}]: pass",
    "if len({0}) > 1:\n    {0}.pop()", "t = same({0})\nt.clear()", "setattr(Counter, 'made', 5)", "push(1)",
    "kept.append(2)", "table['k'] = 1", "table |= {{'j': 2}}", "bump()", "LIMIT = 4", "Counter()", "Counter().see(1)",
    "Counter.made += 1", "count = 7", "t = kept\nt.append(1)", "list(map(push, [1]))", "globals()['LIMIT'] = 9",
    "(lambda: table.update(z=1))()", "t = 1", "len({0})", "print", "t = {0}, 1\nt[0].append(1)",
)  # fmt: skip
RESULTS = (
    "list({0})", "{0}", "same({0})", "[len({0})]", "[size()]", "[LIMIT, count]", "list(kept)", "sorted(table)",
    "[{0}, 1]", "Counter().tell()", "[Counter.made]", "[push(3)]", "[bump()]", "[*{0}, len(table)]", "fill(list({0}))",
    "fill({0})", "[1]",
)  # fmt: skip
CELL = st.tuples(
    st.booleans(), st.integers(0, 5), st.lists(st.sampled_from(CHANGES), max_size=2), st.sampled_from(RESULTS)
)


def notebook(plan: list[tuple[bool, int, list[str], str]]) -> list[str]:
    """Get the cells of a notebook: definitions, one step, then steps and ordinary cells that use a step's output."""
    cells, made = [*DEFINITIONS, "%%step s0 -o o0\no0 = [1, 2, 3]"], ["o0"]
    for is_step, which, changes, result in plan:
        name = made[which % len(made)]
        lines = [change.format(name) for change in changes]
        if not is_step:
            cells.append("\n".join(lines) or "pass")
            continue
        made.append(f"o{len(made)}")
        lines.append(f"{made[-1]} = {result.format(name)}")
        cells.append(f"%%step s{len(made) - 1} -i {name} -o {made[-1]}\n" + "\n".join(lines))
    return cells


def body(cell: str) -> str:
    return cell.partition("\n")[2] if cell.startswith("%%step") else cell


def plainly(cells: list[str], outputs: list[str]) -> dict[str, Any] | None:
    """Run all cells in one namespace, and get each output as its step left it; None if the notebook fails."""
    namespace: dict[str, Any] = {}
    results: dict[str, Any] = {}
    try:
        for cell in cells:
            exec(body(cell), namespace)  # noqa: S102  # the notebooks are made here
            if cell.startswith("%%step"):
                name = outputs[len(results)]
                results[name] = copy.deepcopy(namespace[name])
    except (TypeError, IndexError, NameError, AttributeError):
        return None
    return results


def in_steps(reading: ParsedNotebook, graph: PipelineGraph) -> dict[str, Any] | None:
    """Run each step in a namespace of its own with copies of its inputs, as a pipeline does."""
    results: dict[str, Any] = {}
    try:
        for step in reading.steps:
            namespace: dict[str, Any] = {}
            for definition in reading.code[step.name].definitions:
                exec(definition.source, namespace)  # noqa: S102
            for name, source in graph.feeds[step.name].items():
                namespace[name] = copy.deepcopy(results[source.output])
            exec("\n".join(piece.source.partition("\n")[2] for piece in step.pieces), namespace)  # noqa: S102
            results |= {output.name: copy.deepcopy(namespace[output.name]) for output in step.outputs}
    except (TypeError, IndexError, NameError, AttributeError):
        return None
    return results


@settings(max_examples=400, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=5))
def test_a_notebook_gives_the_same_in_steps_or_its_author_is_told(plan: list[tuple[bool, int, list[str], str]]):
    cells = notebook(plan)
    reading = read(*cells)
    graph, errors = build_graph(reading, {}, None)
    told = [*reading.errors, *errors, *(w for w in reading.warnings if w.code in ("hidden-change", "changed-input"))]
    if told:
        return
    expected = plainly(cells, [output.name for step in reading.steps for output in step.outputs])
    if expected is not None:
        note("\n---\n".join(cells))
        assert in_steps(reading, graph) == expected
