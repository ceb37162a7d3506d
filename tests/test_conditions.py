"""A condition compares parameters with literals, as Python would, and can do nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbpipe.errors import BadDirective, SourceLocation
from nbpipe.language.conditions import condition_names, holds

HERE = SourceLocation(3, 1, 20, "train")
VALUES = {"depth": 3, "mode": "full", "rate": 0.5, "tags": ["a", "b"], "none": None, "on": True}


def decided(text: str) -> bool:
    return holds(text, VALUES, HERE)


@pytest.mark.parametrize(
    "text, truth",
    [
        ("depth > 3", False),
        ("depth >= 3 and mode == 'full'", True),
        ("not on or depth != 3", False),
        ("1 < depth < 3", False),
        ("1 < depth <= 3", True),
        ("mode in ['fast', 'full']", True),
        ("mode not in ('fast', 'full')", False),
        ("depth in {3}", True),
        ("'a' in tags", True),
        ("none is None", True),
        ("none is not None", False),
        ("rate > -1 and rate < +1", True),
        ("on", True),
        ("not tags", False),
        ("  depth == 3  ", True),
        ("depth == 3.0", True),
    ],
)
def test_a_condition_means_what_python_means(text: str, *, truth: bool):
    assert decided(text) is truth
    assert eval(text.strip(), {}, dict(VALUES)) == truth or bool(eval(text.strip(), {}, dict(VALUES))) is truth  # noqa: S307 - the oracle


@pytest.mark.parametrize(
    "text, names",
    [("depth > 3 and mode == 'full' or depth < 1", ("depth", "mode")), ("1 < 2", ()), ("not on", ("on",))],
)
def test_the_parameters_that_a_condition_reads(text: str, names: tuple[str, ...]):
    assert condition_names(text, HERE) == names


@pytest.mark.parametrize(
    "text",
    [
        "f(depth)", "depth.real > 1", "depth + 1 > 3", "tags[0] == 'a'", "[x for x in tags]", "lambda: 1", "(x := 1)",
        "depth if on else 1", "f'{depth}'", "await depth", "{**{}}", "__import__('os').system('true')", "*tags",
    ],
)  # fmt: skip
def test_nothing_else_can_stand_in_a_condition(text: str):
    with pytest.raises(BadDirective) as caught:
        condition_names(text, HERE)
    assert caught.value.place == HERE
    assert "--when" in caught.value.hint


@pytest.mark.parametrize("text", ["", "depth >", "depth = 3", "import os", "depth; mode", "\x00", "(" * 300, "a\nb"])
def test_a_text_that_is_no_expression_is_refused(text: str):
    with pytest.raises(BadDirective, match="is not a condition"):
        condition_names(text, HERE)


@pytest.mark.parametrize("text", ["depth > 'a'", "1 in depth", "-mode == 1", "none < 1"])
def test_a_comparison_that_python_cannot_make_is_refused(text: str):
    with pytest.raises(BadDirective, match="cannot be decided"):
        decided(text)


literals = st.sampled_from(["3", "'full'", "0.5", "None", "True", "['a']", "-1", "depth", "mode", "rate", "on"])
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not"])


@st.composite
def conditions(draw) -> str:
    parts = draw(st.lists(st.tuples(literals, operators, literals), min_size=1, max_size=3))
    joined = f" {draw(st.sampled_from(['and', 'or']))} ".join(" ".join(part) for part in parts)
    return f"not ({joined})" if draw(st.booleans()) else joined


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@settings(max_examples=80)
@given(conditions())
def test_any_condition_agrees_with_python(text: str):
    try:
        expected: Any = bool(eval(text, {}, dict(VALUES)))  # noqa: S307 - the oracle
    except TypeError:
        with pytest.raises(BadDirective):
            decided(text)
        return
    if " is " not in text:
        assert decided(text) is expected
