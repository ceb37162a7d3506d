"""``nbpipe fmt`` on one cell: the spelling changes, the meaning and the code below do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_directives import declarations, meaning, spell

from nbpipe.errors import BadDirective
from nbpipe.language.declaration_formatter import STYLES, WIDTH, format_declaration
from nbpipe.language.directives import read_step
from nbpipe.model import Cell

WIDE = "%%step train -i features, raw:csv=./data/raw.csv, labels=prepare.labels -o model, report:json --retries 2"
LONG = """\
%%step train
#| in: features, raw:csv=./data/raw.csv, labels=prepare.labels
#| out: model, report:json
#| retries: 2
x = 1"""


def fmt(source: str, style: str = "auto") -> str:
    return format_declaration(Cell(3, source), style)


def test_a_wide_line_becomes_long_and_comes_back():
    assert fmt(f"{WIDE}\nx = 1") == LONG
    assert fmt(LONG) == LONG
    assert fmt(LONG, "short") == f"{WIDE}\nx = 1"


def test_what_fits_stays_as_written():
    for source in ("%%step a -i x,y -o z\n1", "%%step a\n# | in: x\n# | out: z\n1", "#| step: a -i x  -o z"):
        assert fmt(source) == source


def test_a_continued_line_is_joined_when_it_fits():
    assert fmt("%%step a \\\n   -i x,y \\\n   -o z\nz = 1") == "%%step a -i x, y -o z\nz = 1"
    assert fmt(WIDE.replace(" -o", " \\\n   -o") + "\nx = 1") == LONG


@pytest.mark.parametrize("head", ["%%step", "%%nbstep", "#| step:", "# | step:"])
def test_each_first_line_keeps_its_kind(head):
    short = f"{head} a -i x -o z --gpu 1\nz = x"
    pipe = "# |" if head.startswith("# |") else "#|"
    long = f"{head} a\n{pipe} in: x\n{pipe} out: z\n{pipe} gpu: 1\nz = x"
    assert fmt(short, "long") == long
    assert fmt(long, "short") == short


def test_flags_of_the_first_line_stay_there():
    assert fmt("%%step a --append --here -i x\nx", "long") == "%%step a --append --here\n#| in: x\nx"
    assert fmt("%%step a --finally\nx", "long") == "%%step a\n#| finally:\nx"


def test_a_value_that_no_line_can_hold_stays_below():
    source = "%%step a -i x\n#| salt: use --force\n#| reuse: keep\nx"
    assert fmt(source, "short") == "%%step a -i x --reuse keep\n#| salt: use --force\nx"
    assert fmt(fmt(source, "short"), "short") == fmt(source, "short")


def test_cells_that_are_no_steps_stay():
    for source in ("x = 1", "%%time\nx", "", "#| parameters\nx = 1", "%%step?"):
        assert [fmt(source, style) for style in STYLES] == [source] * 3


def test_what_cannot_be_read_is_refused():
    with pytest.raises(BadDirective):
        fmt("%%step a --gpus 1\nx")


@settings(max_examples=300)
@given(data=st.data(), style=st.sampled_from(STYLES), flag=st.sampled_from(["", " --here"]))
def test_meaning_and_code_stay_and_twice_is_once(data, style, flag):
    source = spell(data.draw, data.draw(declarations())).replace("train", f"train{flag}", 1)
    once = fmt(source, style)
    assert meaning(read_step(Cell(3, once))) == meaning(read_step(Cell(3, source)))
    assert once.endswith("model = 1")
    assert fmt(once, style) == once
    if style == "auto":
        assert len(once.splitlines()[0]) <= WIDTH
