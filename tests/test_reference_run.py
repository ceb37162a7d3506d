"""Any small notebook gives what one kernel would give, or its author is told beforehand."""

from __future__ import annotations

import copy
import random
import re
import types
from collections import defaultdict
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
    "def more(x, own=[]):\n    own.append(x)\n    return len(own)",
    "def grow(row):\n    row.append(0)\n    return row",
    "from functools import partial\nADD = partial(list.append, kept)",
    "def counter():\n    n = [0]\n    def step():\n        n[0] += 1\n        return n[0]\n    return step",
    ("class Box:\n    def __init__(self, xs):\n        self.xs = xs\n    def put(self, x):\n        self.xs.append(x)\n"
    "    def __call__(self):\n        self.xs.append(2)\n        return len(self.xs)\n"
    "    def __getitem__(self, k):\n        self.xs.append(k)\n        return k\n"
    "    @property\n    def size(self):\n        self.xs.append(1)\n        return len(self.xs)"),
)  # fmt: skip
# Steps at the beginning, by what they output: objects that are changed by being used, or through others.
MAKERS = {
    "o0": "o0 = [1, 2, 3]", "r0": "r0 = [[1], [2]]", "g0": "import random\ng0 = random.Random(1)",
    "i0": "i0 = iter([4, 5, 6, 7, 8])", "b0": "b0 = Box([7])", "c0": "c0 = counter()",
    "d0": "from collections import defaultdict\nd0 = defaultdict(list)",
    "n0": "K = 2\ndef n0(x):\n    return x * K", "s0": "M = [1]\ns0 = [lambda x: x + len(M)]",
}  # fmt: skip
CHANGES = (
    "{0}.append(5)", "{0}[0] = 7", "{0} += [6]", "{0} = list({0}) + [8]", "{0} = [4]", "del {0}[:1]", "{0}.extend([1])",
    "fill({0})", "same({0}).append(2)", "t = {0}\nt.append(3)", "t = list({0})\nt.append(3)",
    "[t.append(0) for t in [{0}]]", "for t in [{0}]:\n    t.insert(0, 1)", "for {0} in [{0}]: pass",
    "if len({0}) > 1:\n    {0}.pop()", "t = same({0})\nt.clear()", "setattr(Counter, 'made', 5)", "push(1)",
    "kept.append(2)", "table['k'] = 1", "table |= {{'j': 2}}", "bump()", "LIMIT = 4", "Counter()", "Counter().see(1)",
    "Counter.made += 1", "count = 7", "t = kept\nt.append(1)", "list(map(push, [1]))", "globals()['LIMIT'] = 9",
    "(lambda: table.update(z=1))()", "t = 1", "len({0})", "print", "t = {0}, 1\nt[0].append(1)",
    "r0[0].append(4)", "for row in r0:\n    row.append(5)", "list(map(grow, r0))", "[grow(row) for row in r0]",
    "t = r0[0]\nt.append(6)", "t = r0[:1]\nt[0].append(6)", "t = list(r0)\nt[0].append(7)", "grow(r0[1])",
    "t = [row for row in r0 if row]\nt[0].append(8)", "t = max(r0, key=len)\nt.append(9)", "a, b = r0\na.append(3)",
    "for i in range(2):\n    r0[i].append(3)", "for i in range(2):\n    t = r0[i]\n    t.append(3)",
        "t = r0[1:]\nt.append(1)",
    "t = []\nt.append({0})\nt[0].append(4)", "t = {{}}\nt['k'] = {0}\nt['k'].append(4)",
        "t = {{'k': {0}}}\nt['k'].append(4)",
    "t = Box({0})\nt.put(3)", "t = Box({0})\nt()", "t = {0}.append\nt(3)", "t = len({0})\nt += 1", "t = r0\nt += [[3]]",
    "next(i0)", "for t in i0:\n    break", "t = list(i0)", "g0.random()", "g0.shuffle({0})", "t = c0()",
        "b0.put(1)", "b0()",
    "b0['k']", "t = b0.size", "d0['x']", "d0['x'].append(1)", "more(1)", "t = b0.xs\nt.append(3)", "t = sorted(r0)",
    "from functools import partial\nt = partial(list.append, {0})\nt(4)",
    "from functools import partial\npartial(fill, {0})()",
    "from functools import partial\nt = partial(grow)\nlist(map(t, r0))", "ADD(4)", "list(map(ADD, [4]))",
    "from operator import methodcaller\nmethodcaller('append', 3)({0})", "list(map(list.append, [{0}], [3]))",
    "list(map({0}.append, [3]))", "getattr({0}, 'append')(3)", "for t in (fill, grow):\n    t({0})",
    "t = fill\nt({0})",
    "[t({0}) for t in [grow]]", "grow(*[{0}])", "t = ({0},)\ngrow(*t)", "grow(**{{'row': {0}}})",
    "grow(**dict(row={0}))",
    "(lambda t: t.append(1))({0})", "t = lambda each: each.append(1)\nt({0})", "t = {0}[:1]\nt[0] = 5",
    "k = 0\nt = r0[k]\nt.append(5)",
    "K = 7", "{0} = {0}", "t = {0}\n{0} = [1]\nt.append(2)", "def k(d):\n    d.append(8)\nk({0})",
    "t = lambda: {0}.append(1)\nt()", "t = [{0}]\nt.clear()", "sum = 1", "t = (x for x in {0})\nt = list(t)",
)  # fmt: skip
RESULTS = (
    "list({0})", "{0}", "same({0})", "[len({0})]", "[size()]", "[LIMIT, count]", "list(kept)", "sorted(table)",
    "[{0}, 1]", "Counter().tell()", "[Counter.made]", "[push(3)]", "[bump()]", "[*{0}, len(table)]", "fill(list({0}))",
    "fill({0})", "[1]",
    "[more(2)]", "[next(i0)]", "[g0.random()]", "[c0()]", "[b0()]", "[b0.size]", "[len(d0)]", "list(b0.xs)",
    "[len(row) for row in r0]", "list(r0[0])", "[sum([1, 2])]", "[{0} is o0]", "[any(t is {0} for t in [o0, r0[0]])]",
    "[id({0}) == id(o0)]", "[n0(3)]", "[s0[0](1)]", "{{'k': {0}}}.get('k')", "r0[0]", "[{0}, o0]", "[len({0}), o0]",
    "[n0(1), len({0})]",
)  # fmt: skip
_ERRORS = (TypeError, IndexError, NameError, AttributeError, StopIteration, ValueError)
CELL = st.tuples(
    st.sampled_from(["step", "step", "ordinary", "more", "both"]),
    st.integers(0, 5),
    st.lists(st.sampled_from(CHANGES), max_size=2),
    st.sampled_from(RESULTS),
)


