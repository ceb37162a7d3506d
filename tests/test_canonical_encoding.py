"""The canonical encoding tells values apart that Python calls equal, and refuses what it cannot tell exactly."""

from __future__ import annotations

import math
import re
import struct
from enum import IntEnum
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.planning.canonical_encoding import encode, sequence

# These never change: a key made by an earlier nbpipe means the same in a later one.
GOLDEN = {
    "none": (None, "6e0000000000000000"),
    "true": (True, "62000000000000000131"),
    "false": (False, "62000000000000000130"),
    "zero": (0, "69000000000000000130"),
    "negative": (-255, "6900000000000000032d6666"),
    "large": (2**64, "6900000000000000113130303030303030303030303030303030"),
    "one": (1.0, "6600000000000000083ff0000000000000"),
    "minus zero": (-0.0, "6600000000000000088000000000000000"),
    "infinity": (math.inf, "6600000000000000087ff0000000000000"),
    "nan": (math.nan, "6600000000000000087ff8000000000000"),
    "no text": ("", "730000000000000000"),
    "text": ("é", "730000000000000002c3a9"),
    "empty list": ([], "6c0000000000000000"),
    "list": ([1, "a"], "6c000000000000001469000000000000000131730000000000000001" + "61"),
    "empty dict": ({}, "640000000000000000"),
    "dict": ({"b": None, "a": True}, "640000000000000027" + "73000000000000000161" + "62000000000000000131"
             + "73000000000000000162" + "6e0000000000000000"),
}  # fmt: skip

DIGEST = "03b5e05648ce5ad7f1e4782fde4d496e2467db419d7eade35e14873998fa4c7c"

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@pytest.mark.parametrize("value, hexadecimal", GOLDEN.values(), ids=GOLDEN)
def test_the_encoding_never_changes(value, hexadecimal):
    assert encode(value).hex() == hexadecimal


def test_a_digest_over_everything_never_changes():
    whole = [value for value, _ in GOLDEN.values()]

    assert blake3(encode(whole)).hexdigest() == DIGEST


@pytest.mark.parametrize("one, other",
    [
        (1, 1.0), (1, True), (0, False), (0.0, False), (0.0, -0.0), ("1", 1), ("None", None), ("", None), ([], None),
        ({}, []), ([1, [2]], [[1], 2]), ([[]], []), (["ab"], ["a", "b"]), ([1, 2], [2, 1]), ({"a": 1}, [["a", 1]]),
        ({"a": {"b": 1}}, {"a": 1, "b": 1}), ("é", "e\u0301"), (10, "a"), ([None], []), (math.inf, -math.inf),
    ],
)  # fmt: skip
def test_values_that_are_not_the_same_are_encoded_apart(one, other):
    assert encode(one) != encode(other)


def test_every_nan_is_one():
    """A NaN has many bit patterns, and none of them means anything else."""
    (odd,) = struct.unpack(">d", bytes.fromhex("fff8000000000001"))

    assert encode(odd) == encode(math.nan)


def test_the_order_in_which_a_dict_was_filled_does_not_count():
    assert encode({"a": 1, "b": {"c": 1, "d": 2}}) == encode({"b": {"d": 2, "c": 1}, "a": 1})


def test_a_sequence_of_encoded_items_is_the_list_of_them():
    assert sequence([encode(1), encode("a")]) == encode([1, "a"])


class Grade(IntEnum):
    """An int that is not only an int."""

    GOOD = 1


@pytest.mark.parametrize("value, where, what",
    [
        ((1, 2), "lr", "tuple"), (b"ab", "lr", "bytes"), ({1}, "lr", "set"), (1j, "lr", "complex"),
        (object(), "lr", "object"), (Grade.GOOD, "lr", "Grade"), (type("Text", (str,), {})("a"), "lr", "Text"),
        ([0, {"deep": [(1,)]}], "lr[1]['deep'][0]", "tuple"), ({"a": {3: "x"}}, "lr['a']", "the key 3"),
        ({"a": "\ud800"}, "lr['a']", "Unicode"), ({"\udfff": 1}, r"lr['\udfff']", "Unicode"),
        ("\ud800", "lr", "Unicode"),
        ({None: 1}, "lr", "the key None"), ({(1, 2): 1}, "lr", "the key (1, 2)"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)  # fmt: skip
def test_what_has_no_canonical_form_is_an_error_that_names_its_path(value, where, what):
    with pytest.raises(ValueError, match=f"^{re.escape(where)} .*{re.escape(what)}"):
        encode(value, "lr")


def test_a_list_that_holds_itself_is_an_error():
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(ValueError, match="lr is nested too deeply, or holds itself"):
        encode(endless, "lr")


def test_numbers_of_any_length_have_a_form():
    """Python writes no decimal number of more than 4,300 digits."""
    assert encode(10**5000) != encode(10**5000 + 1)


def identity(value: Any) -> Any:
    """Get what Python compares as equal exactly when two values are the same to us."""
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else struct.pack(">d", value))
    if isinstance(value, list):
        return ("list", tuple(map(identity, value)))
    if isinstance(value, dict):
        return ("dict", frozenset((key, identity(item)) for key, item in value.items()))
    return (type(value).__name__, value)


@given(VALUES, VALUES)
def test_two_values_have_one_encoding_exactly_when_they_are_the_same(one, other):
    assert (encode(one) == encode(other)) == (identity(one) == identity(other))


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_where_one_item_ends_and_the_next_begins_is_told(one, other):
    """Encodings one after the other cannot be split in two ways."""
    joined = [b"".join(map(encode, items)) for items in (one, other)]

    assert (joined[0] == joined[1]) == (identity(one) == identity(other))
