"""A reading that was written down comes back exactly, or the cells are read anew."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cells import cells, fine, read

from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.language.parsed_notebook_codec import decode_notebook, encode_notebook
from nbpipe.model import Cell
from nbpipe.resolve import parse_cache
from nbpipe.resolve.parse_cache import ParseCache

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LATER = time.time() + 1e6
PARAMETERS = (
    "#| parameters\nlr: float = 0.1  # rate\nmode: Literal['a', 'b'] = 'a'\nsizes = [1, 2.0, True]\nmore = {'a': None}"
)
SHARED = "import math\nfrom os import path\nLIMIT = [1, 2]\n\ndef f(x=1):\n    return math.sqrt(x) + lr + len(LIMIT)"
STEPS = (
    (
        "%%step first -i raw:csv=./raw.csv,more=./x/*.csv -o clean,report:json=./out.json --retries 2\n#| salt: v1\n"
        "#| when: mode == 'a'\n#| timeout: 3m\nclean = f(raw)\nreport = {'n': len(clean), 's': sizes}"
    ),
    "#| step: second\n#| in: clean, r=first.report\n#| out: model, plots:dir\n!ls {plots}\nmodel = [*clean, *r]",
    "%%step second --append -o extra\nextra = model",
    "%%step third -i model\n%run other.py\nprint(1)",
)
PIECES = st.sampled_from(
    [PARAMETERS, SHARED, *STEPS, "%nbpipe defaults retries=1 timeout=10m", "%matplotlib inline", "x ="]
)


def kept(reading: ParsedNotebook) -> ParsedNotebook:
    """Get a reading as it comes back."""
    text = encode_notebook(reading)
    assert text is not None
    return decode_notebook(text)


def test_all_that_a_reading_holds_comes_back():
    reading = fine(PARAMETERS, SHARED, "%nbpipe defaults retries=1 timeout=10m reuse=keep", *STEPS)

    back = kept(reading)

    assert back == reading
    assert repr(back) == repr(reading)
    assert back.steps[2].options.retries == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_readings_of_real_notebooks_come_back(path):
    reading = parse_cells(read_notebook(path).cells)

    assert repr(kept(reading)) == repr(reading)


@given(st.lists(PIECES, max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_exact(sources):
    """Whatever is not right, or would not come back as it is, is not written."""
    reading = read(*sources)
    text = encode_notebook(reading)

    assert (text is None) == bool(reading.errors)
    assert text is None or repr(decode_notebook(text)) == repr(reading)


@pytest.mark.parametrize(
    "value", ["1e400 - 1e400", "(1, 'a')", "b'ab'", "{1: 'a'}", "1.0", "True", "'list'", "[]", "-0.0"]
)
def test_values_keep_their_types(value):
    """A parameter's value that text cannot hold stops the reading from being written."""
    reading = read(f"#| parameters\nvalue = {value}", "%%step a -o b\nb = value")
    text = encode_notebook(reading)

    assert text is None or repr(decode_notebook(text)) == repr(reading)


def test_equal_values_of_other_types_are_told_apart():
    reading = fine("#| parameters\nvalue = 1", "%%step a -o b\nb = value")
    text = encode_notebook(reading)

    assert text is not None
    assert type(decode_notebook(text.replace('["is",1]', '["is",true]')).parameters[0].default) is bool


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"definitions": 1}', "nothing"])
def test_another_text_is_no_reading(text):
    with pytest.raises(ValueError, match=r"."):
        decode_notebook(text)


def notebook(folder: Path) -> tuple[Path, list[Cell]]:
    """Get a notebook's path in a workspace, and its cells."""
    (folder / ".nbpipe").mkdir()
    return folder / "n.ipynb", cells(PARAMETERS, SHARED, *STEPS)


def memory(folder: Path, now: float = LATER) -> ParseCache:
    """Get the memory of a workspace."""
    return ParseCache(folder / ".nbpipe" / "readings", now)


def remembered(folder: Path) -> Path:
    """Get the one file of a memory."""
    (found,) = (folder / ".nbpipe" / "readings").iterdir()
    return found


def forge(path: Path) -> ParsedNotebook:
    """Let a memory hold another reading, as if that had been found, and get it."""
    name, text = path.read_bytes().split(b" ", 1)[0].decode(), path.read_bytes().partition(b"\n")[2]
    other = json.loads(text)
    other["steps"] = other["steps"][:1]
    forged = json.dumps(other)
    parse_cache._remember(path, name, forged)
    return decode_notebook(forged)


def test_unchanged_cells_are_not_read_again(tmp_path):
    path, listed = notebook(tmp_path)
    fresh = memory(tmp_path).read(path, listed)
    forged = forge(remembered(tmp_path))

    assert memory(tmp_path).read(path, listed) == forged != fresh


@pytest.mark.parametrize(
    "change",
    [{"source": "%%step third\nprint(2)"}, {"id": "x"}, {"number": 9}, {"tags": frozenset({"local"})}],
    ids=str,
)
def test_any_change_of_a_cell_is_read(tmp_path, change):
    path, listed = notebook(tmp_path)
    memory(tmp_path).read(path, listed)
    forge(remembered(tmp_path))
    changed = [*listed[:-1], dataclasses.replace(listed[-1], **change)]

    assert memory(tmp_path).read(path, changed) == parse_cells(changed)


def test_damage_is_read_anew(tmp_path):
    """A memory whose bytes are not those that were written counts for nothing, and is written again."""
    path, listed = notebook(tmp_path)
    fresh = memory(tmp_path).read(path, listed)
    file = remembered(tmp_path)
    whole = file.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 97)]
    for damaged in (b"", b"\n", whole[:-1], whole + b" ", whole.partition(b"\n")[0], b"\xff" + whole, *flipped):
        file.write_bytes(damaged)

        assert memory(tmp_path).read(path, listed) == fresh
        assert file.read_bytes() == whole


def test_while_our_own_code_is_young_nothing_is_remembered(tmp_path):
    """Source that was changed a moment ago may be newer than the code that runs."""
    path, listed = notebook(tmp_path)
    newest = max(source.stat().st_mtime for source in parse_cache._sources())
    memory(tmp_path, newest + 1).read(path, listed)

    assert not (tmp_path / ".nbpipe" / "readings").exists()


def test_where_nothing_can_be_written_the_cells_are_read(tmp_path):
    path, listed = notebook(tmp_path)
    (tmp_path / ".nbpipe" / "readings").write_text("in the way")

    assert memory(tmp_path).read(path, listed) == parse_cells(listed)


def test_a_notebook_that_is_wrong_is_forgotten(tmp_path):
    path, listed = notebook(tmp_path)
    memory(tmp_path).read(path, listed)
    wrong = [*listed, Cell(99, "%%step third\nx =")]

    assert memory(tmp_path).read(path, wrong).errors
    assert list((tmp_path / ".nbpipe" / "readings").iterdir()) == []
