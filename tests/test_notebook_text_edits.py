"""Cells of a notebook file get new sources, and no other byte of it changes."""

from __future__ import annotations

import json
import stat

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.authoring.notebook_edits import changed_cells, replace_file, rewrite_notebook
from nbpipe.errors import NotebookUnreadable, StoreOutOfReach
from nbpipe.language.notebook_text_edits import with_new_sources

lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=6), max_size=5).map("\n".join)


def document(sources: list[object]) -> dict[str, object]:
    cells = [{"cell_type": "code", "source": source, "metadata": {"source": ["x"]}, "id": "a"} for source in sources]
    return {"metadata": {"cells": [1, "}", '\\"']}, "cells": cells, "nbformat": 4, "nbformat_minor": 5}


@given(
    old=st.lists(lines, min_size=1, max_size=3),
    new=lines,
    data=st.data(),
    style=st.tuples(st.sampled_from([None, 1, 4]), st.booleans(), st.booleans()),
)
def test_the_cell_holds_the_new_source_and_the_rest_is_the_same(old, new, data, style):
    indent, ascii_only, listed = style
    number = data.draw(st.integers(1, len(old)))
    stored = [source.splitlines(keepends=True) if listed else source for source in old]
    text = json.dumps(document(list(stored)), indent=indent, ensure_ascii=ascii_only)
    fresh = json.loads(with_new_sources(text, {number: new}))

    joined = ["".join(cell["source"]) for cell in fresh["cells"]]
    assert joined == [*old[: number - 1], new, *old[number:]]
    for cell in fresh["cells"]:
        del cell["source"]
    assert fresh == json.loads(json.dumps({**document([]), "cells": fresh["cells"]}))


def test_only_the_changed_lines_of_the_file_differ():
    before = json.dumps(document([["%%step a -i x\n", "é = 1\n", "y"], ["b"]]), indent=1, ensure_ascii=True) + "\n"
    after = with_new_sources(before, {1: "%%step a\n#| in: x\né = 1\ny"})

    old, new = before.splitlines(), after.splitlines()
    assert [line for line in new if line not in old] == ['    "%%step a\\n",', '    "#| in: x\\n",']
    assert [line for line in old if line not in new] == ['    "%%step a -i x\\n",']
    assert after.endswith("\n}\n")


def test_a_source_in_one_text_keeps_the_code_as_it_is_written():
    before = (
        '{"nbformat": 4, "cells": [{"source": "%%step a -i x\\nz = \\u0022\\/\\u00e9\\"\\n1", "cell_type": "code"}]}'
    )
    after = with_new_sources(before, {1: '%%step a\n#| in: x\nz = "/é"\n1'})

    assert after == before.replace("%%step a -i x", "%%step a\\n#| in: x")


def test_a_file_is_replaced_with_its_permissions_through_links(tmp_path):
    real, link = tmp_path / "real.ipynb", tmp_path / "link.ipynb"
    text = "\ufeff" + json.dumps(document(["%%step a -i x", "y"]))
    real.write_bytes(text.encode())
    real.chmod(0o640)
    link.symlink_to(real)
    changed = changed_cells(link, lambda cell: cell.source.replace(" -i x", "\n#| in: x"))
    rewrite_notebook(link, changed)

    assert changed == {1: "%%step a\n#| in: x"}
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert real.read_bytes().decode() == text.replace(" -i x", "\\n#| in: x")
    assert {found.name for found in tmp_path.iterdir()} == {"real.ipynb", "link.ipynb"}


def test_what_nbformat_writes_is_kept_to_the_byte(tmp_path):
    path = tmp_path / "n.ipynb"
    cells = [nbformat.v4.new_code_cell("%%step ä -i x\ny"), nbformat.v4.new_markdown_cell("# b")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, path)
    rewrite_notebook(path, {1: "%%step ä\n#| in: x\ny"})
    notebook.cells[0].source = "%%step ä\n#| in: x\ny"
    again = tmp_path / "again.ipynb"
    nbformat.write(notebook, again)

    assert path.read_bytes() == again.read_bytes()


def test_an_older_format_and_a_file_that_others_changed_are_left_alone(tmp_path):
    path = tmp_path / "n.ipynb"
    old = nbformat.v3.new_notebook(worksheets=[nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("x")])])
    path.write_text(json.dumps(old))
    with pytest.raises(NotebookUnreadable):
        rewrite_notebook(path, {1: "y"})
    with pytest.raises(StoreOutOfReach, match="meanwhile"):
        replace_file(path, b"mine", expected=b"other")
    assert json.loads(path.read_text()) == json.loads(json.dumps(old))