def notebook(plan: list[tuple[str, int, list[str], str]]) -> list[str]:
    """Get the cells of a notebook: definitions, some steps, then steps and ordinary cells that use their outputs."""
    cells = [*DEFINITIONS, *(f"%%step s{name} -o {name}\n{code}" for name, code in MAKERS.items())]
    # Which step has made each name last.
    makers, made = {name: f"s{name}" for name in MAKERS}, ["o0"]
    for kind, which, changes, result in plan:
        name = made[which % len(made)]
        lines = [change.format(name) for change in changes]
        if kind == "ordinary" or (kind == "more" and len(made) == 1):
            cells.append("\n".join(lines) or "pass")
            continue
        if kind == "more":
            lines = [change.format(made[-1]) for change in changes]
            used = inputs(lines, {each: step for each, step in makers.items() if step != f"s{len(made) - 1}"})
            cells.append(f"%%step s{len(made) - 1} --append{used}\n" + ("\n".join(lines) or "pass"))
            continue
        own = f"o{len(made)}"
        lines.append(f"{own} = {result.format(name)}")
        # Some steps hand on what they were handed, too.
        also = name if kind == "both" and name in inputs(lines, makers) else ""
        cells.append(f"%%step s{len(made)}{inputs(lines, makers)} -o {own}{also and f',{also}'}\n" + "\n".join(lines))
        makers |= dict.fromkeys([own, also] if also else [own], f"s{len(made)}")
        made.append(own)
    return cells


