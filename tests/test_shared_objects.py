"""Objects that several outputs share: what is found, and what comes back from files of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbpipe.data import formats
from nbpipe.data.shared_objects import SharedObjects, divided, sharings


class Holder:
    """An object with a part."""

    def __init__(self, part: Any) -> None:
        self.part = part


def found(**values: Any) -> list[tuple[str, str, bool]]:
    """Get which values share something, and whether it is memory alone."""
    return [(each.first, each.second, not each.objects) for each in sharings(values, ())]


def counter() -> Any:
    count = [0]
    return (lambda: count.append(1)), (lambda: len(count))


LIST, ARRAY, FRAME = [1], np.zeros(8), pd.DataFrame({"a": [1]})
GENERATOR = np.random.default_rng()


@pytest.mark.parametrize(
    "a, b",
    [
        (LIST, LIST), (LIST, {"x": LIST}), ((LIST,), Holder([LIST])), (ARRAY, Holder(ARRAY)), (FRAME, [FRAME]),
        (np.array([LIST, None], dtype=object), LIST), counter(), (GENERATOR, {"rng": GENERATOR}),
    ],
)  # fmt: skip
def test_what_can_be_changed_through_both_is_found(a, b):
    assert found(a=a, b=b) == ([("a", "b", False)] if a is not b or a is LIST else [])


@pytest.mark.parametrize(
    "a, b",
    [
        ("x", "x"), ((1, "a"), (1, "a")), (FRAME.iloc[:1], FRAME.iloc[:1]), (Holder, [Holder]), (len, [len]),
        (ARRAY[:4], ARRAY[4:]), (np.float64(1), [np.float64(1)]), ([ARRAY.dtype], [ARRAY.dtype]),
        (Holder(1), Holder(1)),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_not_shared(a, b):
    assert found(a=a, b=b) == []


def test_overlapping_arrays_share_memory():
    assert found(a=ARRAY[:4], b=ARRAY[3:]) == found(a=ARRAY, b=Holder(ARRAY[::2])) == [("a", "b", True)]


PARTS = st.recursive(
    st.integers(0, 3),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=5,
)


@given(shared=st.lists(st.lists(PARTS, min_size=1), min_size=1, max_size=3), cyclic=st.booleans())
def test_values_that_are_loaded_together_share_what_they_shared(tmp_path_factory, shared, cyclic):
    folder = tmp_path_factory.mktemp("x")
    if cyclic:
        shared[0].append(shared)
        shared[-1].append(shared[0])
    one, two = Holder([*shared, (1, shared[0])]), {"own": [1], "parts": tuple(reversed(shared))}
    kept, notes = divided(sharings({"one": one, "two": two}, ()), lambda _: True)
    assert notes == {}
    saved = {
        name: formats.save(value, name=name, format="cloudpickle", folder=folder, together=kept[name])
        for name, value in (("one", one), ("two", two))
    }
    for order in (["one", "two"], ["two", "one"]):
        together: dict[int, Any] = {}
        back = {name: formats.load(folder / saved[name].basename, "cloudpickle", together) for name in order}
        parts = back["one"].part[: len(shared)]
        assert all(left is right for left, right in zip(parts, reversed(back["two"]["parts"]), strict=True))
        assert back["one"].part[-1][1] is parts[0]
        assert repr(parts) == repr(list(shared))
    alone = formats.load(folder / saved["two"].basename, "cloudpickle")
    assert repr(alone["parts"]) == repr(two["parts"])


def test_a_value_alone_is_written_as_ever(tmp_path):
    value = Holder([1])
    formats.save(value, name="a", format="cloudpickle", folder=tmp_path)
    formats.save(value, name="b", format="cloudpickle", folder=tmp_path, together=SharedObjects({}))
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()
