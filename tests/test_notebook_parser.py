"""Any cells whatever are read: what is wrong with them is in ``errors``, and nothing is raised."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample_cells import cells, fine, read, wrong

from nbpipe.errors import Refused
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import unbound_errors
from nbpipe.model import Cell

GOOD = (
    "#| parameters\nlr: float = 0.1  # rate\nmode: Literal['a', 'b'] = 'a'",
    (
        "import math\nfrom os import path\nLIMIT = [1, 2]\n\n@staticmethod\n"
        "def f(x: int = 1) -> int:\n    '''doc'''\n    return x + lr"
    ),
    "class C(Exception):\n    y = [x for x in LIMIT if x]\n    def m(self): return super(), f'{lr!r:>{LIMIT}}'",
    "%load_ext nbpipe\n%nbpipe defaults retries=1\n!ls {LIMIT}\nx = !ls\nx?",
    "#| shared\ntry:\n    import ujson as json\nexcept ImportError as e:\n    import json",
    (
        "%%step prepare -i raw:csv=./data/raw.csv, more=./x/*.csv \\\n"
        "  -o clean,report:json --retries 2 --when \"mode == 'a'\"\n#| salt: v1\n"
        "clean = f(raw)\nreport = {'n': len(clean)}"
    ),
    (
        "#| step: train\n#| in: clean, r=prepare.report\n# | out: model, plots:dir\n"
        "with open('a') as g, g as h:\n    model = [C(), (n := 1), *clean]"
    ),
    (
        "%%step train --append -o extra\nmatch model:\n    case [a, *_]: extra = a\n"
        "    case {'k': v, **rest}: extra = rest\n    case _: extra = None"
    ),
    "async def go():\n    async for i in it(): yield i\nawait go()\nlambda: (yield)",
)
TAGS = st.sampled_from(["", "", "", "parameters", "shared", "local", "injected-parameters"])
PIECES = st.sampled_from(
    [
        "%%step ",
        "#| ",
        "# | step: ",
        "%%time\n",
        "in: ",
        "-i ",
        "-o x",
        " --append",
        "\\\n",
        "=",
        ":",
        ",",
        "'",
        '"',
        "[",
        "(",
        "{",
        "\n",
        "    ",
        "def f",
        "class ",
        "global x\n",
        "nonlocal x\n",
        "return ",
        "await ",
        "*",
        "x",
        "!ls",
        "%",
        "?",
        "\x00",
        "\ud800",
        "\u2028",
        "\t",
        "\r",
        "#",
        "import *",
        "from __future__ import annotations\n",
        "from __future__ import no\n",
        "lambda x, x: ",
        "del ",
        "é",
        "match x:\n case ",
    ]
)


@st.composite
def spoilt(draw) -> str:
    source = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(source)))
        cut = draw(st.integers(0, 12))
        source = source[:at] + draw(PIECES | st.just("")) + source[at + cut :]
    return source


def check(notebook: list[Cell]) -> None:
    reading = parse_cells(notebook)
    for error in (*reading.errors, *unbound_errors(reading)):
        assert isinstance(error, Refused)
        assert pickle.loads(pickle.dumps(error)).message == error.message
        assert error.to_json()["cell"] in {cell.number for cell in notebook}
    assert {step.name for step in reading.steps} == set(reading.code)
    assert len(reading.warnings) >= 0


def test_the_good_cells_have_nothing_wrong():
    extra = "def it(): pass"
    assert [step.name for step in fine(*GOOD[:-1], extra).steps] == ["prepare", "train"]


@settings(max_examples=80)
@given(st.lists(st.tuples(st.sampled_from(GOOD) | spoilt(), TAGS), max_size=5))
@example([("%%step s -o x\nx = " + "(" * 400, "")])
@example([("x = " + "-" * 5000 + "1", "parameters")])
@example([("x = " + "+".join("1" * 3000), ""), ("%%step s -o x\nx = x", "")])
def test_spoilt_cells_are_read(notebook: list[tuple[str, str]]):
    sources = [source for source, _ in notebook]
    check(cells(*sources, tags={number: tag for number, (_, tag) in enumerate(notebook, 1)}))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "%%step ", "#| step: ", "%%step s\n", "#| parameters\n", "%%time\n"]), st.text()
        ),
        max_size=4,
    )
)
def test_random_text_is_read(parts: list[tuple[str, str]]):
    check(cells(*(start + text for start, text in parts)))


@pytest.mark.parametrize("mark", ["", "#| parameters\n", "#| shared\n", "%%step s -o x\n"])
def test_code_that_is_nested_too_deeply_is_refused_not_followed(mark: str):
    check(
        cells(
            mark + "x = " + "a." * 3000 + "b",
            mark + "x = " + "f(" * 150 + ")" * 150,
            mark + "x = " + " + ".join(["a"] * 5000),
        )
    )


def test_a_notebook_may_be_empty():
    reading = parse_cells([])
    assert (reading.steps, reading.parameters, reading.errors) == ((), (), ())
    check(cells("", "   ", "\n\n", "\ufeff"))


@pytest.mark.parametrize("line", ["lr = 1 + 1", "lr = (1, 2)", "lr: int = 'a'", "lr = 1 1", "lr: float = 0.1)"])
@pytest.mark.parametrize("step", ["%%step s -o x\nx = lr", "%%step s -o x -p lr --when 'lr > 1'\nx = f()"])
def test_a_wrong_parameters_cell_is_the_only_error(line: str, step: str):
    assert "cell 1" in wrong(f"#| parameters\nmode = 'a'\n{line}", "def f(): return lr, mode", step)


def test_a_name_that_no_parameters_cell_binds_is_missed_beside_a_wrong_one():
    errors = read("#| parameters\nlr = 1 + 1", "%%step s -o x\nx = rate").errors
    assert [error.message for error in errors][1:] == ["`rate` is used but never defined"]
