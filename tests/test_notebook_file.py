"""Any file whatever is read as a notebook or refused with its name and what to do: never a traceback."""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbpipe.errors import NotebookUnreadable
from nbpipe.language.notebook_file import NotebookFile, read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import ParsedNotebook

STEP = "%%step a -o x\nx = 1"


def code(source: Any = STEP, **more: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": "a1",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": source,
        **more,
    }


def document(*cells: Any, **more: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **more}


def written(folder: Path, content: Any) -> Path:
    path = folder / "the notebook.ipynb"
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def opened(folder: Path, content: Any) -> NotebookFile:
    return read_notebook(written(folder, content))


def steps(notebook: NotebookFile) -> list[str]:
    reading = parse_cells(notebook.cells)
    assert reading.errors == ()
    return [step.name for step in reading.steps]


GOOD = json.dumps(document(code()), indent=1)
CONFLICT = GOOD.replace(' "cells"', '<<<<<<< HEAD\n "cells"', 1).replace(
    ' "nbformat"', '=======\n>>>>>>> other\n "nbformat"', 1
)


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (GOOD[:-40], "not JSON"),
        (GOOD[: GOOD.index("cells")], "line 5: not JSON"),
        ("<html></html>", "line 1: not JSON"),
        ("{'cells': []}", "not JSON"),
        ('{"cells": [}', "line 1: not JSON"),
        ("[" * 200_000, "not JSON"),
        (GOOD.encode("utf-16"), "is not UTF-8 text (byte 1)"),
        (json.dumps(document(code("x = 'é'")), ensure_ascii=False).encode("latin-1"), "is not UTF-8 text (byte"),
        (b"\x00\x01\x02", "not JSON"),
        (CONFLICT, "there is a merge conflict in the file"),
        ("[]", "it holds a list"),
        ("null", "it holds null"),
        ("1", "it holds a number"),
        ('"text"', "it holds text"),
        ("true", "it holds true or false"),
        ("{}", "the notebook format None"),
        ({"cells": []}, "the notebook format None"),
        (document(nbformat=5), "the notebook format 5"),
        (document(nbformat=0), "the notebook format 0"),
        (document(nbformat="4"), "the notebook format '4'"),
        (document(nbformat=True), "the notebook format True"),
        (document(nbformat=None), "the notebook format None"),
        (document(cells=None), "it has no list of cells"),
        (document(cells={}), "it has no list of cells"),
        ({"nbformat": 4}, "it has no list of cells"),
        (document(code(), "x = 1"), "cell 2 is not a notebook cell"),
        (document(None), "cell 1 is not a notebook cell"),
        (document([]), "cell 1 is not a notebook cell"),
        (document(code(None)), "cell 1 is not a notebook cell"),
        (document(code(3)), "cell 1 is not a notebook cell"),
        (document(code(["x = 1", 3])), "cell 1 is not a notebook cell"),
        ({"nbformat": 3}, "cannot be converted to format 4"),
        ({"nbformat": 3, "worksheets": [3]}, "cannot be converted to format 4"),
        ({"nbformat": 1, "cells": "x"}, "cannot be converted to format 4"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_refused(tmp_path: Path, content: Any, said: str):
    with pytest.raises(NotebookUnreadable) as caught:
        opened(tmp_path, content)
    assert said in caught.value.message
    assert str(tmp_path / "the notebook.ipynb") in caught.value.message
    assert caught.value.hint


def test_the_line_of_a_conflict_is_told(tmp_path: Path):
    line = CONFLICT.split("\n").index("<<<<<<< HEAD") + 1
    with pytest.raises(NotebookUnreadable, match=f"line {line}: there is a merge conflict"):
        opened(tmp_path, CONFLICT)


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path):
    written(tmp_path, GOOD)
    with pytest.raises(NotebookUnreadable, match="there is no notebook") as caught:
        read_notebook(tmp_path / "the notebok.ipynb")
    assert caught.value.hint == "Did you mean `the notebook.ipynb`?"
    with pytest.raises(NotebookUnreadable, match="there is no notebook") as caught:
        read_notebook(tmp_path / "zzz")
    assert caught.value.hint == "There are: the notebook.ipynb."
    for path in (
        tmp_path / "no" / "such.ipynb",
        tmp_path / "the notebook.ipynb" / "x",
        tmp_path / ("n" * 300),
        Path("a\0b"),
    ):
        with pytest.raises(NotebookUnreadable) as caught:
            read_notebook(path)
        assert caught.value.hint


