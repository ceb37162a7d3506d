"""Parameters have a name, a type, a default, allowed values and help; a value of another type is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cells import fine, read, wrong

from nbpipe.errors import BadParameter, Refusals
from nbpipe.language.parameters import (
    bound_names,
    check_value,
    from_text,
    read_injected,
    read_parameters,
    settle_parameters,
)
from nbpipe.language.python_literals import to_python
from nbpipe.model import Cell, Parameter


def parameters(*lines: str) -> dict[str, Parameter]:
    return {item.name: item for item in read_parameters(Cell(1, "\n".join(lines)))}


def one(line: str) -> Parameter:
    (parameter,) = read_parameters(Cell(1, line))
    return parameter


@pytest.mark.parametrize(
    "line, kind, default, optional, choices, told",
    [
        ("lr = 0.1  # the learning rate", "float", 0.1, False, (), "the learning rate"),
        ("n = 3", "int", 3, False, (), ""),
        ("n = -3", "int", -3, False, (), ""),
        ("on = True", "bool", True, False, (), ""),
        ("name = 'a#b'  ## odd # text", "str", "a#b", False, (), "odd # text"),
        ("items = [1, 'a']", "list", [1, "a"], False, (), ""),
        ("table = {'a': [None]}", "dict", {"a": [None]}, False, (), ""),
        ("x = None", "any", None, True, (), ""),
        ("x: float = 3", "float", 3.0, False, (), ""),
        ("x: int | None = None", "int", None, True, (), ""),
        ("x: None | int = 2", "int", 2, True, (), ""),
        ("x: Optional[str] = None", "str", None, True, (), ""),
        ("x: typing.Optional[int] = 1", "int", 1, True, (), ""),
        ("x: list[int] = [1]", "list", [1], False, (), ""),
        ("x: List[str] = []", "list", [], False, (), ""),
        ("x: list[float] = [1, 0.5]", "list", [1.0, 0.5], False, (), ""),
        ("x: list[int | None] = [1, None]", "list", [1, None], False, (), ""),
        ("x: list[list[Literal['a']]] | None = None", "list", None, True, (), ""),
        ("x: list[tuple] = [1]", "list", [1], False, (), ""),
        ("x: dict[str, dict[str, bool]] = {'a': {'b': True}}", "dict", {"a": {"b": True}}, False, (), ""),
        ("x: dict[str, int] = {}", "dict", {}, False, (), ""),
        ("x: 'float' = 1.5", "float", 1.5, False, (), ""),
        ("x: Any = 'a'", "any", "a", False, (), ""),
        ("x: Literal['a', 'b'] = 'b'", "str", "b", False, ("a", "b"), ""),
        ("x: typing.Literal[1, 2] = 1", "int", 1, False, (1, 2), ""),
        ("x: Literal['a', None] = None", "str", None, True, ("a", None), ""),
        ("x: Literal['a', 1] = 1", "any", 1, False, ("a", 1), ""),
        ("x: int = None", "int", None, True, (), ""),
        ("x: Literal['a'] | None = None", "str", None, True, ("a",), ""),
        ("x = (\n  1\n)  # long", "int", 1, False, (), "long"),
        ("ﬁt = 1", "int", 1, False, (), ""),
    ],
)
def test_a_parameter_is_read_from_its_line(
    line: str, kind: str, default: Any, *, optional: bool, choices: tuple[Any, ...], told: str
):
    found = one(line)
    assert (found.kind, found.default, type(found.default)) == (kind, default, type(default))
    assert (found.optional, found.choices, found.help) == (optional, choices, told)
    assert found.name.isascii()


def test_both_marks_make_a_parameters_cell():
    assert fine("#| parameters\nlr = 1").parameters[0].name == "lr"
    assert fine("# | parameters\nlr = 1").parameters[0].name == "lr"
    assert fine("lr = 1", tags={1: "parameters"}).parameters[0].name == "lr"
    assert fine("lr = 1").parameters == ()


@pytest.mark.parametrize(
    "line, said",
    [
        ("import os", "does not assign a value to a name"),
        ("x, y = 1, 2", "does not assign a value to a name"),
        ("x = y = 1", "does not assign a value to a name"),
        ("x: int", "does not assign a value to a name"),
        ("x += 1", "does not assign a value to a name"),
        ("'''text'''", "does not assign a value to a name"),
        ("x = 1 + 2", "the default of `x` is not a literal: 1 + 2"),
        ("x = f(1)", "the default of `x` is not a literal"),
        ("x = y", "the default of `x` is not a literal"),
        ("x = (1, 2)", "`x` is a tuple"),
        ("x = b'a'", "`x` is a bytes"),
        ("x = {1, 2}", "`x` is a set"),
        ("x = {1: 2}", "`x` has the key 1"),
        ("x = {'a': (1,)}", "`x['a']` is a tuple"),
        ("x = '\\ud800'", "`x` holds text that is not valid Unicode"),
        (f"x = 0x{'f' * 5000}", "`x` is an integer of 20,000 bits"),
        (f"x: str = 0x{'f' * 5000}", "`x` is a str, and a int too long to show is an int"),
        ("x: int = 1.5", "`x` is an int, and 1.5 is a float"),
        ("x: int = True", "`x` is an int, and True is a bool"),
        ("x: float = 9007199254740993", "`x` is a float, which cannot hold 9007199254740993 exactly"),
        ("x: Literal['a'] = 'b'", "`x` cannot be 'b'"),
        ("x: list[int] = [1, 'a']", "`x[1]` is an int, and 'a' is a str"),
        ("x: list[int] = [1, True]", "`x[1]` is an int, and True is a bool"),
        ("x: Optional[list[int]] = [None]", "`x[0]` is an int, and None is a NoneType"),
        ("x: dict[str, list[str]] = {'a': [1]}", "`x['a'][0]` is a str, and 1 is an int"),
        ("x: list[Literal['a']] = ['b']", "`x[0]` cannot be 'b'"),
        ("x: list[float] = [9007199254740993]", "`x[0]` is a float, which cannot hold 9007199254740993 exactly"),
        ("x: Literal[1] = True", "`x` is an int, and True is a bool"),
        ("x: Literal[foo] = 1", "`x` has the type Literal[foo], which lists more than literals"),
        ("x: Path = 'a'", "`x` has the type Path, which no parameter can have"),
        ("x: inti = 1", "`x` has the type inti"),
        ("x: 'int[' = 1", "`x` has the type 'int['"),
        ("x: int | str = 1", "`x` has the type int | str"),
        ("x: Optional = 1", "`x` has the type Optional"),
        ("%load_ext nbpipe", "the parameters cell is not valid Python"),
        ("x = ", "the parameters cell is not valid Python"),
        ("x = \x00", "the parameters cell is not valid Python"),
        (f"x = {'[' * 300}{']' * 300}", "the parameters cell is not valid Python"),
        ("_nbpipe = 1", "`_nbpipe` is reserved by nbpipe"),
    ],
)
def test_a_line_that_declares_no_parameter_is_refused(line: str, said: str):
    text = wrong(f"#| parameters\na = 1\n{line}")
    assert said in text
    assert text.startswith("cell 1")


def test_every_bad_line_is_told_at_once():
    errors = read("#| parameters\nx = f()\ny: int = 'a'\nimport os").errors
    assert [error.place.line for error in errors] == [2, 3, 4]


def test_two_parameters_cells_are_refused():
    assert "cells 1 and 2 are both parameters cells" in wrong("#| parameters\nx = 1", "#| parameters\ny = 1")


@pytest.mark.parametrize(
    "line, text, value",
    [
        ("x = 1", "5", 5),
        ("x = 1", " -5 ", -5),
        ("x = 1.0", "5", 5.0),
        ("x = 1.0", "1e-3", 0.001),
        ("x = 1.0", "-inf", -math.inf),
        ("x = 1.0", "9007199254740992", 2.0**53),
        ("x = 'a'", "5", "5"),
        ("x = 'a'", "", ""),
        ("x = 'a'", "None", "None"),
        ("x = 'a'", " $HOME `ls` 'q' \n", " $HOME `ls` 'q' \n"),
        ("x = True", "false", False),
        ("x = True", "0", False),
        ("x = False", "Yes", True),
        ("x = []", '[1, "a", null]', [1, "a", None]),
        ("x = {}", '{"a": {"b": 1.0}}', {"a": {"b": 1.0}}),
        ("x: int | None = 1", "None", None),
        ("x: int | None = 1", "null", None),
        ("x: Literal['a', 'b'] = 'a'", "b", "b"),
        ("x: Any = 1", "2.5", 2.5),
        ("x: Any = 1", "text", "text"),
    ],
)
def test_a_value_given_as_text_is_read_by_the_declared_type(line: str, text: str, value: Any):
    settled = settle_parameters([one(line)], {"x": text}, {})["x"]
    assert (settled, type(settled)) == (value, type(value))


@pytest.mark.parametrize(
    "line, text",
    [
        ("x = 1", "1.0"),
        ("x = 1", "1_000"),
        ("x = 1", "ten"),
        ("x = 1", "1" * 5000),
        ("x = 1", "True"),
        ("x = 1.0", "abc"),
        ("x = 1.0", "1_0"),
        ("x = 1.0", "1e999"),
        ("x = 1.0", "9007199254740993"),
        ("x = 1.0", "1" * 400),
        ("x = []", "[1e999]"),
        ("x = True", "2"),
        ("x = []", "{}"),
        ("x = []", "1,2"),
        ("x = {}", "[]"),
        ("x = {}", "{'a': 1}"),
        ("x = []", "[" * 100_000),
        ("x: int | None = 1", ""),
        ("x: Literal['a'] = 'a'", "b"),
        ("x = 'a'", "\ud800"),
        ("x = []", f"[{'9' * 5000}]"),
        ("x = 'a'", "x" * 70_000),
    ],
)
def test_a_text_of_another_type_is_refused(line: str, text: str):
    with pytest.raises(BadParameter) as caught:
        settle_parameters([one(line)], {"x": text}, {})
    assert "`x`" in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "line, value",
    [
        ("x = 1", True),
        ("x = 1", 1.0),
        ("x = 1.0", True),
        ("x = 'a'", 1),
        ("x = True", 1),
        ("x = []", (1,)),
        ("x = {}", {1: 2}),
        ("x = 1", None),
        ("x = 1.0", 2**53 + 1),
        ("x = 1.0", 10**400),
        ("x: Literal[1, 2] = 1", 3),
    ],
)
def test_a_value_of_another_type_is_refused(line: str, value: Any):
    with pytest.raises(BadParameter):
        check_value(one(line), value)


def test_an_unknown_parameter_is_refused_with_the_nearest_name():
    known = parameters("learning_rate = 0.1", "depth = 3")
    with pytest.raises(BadParameter) as caught:
        settle_parameters(known.values(), {"learning_rat": "1"}, {})
    assert "Did you mean `learning_rate`?" in caught.value.hint
    with pytest.raises(Refusals) as several:
        settle_parameters(known.values(), {"zzz": "1"}, {"qqq": 1, "depth": "no"})
    assert len(several.value.errors) == 3


def test_a_value_for_a_notebook_without_parameters_is_refused_with_how_to_declare_one():
    with pytest.raises(BadParameter, match="there is no parameter `x`") as caught:
        settle_parameters((), {"x": "1"}, {})
    assert "`#| parameters`" in caught.value.hint


def test_text_wins_over_values_and_values_over_defaults():
    known = parameters("a = 1", "b = 1", "c = 1")
    assert settle_parameters(known.values(), {"a": "3"}, {"a": 2, "b": 2}) == {"a": 3, "b": 2, "c": 1}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3), max_leaves=6
)


@settings(max_examples=60)
@given(values)
def test_what_papermill_injects_is_read_back(value: Any):
    found = read_injected(Cell(2, f"# Parameters\nx = {to_python(value)}\n"))
    assert repr(found) == repr({"x": value})


def test_injected_floats_without_a_literal_are_read_at_any_depth():
    source = "# Parameters\nx = [float('nan'), {'a': float('-inf')}]\ny: float = float('inf')"
    found = fine("#| parameters\nx = []", source, tags={2: "injected-parameters"}).injected
    assert math.isnan(found["x"][0])
    assert found["x"][1] == {"a": -math.inf}
    assert found["y"] == math.inf


@pytest.mark.parametrize(
    "line", ["x = f()", "x = float(y)", "x = float('a')", "import os", "x = {**y}", "x = [y]", "x"]
)
def test_an_injected_cell_of_other_code_is_refused(line: str):
    assert "injected" in wrong("#| parameters\nx = 1", f"# Parameters\n{line}", tags={2: "injected-parameters"})


@pytest.mark.parametrize(
    "source, names",
    [
        ("a = 1\nb: int = f()", {"a", "b"}),
        ("a = 1\nprint(a)", set()),
        ("", set()),
        ("a = (", set()),
        ("a, b = 1, 2", set()),
        ("\x00", set()),
    ],
)
def test_the_names_of_a_cell_of_plain_assignments(source: str, names: set[str]):
    assert bound_names(source) == names


@settings(max_examples=80)
@given(st.text())
def test_no_text_breaks_the_reader(text: str):
    for line in ("x = 1", "x = 1.0", "x = 'a'", "x = True", "x = []", "x = {}", "x: Any = 1", "x: int | None = 1"):
        try:
            from_text(one(line), text)
        except BadParameter:
            continue
