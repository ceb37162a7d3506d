"""A parameter's value reaches the step exactly, or is refused with the path to what cannot."""

from __future__ import annotations

import ast
import math
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbpipe.language.python_literals import MAX_BITS, MAX_BYTES, MAX_KEYS, find_foreign, find_too_large, to_python

texts = st.text(st.characters(codec="utf-8"))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
deliverable = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


def exact(value: Any) -> Any:
    """Get a value in which types, signs of zero and orders of keys count, and one NaN is as good as another."""
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else struct.pack(">d", value))
    if isinstance(value, list):
        return ("list", [exact(item) for item in value])
    if isinstance(value, dict):
        return ("dict", [(exact(key), exact(item)) for key, item in value.items()])
    return (type(value).__name__, value)


@settings(max_examples=80)
@given(deliverable)
@example([-0.0, math.inf, -math.inf, math.nan, 5e-324, 10**400, -(2**63)])
@example({"'": '"', "\n\r\t\\": "\u2028\x00\x7f😀", "": [{}], "{x}": "%s $HOME {y}"})
def test_written_as_python_a_value_stays_exactly_itself(value: Any):
    assert find_foreign(value, "p") is None
    again = eval(to_python(value), {"__builtins__": {"float": float}})  # noqa: S307 - what the step's kernel does
    assert exact(again) == exact(value)


@settings(max_examples=60)
@given(deliverable)
def test_written_as_python_a_value_is_one_expression_on_one_line(value: Any):
    written = to_python(value)
    assert isinstance(ast.parse(written, mode="eval"), ast.Expression)
    assert "\n" not in written
    assert "\r" not in written


class Text(str):
    """Text of a type that the step's kernel does not have."""

    __slots__ = ()


@pytest.mark.parametrize(
    "value, said",
    [
        ((1, 2), "`p` is a tuple"),
        (b"ab", "`p` is a bytes"),
        ({1}, "`p` is a set"),
        (1j, "`p` is a complex"),
        (object, "`p` is a type"),
        (Text("a"), "`p` is a Text"),
        ([1, [2, (3,)]], "`p[1][1]` is a tuple"),
        ({"a": {"b": [0, b""]}}, "`p['a']['b'][1]` is a bytes"),
        ({"a": {3: 1}}, "`p['a']` has the key 3"),
        ({True: 1}, "`p` has the key True"),
        ({Text("a"): 1}, "`p` has the key 'a'"),
        (["a", "\ud800"], "`p[1]` holds text that is not valid Unicode"),
        ({"\udfff": 1}, "`p` has the key '\\udfff'"),
        ([1 << MAX_BITS], f"`p[0]` is an integer of {MAX_BITS + 1:,} bits"),
    ],
)
def test_what_cannot_be_delivered_is_named_by_its_path(value: Any, said: str):
    assert (find_foreign(value, "p") or "").startswith(said)


def test_data_is_no_parameter():
    assert find_too_large(dict.fromkeys(map(str, range(MAX_KEYS))), "p") is None
    assert "1,001 keys" in (find_too_large({"a": dict.fromkeys(map(str, range(MAX_KEYS)), 0)}, "p") or "")
    assert find_too_large("x" * (MAX_BYTES - 2), "p") is None
    assert "65,537 bytes" in (find_too_large("x" * (MAX_BYTES - 1), "p") or "")
    assert find_too_large("é" * (MAX_BYTES // 2), "p") is not None
