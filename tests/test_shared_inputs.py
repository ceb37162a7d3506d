"""Objects that one kernel has once and a step gets as two copies; and functions that read variables of their step."""

from __future__ import annotations

import pytest
from sample_cells import fine

A = "%%step a -o x\nx = [1]"
NODE = "class Node:\n    pass"


def told(*sources: str) -> list[str]:
    """Get the messages about changes that no declaration hands over."""
    return [warned.message for warned in fine(*sources).warnings if warned.code == "hidden-change"]


@pytest.mark.parametrize(
    "made, use",
    [
        ("x", "z = x is y"), ("{'k': x}", "z = x is y['k']"), ("[x]", "z = any(each is not x for each in y)"),
        ("x", "z = id(x) == id(y)"), ("[x, 1]", "t = y[0]\nz = t is x"),
        ("{'k': x}.get('k')", "z = x is y"), ("{'k': x}\ny = y.get('k')", "z = x is y"),
    ],
)  # fmt: skip
def test_comparing_one_object_that_two_steps_hand_over_is_told(made: str, use: str):
    reading = fine(A, f"%%step b -i x -o y\ny = {made}", f"%%step c -i x,y -o z\n{use}")
    (warned,) = reading.warnings
    assert warned.code == "hidden-change"
    assert warned.message.startswith(
        "`x` of step `a` and `y` of step `b` share an object in one kernel, but not in `c`"
    )
    assert "`-o y:cloudpickle,x:cloudpickle` in `b`, and `-i x=b.x` in `c`" in warned.hint


def test_the_cure_for_one_object_in_two_inputs_is_a_cure():
    cured = ["%%step b -i x=a.x -o y:cloudpickle,x:cloudpickle\ny = [x]", "%%step c -i x=b.x,y -o z\nz = x is y[0]"]
    assert told(A, *cured) == []


@pytest.mark.parametrize("use", ["z = y[x]", "z = x in y", "z = [x] == list(y)", "z = y.get(x)"])
def test_objects_without_equality_are_compared_by_identity(use: str):
    cells = ["%%step a -o x\nx = Node()", "%%step b -i x -o y\ny = {x: 1}", f"%%step c -i x,y -o z\n{use}"]
    assert len(told(NODE, *cells)) == 1
    assert told(NODE + "\n    def __eq__(self, other):\n        return True", *cells) == []


def test_what_is_looked_up_by_a_key_is_not_the_key():
    cells = ["%%step b -i x -o n\ngroups = {x: []}\ngroups[x].append(1)\nn = 1", "%%step c -i x -o z\nz = x"]
    assert told("%%step a -o x\nx = load()", "def load():\n    return 'a'", *cells) == []


@pytest.mark.parametrize(
    "use", ["z = x is None", "z = y == x", "z = len(x) + len(y)", "z = x[0] is None or y is not None"]
)
def test_what_does_not_depend_on_identity_is_not_told(use: str):
    assert told(A, "%%step b -i x -o y\ny = x", f"%%step c -i x,y -o z\n{use}") == []


@pytest.mark.parametrize("change", ["y.append(1)", "y[0] = 3", "t = y\nt.clear()"])
def test_a_change_of_one_copy_which_the_other_does_not_see_is_told(change: str):
    cells = [A, "%%step b -i x -o y\ny = x", f"%%step c -i x,y=b.y -o y,z\n{change}\nz = len(x)"]
    assert "which changes one of them" in told(*cells)[0]
    assert told(*cells[:2], f"%%step c -i y=b.y -o y\n{change}") == []


def test_outputs_of_one_step_are_kept_together():
    assert told("%%step a -o x,y\nx = [1]\ny = x", "%%step b -i x,y -o z\ny.append(1)\nz = x is y") == []


@pytest.mark.parametrize(
    "defined",
    [
        "def f(x):\n    return x * K", "f = lambda x: x * K", "def g(x):\n    return x * K\nf = [g, 1]",
        "def g(x):\n    return x * K\nf = lambda x: g(x)",
        "class F:\n    def __call__(self, x):\n        return x * K\nf = F()",
        "def make():\n    return lambda x: x * K\nf = make()",
        "import functools\ndef g(x):\n    return x * K\nf = functools.partial(g, 1)",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "cells", [["%%step b -i f -o y\nK = 5\ny = f"], ["K = 5", "%%step b -i f -o y\ny = f"],
              ["%%step c -o K\nK = 5", "%%step b -i f -o y\ny = f"]],
)  # fmt: skip
def test_a_variable_that_a_function_reads_and_another_cell_binds_is_told(defined: str, cells: list[str]):
    (message,) = told(f"%%step a -o f\nK = 2\n{defined}", *cells)
    assert "rebinds `K`, which a function in `f` of step `a` reads; `b` gets it with the value of `a`" in message


def test_a_variable_that_a_function_reads_and_another_step_changes_is_told():
    make = "%%step a -o f,ks\nks = []\ndef f(x):\n    return len(ks)"
    assert len(told(make, "%%step b -i ks=a.ks -o ks\nks.append(1)", "%%step c -i f -o y\ny = f(1)")) == 1


@pytest.mark.parametrize(
    "cell",
    [
        "%%step a -o f\nK = 2\ndef g(x):\n    return x * K\nf = g(1)",
        "%%step a -o f\nK = 2\nf = [K * each for each in [1]]",
        "%%step a -o f\nK = 2\ndef f(x, k=K):\n    return x * k",
        "%%step a -o f\nK = 2\nf = sorted([1], key=lambda x: x * K)",
        "%%step a -o f\nK = 2\ndef f(K):\n    return K",
    ],
)  # fmt: skip
def test_values_that_functions_have_made_do_not_read_their_variables(cell: str):
    assert told(cell, "%%step b -i f -o y\nK = 5\ny = f") == []