def inputs(lines: list[str], makers: dict[str, str]) -> str:
    """Get the declaration of the outputs that some code mentions."""
    words = set(re.findall(r"\w+", "\n".join(lines)))
    used = [f"{name}={step}.{name}" for name, step in makers.items() if name in words]
    return f" -i {','.join(used)}" if used else ""


def body(cell: str) -> str:
    return cell.partition("\n")[2] if cell.startswith("%%step") else cell


def step_name(cell: str) -> str:
    return cell.split()[1] if cell.startswith("%%step") else ""


def plainly(cells: list[str], outputs: dict[str, list[str]]) -> dict[str, Any] | None:
    """Run all cells in one namespace, and get each output as its step left it; None if the notebook fails."""
    namespace: dict[str, Any] = {}
    results: dict[str, Any] = {}
    last = {step_name(cell): at for at, cell in enumerate(cells)}
    try:
        for at, cell in enumerate(cells):
            exec(body(cell), namespace)  # noqa: S102  # the notebooks are made here
            name = step_name(cell)
            if name and last[name] == at:
                results |= {f"{name}.{each}": value_of(namespace[each]) for each in outputs[name]}
    except _ERRORS:
        return None
    return results


def value_of(value: Any) -> Any:
    """Get what can be compared of a value: the state of an object, the rest of an iterator."""
    copied = copied_apart(value)
    if type(copied).__name__ == "Box":
        return copied.xs
    if callable(copied):
        return [cell.cell_contents for cell in copied.__closure__ or ()]
    if isinstance(copied, random.Random):
        return copied.getstate()
    if isinstance(copied, list):
        return [each.__name__ if callable(each) else each for each in copied]
    return list(copied) if hasattr(copied, "__next__") else copied


def copied_apart(value: Any, together: dict[int, Any] | None = None) -> Any:
    """Get a copy as storing and loading would make it; functions keep a copy of what they enclose.

    What is copied ``together`` shares objects as before.
    """
    if not isinstance(value, types.FunctionType) or not value.__closure__:
        return copy.deepcopy(value, together)
    cells = tuple(types.CellType(copy.deepcopy(cell.cell_contents)) for cell in value.__closure__)
    return types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)


def in_steps(reading: ParsedNotebook, graph: PipelineGraph) -> dict[str, Any] | None:
    """Run each step in a namespace of its own with copies of its inputs, as a pipeline does."""
    results: dict[str, Any] = {}
    try:
        for step in reading.steps:
            namespace: dict[str, Any] = {}
            for definition in reading.code[step.name].definitions:
                exec(definition.source, namespace)  # noqa: S102
            together: dict[str | None, dict[int, Any]] = defaultdict(dict)
            for name, source in graph.feeds[step.name].items():
                value = results[f"{source.step}.{source.output}"]
                namespace[name] = copied_apart(value, together[source.step])
            exec("\n".join(piece.source.partition("\n")[2] for piece in step.pieces), namespace)  # noqa: S102
            stored: dict[int, Any] = {}
            for output in step.outputs:
                results[f"{step.name}.{output.name}"] = copied_apart(namespace[output.name], stored)
    except _ERRORS:
        return None
    return {name: value_of(value) for name, value in results.items()}


@settings(max_examples=400, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=5))
def test_a_notebook_gives_the_same_in_steps_or_its_author_is_told(plan: list[tuple[str, int, list[str], str]]):
    cells = notebook(plan)
    reading = read(*cells)
    graph, errors = build_graph(reading, {}, None)
    told = [*reading.errors, *errors, *(w for w in reading.warnings if w.code in ("hidden-change", "changed-input"))]
    if told:
        return
    expected = plainly(cells, {step.name: [output.name for output in step.outputs] for step in reading.steps})
    if expected is not None:
        note("\n---\n".join(cells))
        assert in_steps(reading, graph) == expected
