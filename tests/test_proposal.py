"""Proposed pipelines give what their notebooks give, and say why cells are left as they are."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st
from sample_cells import cells

from nbpipe.authoring.measured_times import measured_seconds
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model.proposals import Proposal
from nbpipe.planning.graph import build_graph
from nbpipe.proposal.notebook_outline import OutlineCell, outline
from nbpipe.proposal.proposing import proposal_for
from nbpipe.proposal.step_names import heading_name

SET_UP = (
    "import copy\nimport random\nLIMIT = 3\nrandom.seed(7)",
    "def push(rows, x):\n    rows.append(x)\n    return len(rows)",
)
PLAIN = (
    "{0} = [1, 2, 3]", "{0} = list({1}) + [4]", "{0} = {1}", "{0}.append(5)", "{0} += [6]", "{0} = sorted({0})",
    "push({0}, 7)", "{0} = [len({1}), LIMIT]", "print({0})", "for i in range(2):\n    {0}.append(i)",
    "{0} = [{1}, len({1})]", "import math\n{0} = [math.pi]", "def last(rows):\n    return rows[-1]\n{0} = [last({1})]",
    "{0} = iter([1, 2])\n{0} = list({0})", "t = {0}\nt.append(0)", "n = len({0})\n{1} = [n]", "{0}, {1} = [1], [2]",
    "random.seed(1)\n{0} = [random.random()]", "{0} = [random.random(), 1]", "del {0}[:1]", "{0} = copy.copy({1})",
    "if len({0}) > 2:\n    {0}.pop()", "{0} = [x for x in {1}]", "len({0})", "{0}[0] = 9", "N = 2\n{0} = [N, len({1})]",
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "c", "d"])
NOTEBOOK = st.lists(st.tuples(st.sampled_from(PLAIN), NAMES, NAMES), min_size=1, max_size=8)
FAILS = (TypeError, IndexError, NameError, AttributeError)


def proposed(*sources: str, tags: Mapping[int, str] | None = None, seconds: Mapping[int, float] | None = None,
             headings: Mapping[int, str] | None = None) -> Proposal:  # fmt: skip
    """Get the proposal for a notebook of these cells, with times and headings above cells by their numbers."""
    section, heading, outlined = 0, "", []
    for cell in cells(*sources, tags=tags):
        if headings and cell.number in headings:
            section, heading = section + 1, headings[cell.number]
        outlined.append(OutlineCell(cell, (seconds or {}).get(cell.number), section, heading))
    return proposal_for(outlined)


def declared(proposal: Proposal) -> list[str]:
    """Get the first line of each changed cell."""
    return [source.partition("\n")[0] for _, source in sorted(proposal.edits.sources.items())]


def plain_values(sources: Sequence[str], proposal: Proposal) -> dict[str, Any] | None:
    """Run the notebook in one namespace, and get what each step's outputs are after its last cell."""
    namespace: dict[str, Any] = {}
    values: dict[str, Any] = {}
    try:
        for number, source in enumerate(sources, 1):
            exec(source, namespace)  # noqa: S102  # the notebooks are made here
            for step in proposal.steps:
                if step.cells[-1] == number:
                    values |= {f"{step.name}.{name}": copy.deepcopy(namespace[name]) for name in step.outputs}
    except FAILS:
        return None
    return values


