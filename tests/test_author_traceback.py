"""Tracebacks name the author's cells and lines, wherever the one-step notebook has put the code."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_cells import cells

from nbpipe.data.author_traceback import in_author_cells, with_author_tracebacks
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.step_notebook import render_step_notebook

SHARED = {"role": "shared", "lines": [[2, 2, 1], [5, 2, 9], [9, 3, 98], [13, 4, 0]]}
STEP = {"role": "step", "cell": 7}
NOTED = [(1, {"role": "setup"}), (2, SHARED), (3, STEP), (None, {})]


def test_frames_and_their_lines_are_those_of_the_author():
    text = """\
KeyError                                  Traceback (most recent call last)
Cell In[3], line 2
      1 z = 1
----> 2 m = fit(z)

Cell In[2], line 6, in fit(x)
      5 def fit(x):
----> 6     return deep(x)

Cell In[2], line 11, in deep(x)
      9 def deep(x):
     10     # here
---> 11     return {}[x]

File ~/lib.py:6, in get(x)
      5 def get(x):
----> 6     return x

KeyError: 3"""
    assert (
        in_author_cells(text, NOTED)
        == """\
KeyError                                  Traceback (most recent call last)
Cell 7, line 2
      1 z = 1
----> 2 m = fit(z)

Cell 2, line 10, in fit(x)
      9 def fit(x):
---> 10     return deep(x)

Cell 3, line 100, in deep(x)
     98 def deep(x):
     99     # here
--> 100     return {}[x]

File ~/lib.py:6, in get(x)
      5 def get(x):
----> 6     return x

KeyError: 3"""
    )


def test_a_line_that_is_not_as_the_author_wrote_it_has_no_number():
    text = "Cell In[2], line 14, in f()\n     13 def f():\n---> 14     return x"
    assert in_author_cells(text, NOTED) == "Cell 4, in f()\n        def f():\n----->      return x"


NOTES = st.dictionaries(
    st.sampled_from(["role", "lines", "cell"]),
    st.one_of(
        st.sampled_from(["shared", "step"]), st.integers(), st.none(),
        st.lists(st.lists(st.integers(), max_size=4)),
    ),
)  # fmt: skip


@given(st.text(), st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), NOTES)))
def test_any_text_and_any_notes_are_read(text, noted):
    in_author_cells(f"Cell In[1], line 3{text}\n 1 {text}\n{text}", noted)


def test_other_text_stays():
    text = "In[3], line 2\n      1 x\nprinted Cell In[9], line 2, in f"
    assert in_author_cells(text, NOTED) == text


def test_the_lines_are_those_of_the_rendered_definitions():
    source = "import math\n\n# a comment\n@decorated\ndef fit(x):\n    return math.sqrt(x)\n\n\n\nLIMIT = [\n    1,\n]"
    other = "def decorated(f):\n    return f"
    reading = parse_cells(cells(source, other, "%%step a -o b\nb = fit(LIMIT)"))
    rendered = json.loads(render_step_notebook(reading.steps[0], reading.code["a"], {}, None))["cells"]
    shared = next(cell for cell in rendered if cell["metadata"]["nbpipe"]["role"] == "shared")
    written = {1: source.split("\n"), 2: other.split("\n")}
    lines = shared["source"].split("\n")
    places = shared["metadata"]["nbpipe"]["lines"]
    assert len(places) == 4
    for first, cell, line in places:
        if line:
            assert lines[first - 1] == written[cell][line - 1]


@pytest.mark.parametrize("colour", ["", "\x1b[36m"])
def test_an_executed_notebook_is_shown_so(colour):
    error = {"output_type": "error", "traceback": [f"{colour}Cell In[2], line 6, in fit(x)", "----> 6     x"]}
    stream = {"output_type": "stream", "text": "Cell In[2], line 6"}
    notebook = {"cells": [
        {"execution_count": 2, "metadata": {"nbpipe": SHARED}, "outputs": [stream]},
        {"execution_count": 3, "metadata": {"nbpipe": STEP}, "outputs": [error]}, {},
    ]}  # fmt: skip
    outputs = [cell["outputs"] for cell in with_author_tracebacks(notebook)["cells"]]
    assert outputs[0] == [stream]
    assert outputs[1][0]["traceback"] == ["Cell 2, line 10, in fit(x)", "---> 10     x"]
