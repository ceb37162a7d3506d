"""The one-step notebook: parameters, shared code, loads, the author's cells with their lines kept, saves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cells import fine

from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.language.step_notebook import render_step_notebook

NOTEBOOK = (
    "#| parameters\nlr = 0.1\nunused = 1\nname = 'a'",
    "import math\n\n\ndef f(x):\n    # why\n    return x * math.floor(lr)\n\n\nLIMIT = 1",
    (
        "%%step train -i raw=./raw.csv, old:csv=./old.csv \\\n"
        "  -o model,plots:dir,log:file.txt\n#| salt: v1\n# note\nmodel = f(raw) + LIMIT"
    ),
    "%%step train --append -o extra\n\nextra = old",
)


def cells_of(
    reading: ParsedNotebook, values: dict[str, Any] | None = None, kernel: str | None = None
) -> list[dict[str, Any]]:
    step = reading.steps[-1]
    given = {parameter.name: parameter.default for parameter in reading.parameters} | (values or {})
    return json.loads(render_step_notebook(step, reading.code[step.name], given, kernel))["cells"]


def by_role(reading: ParsedNotebook, values: dict[str, Any] | None = None) -> dict[str, str]:
    return {cell["metadata"]["nbpipe"]["role"]: cell["source"] for cell in cells_of(reading, values)}


def test_the_cells_and_their_marks():
    cells = cells_of(fine(*NOTEBOOK))
    assert [cell["metadata"]["nbpipe"]["role"] for cell in cells] == [
        "setup", "parameters", "shared", "inputs", "step", "step", "outputs"
    ]  # fmt: skip
    assert [cell["metadata"]["tags"] for cell in cells][:2] == [["nbpipe-setup"], ["parameters"]]
    assert [cell["metadata"]["nbpipe"]["cell"] for cell in cells] == [None, None, None, None, 3, 4, None]
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_the_sources():
    cells = cells_of(fine(*NOTEBOOK))
    sources = [cell["source"] for cell in cells]
    assert sources[1] == "lr = 0.1"
    assert sources[2].splitlines()[1:] == [
        "import math", "", "", "def f(x):", "    # why", "    return x * math.floor(lr)", "", "", "LIMIT = 1"
    ]  # fmt: skip
    assert sources[3].splitlines() == [
        'raw = _nbpipe.load("raw")',
        'old = _nbpipe.load("old")',
        'plots = _nbpipe.path("plots")',
        'log = _nbpipe.path("log")',
    ]
    assert sources[6] == "_nbpipe.save(globals())"


def test_the_authors_lines_keep_their_numbers():
    for written, cell in zip(NOTEBOOK[2:], cells_of(fine(*NOTEBOOK))[4:6], strict=True):
        lines, rendered = written.split("\n"), cell["source"].split("\n")
        assert len(lines) == len(rendered)
        assert all(new in {old, f"# {old}"} for new, old in zip(rendered, lines, strict=True))
        assert rendered[-1] == lines[-1]


def test_a_step_that_needs_nothing_has_no_cells_for_it():
    assert list(by_role(fine("%%step s -o x\nx = 1"))) == ["setup", "parameters", "step", "outputs"]


def test_the_notebook_is_valid_and_names_its_kernel():
    reading = fine(*NOTEBOOK)
    step = reading.steps[0]
    values = {"lr": 0.1}
    for kernel, name in ((None, "python3"), ("my-kernel", "my-kernel")):
        text = render_step_notebook(step, reading.code["train"], values, kernel)
        nbformat.validate(nbformat.reads(text, as_version=4))
        assert json.loads(text)["metadata"]["kernelspec"]["name"] == name
        assert json.loads(text)["metadata"]["nbpipe"] == {"step": "train"}


class Shelf:
    """What the kernel calls ``_nbpipe``: it loads and keeps values."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.saved: dict[str, Any] = {}

    def load(self, name: str) -> Any:
        return self.values[name]

    def path(self, name: str) -> Path:
        return Path(name)

    def save(self, space: dict[str, Any]) -> None:
        self.saved = dict(space)


def executed(reading: ParsedNotebook, values: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    shelf = Shelf(**inputs)
    space: dict[str, Any] = {"_nbpipe": shelf}
    for cell in cells_of(reading, values):
        exec(cell["source"], space)  # noqa: S102 - what the step's kernel does
    return shelf.saved


def test_the_notebook_runs_as_the_author_meant():
    saved = executed(fine(*NOTEBOOK), {"lr": 2.5}, raw=10, old=7)
    assert (saved["model"], saved["extra"], saved["plots"]) == (21, 7, Path("plots"))


def test_an_input_stands_before_a_definition_of_its_name():
    reading = fine("data = 'written'", "def f(): return data", "%%step s -i data=./d.csv -o x\nx = data, f()")
    assert executed(reading, data="loaded")["x"] == ("loaded", "loaded")


@pytest.mark.parametrize("name", ["list", "id", "größe", "_x", "print"])
def test_any_name_of_an_author_can_be_input_output_and_parameter(name: str):
    reading = fine(f"%%step s -i {name}=./x.csv -o {name}\n{name} = [{name}]")
    assert executed(reading, **{name: 1})[name] == [1]
    reading = fine(f"#| parameters\n{name} = 1", f"%%step s -o x\nx = {name}")
    assert executed(reading, {name: 5})["x"] == 5


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(values)
def test_a_parameter_is_delivered_exactly_and_is_never_code(value: Any):
    got = executed(fine("#| parameters\np: Any = None", "%%step s -o x\nx = p"), {"p": value})["x"]
    assert repr(got) == repr(value)


def test_injection_by_value_stays_a_value():
    value = '\'; raise SystemExit  # """\n{x}\\'
    assert executed(fine("#| parameters\np = ''", "%%step s -o x\nx = p"), {"p": value})["x"] == value
    assert math.isnan(executed(fine("#| parameters\np = 0.0", "%%step s -o x\nx = p"), {"p": math.nan})["x"])