def step_values(sources: Sequence[str], proposal: Proposal) -> dict[str, Any]:
    """Run each proposed step in a namespace of its own, with copies of its inputs."""
    edited, _ = proposal.edits.applied(cells(*sources))
    reading = parse_cells(edited)
    graph, errors = build_graph(reading, {}, None)
    assert [str(error) for error in (*reading.errors, *errors)] == []
    assert [warned.message for warned in reading.warnings if warned.code == "hidden-change"] == []
    values: dict[str, Any] = {}
    for name in graph.order:
        namespace: dict[str, Any] = {}
        for definition in reading.code[name].definitions:
            exec(definition.source, namespace)  # noqa: S102
        taken = [values[f"{source.step}.{source.output}"] for source in graph.feeds[name].values()]
        # Values from one step that are one object stay one object.
        namespace |= dict(zip(graph.feeds[name], copy.deepcopy(taken), strict=True))
        exec("\n".join(piece.source for piece in graph.steps[name].pieces), namespace)  # noqa: S102
        outputs = [output.name for output in graph.steps[name].outputs]
        values |= dict(zip([f"{name}.{each}" for each in outputs],
                           copy.deepcopy([namespace[each] for each in outputs]), strict=True))  # fmt: skip
    return values


@settings(max_examples=300, deadline=None)
@given(NOTEBOOK)
def test_a_proposed_pipeline_gives_what_the_notebook_gives(plan: list[tuple[str, str, str]]):
    sources = [*SET_UP, *(text.format(first, second) for text, first, second in plan)]
    proposal = proposed(*sources)
    expected = plain_values(sources, proposal)
    if expected is not None:
        note("\n---\n".join(sources))
        note("\n".join(declared(proposal)))
        assert step_values(sources, proposal) == expected


def test_cells_that_compute_become_steps_and_the_others_stay():
    proposal = proposed(
        "import json\nPATH = 'x.json'", "rows = json.load(PATH)", "rows", "total = json.load(rows)\nprint(total)"
    )
    assert [(step.name, step.cells, step.inputs, step.outputs) for step in proposal.steps] == [
        ("make_rows", (2,), (), ("rows",)),
        ("make_total", (4,), ("rows",), ("total",)),
    ]
    assert proposal.edits.sources[2] == "#| step: make_rows -o rows\nrows = json.load(PATH)"
    assert proposal.edits.above == {}


def test_a_value_worked_on_over_several_cells_is_one_step():
    proposal = proposed("rows = hash(9)", "rows.append(1)", "rows = sorted(rows)", "best = hash(rows)")
    assert declared(proposal)[:3] == [
        "#| step: make_rows -o rows",
        "#| step: make_rows --append",
        "#| step: make_rows --append",
    ]


def test_a_changed_value_comes_from_the_step_that_made_its_version():
    proposal = proposed("rows = hash(9)", "best = hash(rows)", "rows.append(best)", "worst = hash(rows, 1)")
    assert [(step.inputs, step.outputs) for step in proposal.steps] == [
        ((), ("rows",)),
        (("rows=make_rows.rows",), ("best",)),
        (("best", "rows"), ("rows",)),
        (("rows=make_rows_2.rows",), ("worst",)),
    ]


def test_definitions_move_to_a_cell_above():
    source = "import json\n# doubles\ndef twice(x):\n    return 2 * x\n\nrows = twice(json.load('x'))"
    proposal = proposed(source, "more = twice(rows)")
    assert proposal.edits.above == {1: "# doubles\ndef twice(x):\n    return 2 * x"}
    assert proposal.edits.sources[1] == "#| step: make_rows -o rows\nimport json\n\nrows = twice(json.load('x'))"


def test_definitions_that_cannot_move_are_handed_over():
    proposal = proposed(
        "a = hash(1); import os", "b = hash(a, os)", "def f(x=a):\n    return x\nc = hash(b)", "d = f()"
    )
    assert [step.outputs for step in proposal.steps] == [("os", "a"), ("b",), ("f",), ("d",)]
    proposal = proposed("def f(x):\n    return x + k\nk = hash(2)", "y = f(1)")
    assert proposal.edits.above == {1: "def f(x):\n    return x + k"}
    assert [step.inputs for step in proposal.steps] == [(), ("k",)]


def test_what_cannot_be_handed_over_is_used_in_one_step():
    proposal = proposed("lines = open('x')", "first = next(lines)", "second = hash(first)")
    assert [step.cells for step in proposal.steps] == [(1, 2), (3,)]
    assert proposal.notes[0].message == (
        "cells 1 and 2 are one step: they use `lines`, which cannot be handed from step to step"
    )


