"""What code says is told apart from its looks, and the compiler is spared only where it has nothing to find."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import textwrap
from pathlib import Path

import pytest

from nbpipe.language.ast_nodes import children
from nbpipe.language.mutation_analysis import changed_in_place
from nbpipe.language.normal_form import NormalForm, normal_form_of

# Real code in which nearly every kind of node occurs.
STATEMENTS = [
    node
    for module in (ast, dataclasses, textwrap)
    for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8")))
    if isinstance(node, ast.stmt) and not isinstance(node, ast.ClassDef)
]
DIFFERENT = (
    "1", "1.0", "True", "1j", "'1'", "u'1'", "b'1'", "-1", "+1", "0.0", "-0.0", "...", "None", "'None'", "[None]", "()",
    "[]", "{}", "[[]]", "(1,)", "'a, b'", "'a', 'b'", "a", "'a'", "a.b", "a.b.c", "a[b]", "a(b)", "a(b=b)",
    "a(*b)", "a(**b)", "{**a}", "{a}", "{a: b}", "f'{a}'", "f'{a!r}'", "f'{a:>3}'", "'{a}'", "a if b else c", "not a",
    "lambda: a", "lambda a: a", "lambda a, /: a", "lambda *, a: a", "lambda *a: a", "lambda **a: a", "lambda a=1: a",
    "[a for a in b]", "[a for a in b if a]", "{a for a in b}", "(a for a in b)", "a < b < c", "(a < b) < c", "a == b",
    "a = b", "a: b = c", "(a): b = c", "a: b", "a += b", "a = b = c", "del a", "a[1:2]", "a[1:2:None]", "a[:2]",
    "import a", "import a as b", "import a.b", "from a import b", "from . import b", "from .. import b",
    "0x" + "f" * 5000, "0x" + "f" * 4999 + "e", "'0xff'", r"'\n'", r"'\\n'", "'é'", r"'e\u0301'", r"'\ud800'",
)  # fmt: skip


def read(source: str) -> NormalForm:
    """Get the form of a piece of code."""
    return normal_form_of(ast.parse(source).body)


def test_any_two_pieces_of_code_that_say_different_things_have_different_forms():
    distinct = {source: read(source).normal for source in DIFFERENT}

    assert len(distinct) == len(set(distinct.values()))


def test_real_statements_have_one_form_exactly_when_their_trees_are_equal():
    dumps = [ast.dump(statement) for statement in STATEMENTS]
    normals = [normal_form_of([statement]).normal for statement in STATEMENTS]

    assert len(STATEMENTS) > 1000
    assert len(set(dumps)) == len(set(normals)) == len(set(zip(dumps, normals, strict=True)))


@pytest.mark.parametrize(
    "one, other",
    [
        ("a = 1", "a=1  # note"),
        ("255", "0xff"),
        ("'a'", '"a"'),
        ("(1,)", "1,"),
        ("f(a,\n  b)", "f(a, b)"),
        ("if a:\n  b", "if a: b"),
    ],
)
def test_layout_comments_and_spelling_do_not_count(one: str, other: str):
    assert read(one) == read(other)


def test_line_ends_stand_between_statements_only():
    assert read("a = '''\n\n'''").normal.count("\n") == 0
    assert read("a = 1\n\n\nb = 2; c = 3").normal.count("\n") == 2


def test_words_are_names_and_attributes_and_modules_are_found_at_any_depth():
    form = read("import a.b\ndef f(x):\n    from c import d, e as g\n    from . import h\n    return y.z(k=1, *['w'])")

    assert form.identifiers == {"y", "z"}
    assert sorted(form.modules) == ["a.b", "c", "c.d", "c.e"]


def test_where_nothing_touches_an_object_nothing_is_changed_in_place():
    calm = [statement for statement in STATEMENTS if not normal_form_of([statement]).touches]

    assert len(calm) > 500
    assert not [statement for statement in calm if changed_in_place(statement)]


@pytest.mark.parametrize(
    "source", ["a[0] = 1", "a.b = 1", "a += 1", "del a[0]", "a.append(1)", "a.f(inplace=True)", "a.b[0].c, d = 1, 2"]
)
def test_what_changes_an_object_in_place_touches_it(source: str):
    assert read(source).touches


@pytest.mark.parametrize(
    "source",
    [
        "return 1", "yield 1", "x = yield", "break", "continue", "nonlocal a", "a = 1\nglobal a", "f(a=1, b=2, a=3)",
        "lambda a, a: 1", "lambda a, *a: 1", "lambda a, *, a: 1", "lambda a, **a: 1", "lambda a, /, a: 1",
        "lambda: (yield)\nreturn", "[a := 1 for a in b]", "[(a := 1) for a in b]", "x = *a", "*a", "*a = b",
        "*a.b, *c.d = e", "*a[0], *b[0] = c", "for a in *b: pass", "for *a in b: pass", "a, *b, *c = d",
        "__debug__ = 1", "f(__debug__=1)", "a.__debug__ = 1", "lambda __debug__: 1", "import a as __debug__",
        "from __future__ import braces", "from __future__ import nothing", "a = 1\nfrom __future__ import annotations",
        "try: pass\nexcept: pass\nexcept a: pass", "def f(a, a): pass", "def f(): from a import *", "class A: return 1",
        "lambda: [a async for a in b]", "lambda: await a", "def f():\n  async with a: pass", "def f(a): global a",
        "match a:\n  case b: pass\n  case c: pass", "match a:\n  case [b, b]: pass",
        "".join("  " * depth + "for i in a:\n" for depth in range(41)) + "  " * 41 + "pass",
        "".join("  " * depth + "with a:\n" for depth in range(41)) + "  " * 41 + "pass",
        "for a in b:\n  while c:\n    pass\n  with " + ", ".join("a" * 41) + ":\n    pass",
    ],
)  # fmt: skip
def test_what_only_the_compiler_refuses_is_never_simple(source: str):
    with pytest.raises(SyntaxError):
        compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    # Newer parsers find some of this themselves.
    with contextlib.suppress(SyntaxError):
        assert not read(source).simple


def test_common_code_is_simple():
    for source in (
        "a = f(b, c=[1, 2], d={'e': x.y[0]})",
        "z = [a + 1 for a in b if a]",
        "g(lambda v: -v, key=1, by=2)",
        "for a in b:\n    with c as d, e:\n        d.write(a)\nelse:\n    f()",
    ):
        assert read(source).simple


def test_children_are_the_nodes_right_below_but_contexts():
    for statement in STATEMENTS:
        for node in ast.walk(statement):
            below = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr_context)]
            assert children(node) == below
