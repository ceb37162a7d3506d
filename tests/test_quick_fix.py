"""The declaration that an error asks for: told to the letter, and written into the cell."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cells import cells, read
from test_directives import declarations, meaning, spell

from nbpipe.errors import BadPipeline, UndeclaredName
from nbpipe.language.directives import read_step
from nbpipe.language.quick_fix import declare_missing_input
from nbpipe.model import Cell

MAKE = "%%step make -o df, other\ndf = other = 1"


@pytest.mark.parametrize(
    "source, told, mended",
    [
        ("%%step s -o x\nx = df", "Add `-i df`.", "%%step s -i df -o x\nx = df"),
        ("%%step s\nx = df", "Add `-i df`.", "%%step s -i df\nx = df"),
        ("%%step s -i other -o x\nx = df, other", "Make it `-i other, df`.",
         "%%step s -i other, df -o x\nx = df, other"),
        ("%%step s -o x \\\n  -i other\nx = df, other", "Make it `-i other, df`.",
         "%%step s -o x \\\n  -i other, df\nx = df, other"),
        ("%%step s\n#| out: x\nx = df", "Add `#| in: df`.", "%%step s\n#| in: df\n#| out: x\nx = df"),
        ("#| step: s\n# | in: other\n# | out: x\nx = df, other", "Make it `#| in: other, df`.",
         "#| step: s\n# | in: other, df\n# | out: x\nx = df, other"),
        ("#| step: s -o x\nx = df", "Add `-i df`.", "#| step: s -i df -o x\nx = df"),
        ("\n%%nbstep   s\nx = df", "Add `-i df`.", "\n%%nbstep   s -i df\nx = df"),
    ],
)  # fmt: skip
def test_the_error_says_what_to_write_and_the_repair_writes_it(source, told, mended):
    (error,) = read(MAKE, source).errors
    assert error.hint == told
    assert declare_missing_input(Cell(2, source), error) == mended
    assert read(MAKE, mended).errors == ()


def test_what_it_would_take_survives_pickle():
    (error,) = read(MAKE, "%%step s -o x\nx = df").errors
    assert pickle.loads(pickle.dumps(error)).add == "df"


def test_where_only_the_author_knows_nothing_is_written():
    source = "%%step s -o x\nx = df"
    (error,) = read(MAKE, "%%step again -o df\ndf = 1", source).errors
    assert error.hint == "Add `-i df=make.df`."
    assert declare_missing_input(Cell(3, source), error) is None
    (error,) = read("%%step s -o x\nx = nowhere").errors
    assert declare_missing_input(Cell(1, source), error) is None
    assert declare_missing_input(Cell(1, source), BadPipeline("no")) is None
    assert declare_missing_input(Cell(1, "x = 1"), UndeclaredName("no", add="y")) is None


def test_a_continued_step_is_mended_in_the_cell_that_reads_the_name():
    sources = (MAKE, "%%step s -i other -o x, y\nx = other", "%%step s --append\ny = df")
    (error,) = read(*sources).errors
    assert (
        declare_missing_input(cells(*sources)[(error.place.cell or 0) - 1], error) == "%%step s -i df --append\ny = df"
    )


@settings(max_examples=200)
@given(data=st.data())
def test_every_declaration_keeps_its_meaning_and_has_one_input_more(data):
    source = spell(data.draw, data.draw(declarations()))
    mended = declare_missing_input(Cell(3, source), UndeclaredName("no", add="quite_new"))
    assert mended is not None
    before, after = read_step(Cell(3, source)), read_step(Cell(3, mended))
    assert [item.name for item in after.inputs] == [*(item.name for item in before.inputs), "quite_new"]
    assert meaning(after)[3:] == meaning(before)[3:]
    assert meaning(after)[2][:-1] == meaning(before)[2]