def test_a_file_is_written_and_read_in_one_step():
    proposal = proposed(
        "import pandas as pd",
        "pd.DataFrame({'x': [1]}).to_csv('a.csv')",
        "again = pd.read_csv('a.csv')",
        "n = hash(again)",
    )
    assert [step.cells for step in proposal.steps] == [(2, 3), (4,)]
    assert proposal.notes[0].message == "cells 2 and 3 are one step: they write and read the file a.csv"


def test_seeded_random_numbers_are_drawn_in_one_step():
    drawing = ("import random\nrandom.seed(1)", "a = random.random()", "b = hash(1)", "c = random.random()")
    assert [step.cells for step in proposed(*drawing).steps] == [(2, 4)]
    assert [step.cells for step in proposed(*drawing[1:]).steps] == []


def test_a_model_and_its_optimizer_are_changed_in_one_step():
    proposal = proposed(
        "from torch import nn, optim", "model = nn.Linear(1, 1)", "steps = optim.Adam(model.parameters())",
        "steps.step()\nloss = 1", "weights = list(model.parameters())",
    )  # fmt: skip
    assert proposal.steps[0].cells == (2, 3, 4)


def test_a_view_is_changed_with_what_it_shows():
    proposal = proposed(
        "def work(x):\n    return x", "image = work(1)", "part = image[:3]\npart += 1", "n = work(image)"
    )
    assert [(step.cells, step.outputs) for step in proposal.steps] == [((2, 3), ("image",)), ((4,), ("n",))]


def test_a_generator_of_random_numbers_goes_from_step_to_step():
    proposal = proposed("import numpy as np", "rng = np.random.default_rng(1)", "a = rng.normal()", "b = rng.normal()")
    assert [(step.inputs, step.outputs) for step in proposal.steps] == [
        ((), ("rng",)),
        (("rng=make_rng.rng",), ("rng", "a")),
        (("rng=make_a.rng",), ("rng", "b")),
    ]


def test_cells_with_magics_stay_and_say_so():
    proposal = proposed("!wget x", "%time rows = hash(9)", "%%time\nn = hash(rows)", "%%bash\nls", "%cd x\nm = n")
    assert proposal.edits.sources[3] == "#| step: make_n -i rows -o n\nn = hash(rows)"
    assert [note.message for note in proposal.notes] == [
        "cell 1 stays as it is: it runs `!wget x`",
        "cell 4 stays as it is: it runs `%%bash`",
        "cell 5 stays as it is: it runs `cd`",
    ]


def test_what_reads_a_cell_that_stays_stays_too():
    proposal = proposed("exec('rows = [1]')\nrows = hash(2)", "n = hash(rows)")
    assert proposal.steps == ()
    assert "its code is not all in its text" in proposal.notes[0].message
    assert "it reads `rows`, which cell 1 makes" in proposal.notes[1].message


def test_what_is_built_from_changed_values_is_no_definition():
    sources = (
        "parts = []",
        "parts.append(hash(1))",
        "first, *rest = parts[0], 1",
        "label = first",
        "best = hash(label)",
    )
    proposal = proposed(*sources)
    assert [(step.cells, step.outputs) for step in proposal.steps] == [((1, 2, 3, 4), ("label",)), ((5,), ("best",))]


def test_a_notebook_that_cannot_be_divided_is_left_alone():
    proposal = proposed("world = hash(1)", "world.a = 1", "world.b = 2", "world.c = world.a", "world.d = 4")
    assert (proposal.steps, proposal.edits.sources) == ((), {})
    assert proposal.notes[-1].message == (
        "cells 1, 2, 3, 4 and 5 work on the same values, so that all of them would be one step"
    )