def test_a_folder_is_no_notebook(tmp_path: Path):
    with pytest.raises(NotebookUnreadable, match="cannot be read: Is a directory") as caught:
        read_notebook(tmp_path)
    assert caught.value.hint == "Name the notebook itself."


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n"),
        document(code(STEP.splitlines(keepends=True))),
        document(code(id=None), code("y = 1", id="a1"), code("z = 1", id="a1")),
        document({"cell_type": "code", "source": STEP}),
        document(code(metadata=None)),
        document(code(metadata=[])),
        document(code(metadata={"tags": None})),
        document(code(metadata={"tags": "local"})),
        document(code(metadata={"tags": [1, None, {}]})),
        document(code(), metadata=None),
        document(code(), metadata={"kernelspec": None}),
        document(code(), metadata={"kernelspec": {"name": 3}}),
        document(code(), nbformat_minor="x"),
        document({"cell_type": "markdown", "source": 3}, {"cell_type": "raw"}, {"cell_type": "odd"}, {}, code()),
        document(code(outputs="x", execution_count="y", more={"a": 1}), more=[1]),
        document(code(outputs=[{"data": {"image/png": "A" * 10_000_000}}])),
        {
            "nbformat": 3,
            "nbformat_minor": 0,
            "metadata": {"name": ""},
            "worksheets": [
                {
                    "metadata": {},
                    "cells": [
                        {"cell_type": "heading", "level": 1, "source": "t", "metadata": {}},
                        {
                            "cell_type": "code",
                            "input": STEP,
                            "language": "python",
                            "outputs": [],
                            "collapsed": False,
                            "metadata": {},
                        },
                    ],
                }
            ],
        },
    ],
)
def test_what_jupyter_opens_is_read(tmp_path: Path, content: Any):
    notebook = opened(tmp_path, content)
    assert steps(notebook) == ["a"]
    assert notebook.kernel is None


def test_a_notebook_may_have_no_cells(tmp_path: Path):
    assert opened(tmp_path, document()).cells == ()


def test_cells_are_counted_as_people_see_them_and_ids_are_never_the_only_identity(tmp_path: Path):
    notebook = opened(
        tmp_path,
        document(
            {"cell_type": "markdown", "source": "#"},
            code("a = 1"),
            {"cell_type": "raw", "source": ""},
            code("b = 2"),
            metadata={"kernelspec": {"name": "python3", "language": "python"}},
        ),
    )
    assert [(cell.number, cell.source, cell.id) for cell in notebook.cells] == [(2, "a = 1", "a1"), (4, "b = 2", "a1")]
    assert (notebook.kernel, notebook.language) == ("python3", "python")


def test_tags_are_read(tmp_path: Path):
    notebook = opened(tmp_path, document(code("lr = 1", metadata={"tags": ["parameters", "x"]}), code()))
    assert notebook.cells[0].tags == {"parameters", "x"}
    assert parse_cells(notebook.cells).parameters[0].name == "lr"


JUNK = st.sampled_from(
    [None, True, 0, -1, 3, 4, 5, 1.5, "", "x", "code", [], {}, [1], {"a": 1}, [[]], "\ud800", 10**30]
)


@st.composite
def spoilt(draw) -> Any:
    """Put something else anywhere into a notebook."""
    whole = document(code(metadata={"tags": ["parameters"]}), code(), metadata={"kernelspec": {"name": "python3"}})
    if draw(st.booleans()):
        whole |= {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": STEP}]}]}
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = whole
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = draw(st.sampled_from(keys))
            if not isinstance(holder[key], dict | list) or not holder[key] or draw(st.integers(0, 3)) == 0:
                break
            holder = holder[key]
        holder[key] = deepcopy(draw(JUNK))
    return whole


def told(folder: Path, content: Any) -> bool:
    """Say whether the file is read, or refused with its name and a hint."""
    with warnings.catch_warnings():
        # nbformat has its own opinions on what it upgrades.
        warnings.simplefilter("ignore")
        try:
            notebook = opened(folder, content)
        except NotebookUnreadable as error:
            return bool(error.hint) and "the notebook.ipynb" in error.message
    return isinstance(parse_cells(notebook.cells), ParsedNotebook)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoilt())
def test_a_spoilt_notebook_is_read_or_refused(tmp_path: Path, content: Any):
    assert told(tmp_path, content)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary()
    | st.text(st.characters(codec="utf-8")).map(str.encode)
    | st.integers(0, len(GOOD)).map(lambda at: GOOD[:at] + GOOD[at + 1 :])
)
def test_random_bytes_are_read_or_refused(tmp_path: Path, content: Any):
    assert told(tmp_path, content)