def test_huge_cells_and_star_imports_are_doubtful():
    huge = "rows = hash(1)\n" + "rows += 1\n" * 200
    proposal = proposed("from math import *", huge, "n = hash(rows)")
    assert [note.message.partition(":")[0] for note in proposal.notes if note.code == "cannot-tell"] == [
        "cell 1 imports all names of `math`",
        "cell 2 has 202 lines and stays whole",
    ]


def test_a_cell_that_asks_at_the_keyboard_stays():
    proposal = proposed("name = input('name?')", "rows = hash(name)")
    assert proposal.steps == ()
    assert proposal.notes[0].message == "cell 1 stays as it is: it asks at the keyboard, which no step can"


def test_what_is_no_python_stays_and_the_rest_is_proposed():
    proposal = proposed("print 'old'", "rows = hash(9)", "n = hash(rows)")
    assert [step.cells for step in proposal.steps] == [(2,), (3,)]
    assert "cell 1 stays as it is: the code is not valid Python" in proposal.notes[0].message
    assert proposal.edits.sources[1] == "#| local\nprint 'old'"
    proposal = proposed("  print 'old'\n  x = 1", "rows = hash(9)", "n = hash(rows)")
    assert proposal.edits.sources[1] == "#| local\n  print 'old'\n  x = 1"


def test_cheap_cells_join_the_step_that_they_feed():
    sources = ("rows = hash(9)", "n = hash(rows)", "m = hash(n)")
    assert [step.cells for step in proposed(*sources, seconds={1: 20.0, 2: 0.5, 3: 30.0}).steps] == [(1, 2), (3,)]


def test_steps_are_named_after_headings_tags_and_results():
    sources = ("rows = hash(9)", "n = hash(rows)", "m = hash(rows, 1)", "k = hash(rows, 2)")
    proposal = proposed(*sources, headings={1: "1. Load the **data**", 2: "Evaluate"}, tags={4: "block:Total"})
    assert [step.name for step in proposal.steps] == ["load_data", "make_n", "make_m", "total"]
    proposal = proposed(*sources, headings={1: "1. Load the **data**", 2: "Evaluate"})
    assert [step.name for step in proposal.steps] == ["load_data", "make_n", "make_m", "make_k"]
    assert heading_name("Étape 2: l'analyse [complète](x.html) of `x`") == "etape_lanalyse_complete_x"
    assert heading_name("数据") == ""


def test_the_tags_of_kale_are_read():
    sources = ("import math", "n = 3", "rows = hash(n)", "rows.append(1)", "rows", "best = hash(rows)")
    tags = {1: "imports", 2: "pipeline-parameters", 3: "block:load", 5: "skip", 6: "block:score prev:load"}
    proposal = proposed(*sources, tags=tags)
    assert [(step.name, step.cells, step.needs) for step in proposal.steps] == [
        ("load", (3, 4), ()),
        ("score", (6,), ("load",)),
    ]
    assert proposal.edits.sources[2] == "#| parameters\nn = 3"


def test_measured_times_are_read_from_the_metadata():
    execution = {"iopub.execute_input": "2024-01-01T10:00:00Z", "shell.execute_reply": "2024-01-01T10:00:02.5Z"}
    assert measured_seconds({"execution": execution}) == 2.5
    assert measured_seconds({"papermill": {"duration": 1.5}, "execution": execution}) == 1.5
    assert measured_seconds({"execution": {**execution, "shell.execute_reply": "soon"}}) is None
    assert measured_seconds({"execution": {**execution, "shell.execute_reply": "2024-01-01T10:00:02"}}) is None


def test_headings_in_code_are_no_headings():
    (code,) = cells("x = 1")
    listed = [{"cell_type": "markdown", "source": ["# One\n", "```\n", "# no\n", "```"]}, {"cell_type": "code"}]
    (item,) = outline({"cells": listed}, [dataclasses.replace(code, number=2)], {2: 1.5})
    assert (item.section, item.heading, item.seconds) == (1, "One", 1.5)
