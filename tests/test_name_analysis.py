"""Names are found by Python's own scoping rules: programs that are run agree, whatever they are made of."""

from __future__ import annotations

import ast
import builtins
import contextlib
import dis
import re
import textwrap
from types import CodeType, CoroutineType, FunctionType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbpipe.language.mutation_analysis import changed_in_place
from nbpipe.language.name_analysis import NameUsage, name_usage

NAMES = "abcdef"
BRANCHES = re.compile(r"\b(?:if|lambda)\b")


class Anything:
    """A value on which every operation of the generated programs works."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *given: Any, **more: Any) -> Any:
        return given[0] if given else self

    def __add__(self, other: Any) -> Any:
        return self

    __radd__ = __iadd__ = __getitem__ = __add__

    def __setitem__(self, key: Any, value: Any) -> None:
        return None

    def __iter__(self) -> Any:
        return iter([self, self])

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *told: object) -> None:
        return None

    def __mro_entries__(self, bases: Any) -> tuple[()]:
        return ()


class Recording(dict[str, Any]):
    """A namespace that gives whatever is asked for, and notes which names nobody had bound."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = set[str]()

    def __missing__(self, name: str) -> Any:
        if name in vars(builtins) or name.startswith("__"):
            raise KeyError(name)
        self.asked.add(name)
        return Anything()


def run(source: str) -> tuple[set[str], bool]:
    """Get the names that a program asked others for, its functions called at the end, and whether all of it ran."""
    space = Recording()
    try:
        exec(compile(source, "<program>", "exec"), space)  # noqa: S102 - our own programs
        for value in [value for value in space.values() if isinstance(value, FunctionType)]:
            result = value(*[Anything()] * value.__code__.co_argcount)
            if isinstance(result, CoroutineType):
                with contextlib.suppress(StopIteration):
                    result.send(None)
    except (AttributeError, LookupError, NameError, RecursionError, TypeError, ValueError):
        return space.asked, False
    return space.asked, True


def asked_for(code: CodeType) -> set[str]:
    """Get the names that bytecode looks up outside functions, at any depth."""
    looked_up = ("LOAD_NAME", "LOAD_GLOBAL", "DELETE_NAME", "DELETE_GLOBAL", "LOAD_CLASSDEREF")
    found = {step.argval for step in dis.get_instructions(code) if step.opname in looked_up}
    return found.union(*(asked_for(part) for part in code.co_consts if isinstance(part, CodeType)))


def needed(source: str) -> NameUsage:
    return name_usage(ast.parse(source).body)


names = st.sampled_from(NAMES)
atoms = names | st.just("1")


@st.composite
def expressions(draw) -> str:
    first, second, third = draw(atoms), draw(names), draw(names)
    shapes = [
        f"{first}",
        f"{first}, {second}",
        f"[{first}, {second}]",
        f"f'{{{second}}}'",
        f"{second}.x",
        f"{second}[{first}]",
        f"[{first} for {second} in {third}]",
        f"{{{second}: {first} for {second} in {third} if {second}}}",
        f"[{first} for {second} in {third} for {first if first != '1' else 'a'} in {second}]",
        f"[*({first} for {second} in {third})]",
        f"(lambda {second}, x={third}: {first})",
        f"(lambda: [{second}, {third}])",
        f"({second} if {third} else {first})",
    ]
    return draw(st.sampled_from(shapes))


@st.composite
def straight(draw) -> str:
    """Make a statement without branches."""
    name, value = draw(names), draw(expressions())
    shapes = [
        f"{name} = {value}", f"{name}: int = {value}", f"{name} += {draw(names)}", f"{name}, x = {draw(names)}",
        f"{name}[0] = {value}", f"{name}.x = {value}", f"import os.path as {name}", f"({name} := {draw(atoms)})",
        f"{value}", f"with {draw(names)} as {name}:\n    {draw(names)}",
    ]  # fmt: skip
    return draw(st.sampled_from(shapes))


def block(draw: Any, statements: Any, size: int = 2) -> str:
    return textwrap.indent("\n".join(draw(st.lists(statements, min_size=1, max_size=size))), "    ")


@st.composite
def compound(draw, depth: int = 2) -> str:
    inner = straight() if depth == 0 else straight() | compound(depth - 1)
    name, other, value = draw(names), draw(names), draw(atoms)
    body, rest = block(draw, inner), block(draw, inner)
    shapes = [
        f"def {name}({other}, x={value}):\n{body}",
        f"async def {name}():\n{body}",
        f"def {name}():\n    global {other}\n    {other} = {value}\n{body}",
        (
            f"def {name}():\n    {other} = 1\n    def inner():\n        nonlocal {other}\n"
            f"        {other} = {value}\n{body}"
        ),
        f"@{other}\ndef {name}(x: {value}) -> {other}:\n{body}",
        f"class {name}({other}):\n{body}",
        f"class {name}:\n{body}\n    def method(self):\n{textwrap.indent(rest, '    ')}",
        f"if {other}:\n{body}",
        f"if {other}:\n{body}\nelse:\n{rest}",
        f"for {name} in {other}:\n{body}",
        f"while {other}:\n{body}\n    break\nelse:\n{rest}",
        f"try:\n{body}\nexcept Exception as {name}:\n{rest}\nfinally:\n    {other}",
        (
            f"match {other}:\n    case [{name}, *x] if {other}:\n{textwrap.indent(body, '    ')}\n"
            f"    case x:\n{textwrap.indent(rest, '    ')}"
        ),
        f"del {name}",
    ]
    return draw(st.sampled_from(shapes))


def compiles(source: str) -> bool:
    try:
        compile(source, "<program>", "exec")
    except SyntaxError:
        return False
    return True


programs = st.lists(straight() | compound(), min_size=1, max_size=6).map("\n".join).filter(compiles)
straight_programs = st.lists(straight(), min_size=1, max_size=8).map("\n".join).filter(compiles)


@settings(max_examples=40)
@given(programs)
def test_a_program_asks_for_no_name_that_was_not_found(source: str):
    found = needed(source)
    asked, _ = run(source)
    assert asked <= found.early | found.unsure | (found.later - found.binds) | found.annotations


@settings(max_examples=40)
@given(programs)
def test_no_name_is_found_that_the_program_cannot_ask_for(source: str):
    found = needed(source)
    assert found.needs | found.unsure <= asked_for(compile(source, "<program>", "exec"))


@settings(max_examples=40)
@given(straight_programs)
def test_without_branches_exactly_what_is_asked_for_is_found(source: str):
    found = needed(source)
    asked, complete = run(source)
    if complete and not BRANCHES.search(source):
        assert found.early == asked
        assert not found.unsure


@pytest.mark.parametrize(
    "source, early, unsure",
    [
        ("x = x + 1", "x", ""),
        ("x = 1\ny = x", "", ""),
        ("x += 1", "x", ""),
        ("x: T", "", ""),
        ("for x in x: y = x", "x", ""),
        ("if c: x = 1\nprint(x)", "c print", "x"),
        ("if c: x = 1\nelse: x = 2\nuse(x)", "c use", ""),
        ("if c: x = 1\nelse: raise E\nuse(x)", "c E use", ""),
        ("try:\n  x = 1\nexcept E:\n  x = 2\nuse(x)", "E use", ""),
        ("try:\n  x = 1\nexcept E:\n  pass\nuse(x)", "E use", "x"),
        ("while c:\n  x = 1\nuse(x)", "c use", "x"),
        ("class C:\n  x = x", "x", ""),
        ("class C:\n  x = 1\n  y = [x for _ in z]", "x z", ""),
        ("class C:\n  x = 1\n  def m(self): return x", "", ""),
        ("class C:\n  def m(self): return super().m(), __class__\n  n = __qualname__", "", ""),
        ("with open(p) as f, g(f) as h: h", "open p g", ""),
        ("(n := 5) + n", "", ""),
        ("[y := i for i in z]\ny", "z", ""),
        ("match p:\n  case C(x=a) if a: a\n  case {'k': v, **r}: r", "p C", ""),
        ("del x", "x", ""),
        ("x = 1\ndel x\nx", "", "x"),
        ("try: pass\nexcept E as e: e\ne", "E", "e"),
        ("from m import *", "", ""),
        ("async def f(): await g()\nawait f()", "", ""),
        ("lambda a, b=c: a + d", "c", ""),
        ("f'{x:{width}} {y!r}'", "x width y", ""),
    ],
)
def test_what_a_cell_reads_before_it_binds_it(source: str, early: str, unsure: str):
    found = needed(source)
    assert found.early == set(early.split())
    assert found.unsure == set(unsure.split())


def test_a_function_needs_what_it_reads_when_it_is_called():
    found = needed("def f(a, b=c):\n  d = a\n  def g(): return d, e\n  global h\n  h += 1\n  return [i for i in j]")
    assert found.early == {"c"}
    assert found.later == {"e", "h", "j"}
    assert found.assigned == {"h"}
    assert found.binds == {"f", "h"}


def test_annotations_are_kept_apart():
    found = needed("def f(a: A, b: 'B') -> C: d: D = 1\nx: X = y")
    assert found.annotations == {"A", "C", "X"}
    assert found.early == {"y"}


@pytest.mark.parametrize(
    "source, mentioned",
    [
        ("frame.query('a > @limit and b < @other.top')", {"limit", "other"}),
        ("def f(frame):\n    return frame.query(f'{column} > @limit')", {"limit"}),
        ("frame.eval('c = a + @shift')", {"shift"}),
        ("eval('limit + 1')", {"limit"}),
        ("frame.query(text)", set()),
        ("mail.send('me@home')", set()),
    ],
)
def test_a_text_that_a_call_evaluates_mentions_names(source, mentioned):
    assert name_usage(ast.parse(source).body).mentioned == mentioned


def test_a_magic_mentions_names_and_time_runs_code():
    source = "get_ipython().run_line_magic('time', 'x = fit(y)')\nget_ipython().system('ls {folder} $name')\nx"
    found = needed(source)
    assert {"folder", "name", "fit"} <= found.mentioned
    assert found.binds == {"x"}
    assert found.early == {"fit", "y", "get_ipython"}


@pytest.mark.parametrize(
    "source, changed",
    [
        ("x[0] = 1", "x"),
        ("x.a.b[0].c = 1", "x"),
        ("del x[0]", "x"),
        ("x += 1", "x"),
        ("x.append(1)", "x"),
        ("x.a.update(b=1)", "x"),
        ("x.drop('a', inplace=True)", "x"),
        ("x.drop('a', inplace=False)", ""),
        ("for x[0] in y: pass", "x"),
        ("if a:\n  x.pop()\n  with b: y.clear()", "x y"),
        ("x = y = 1", ""),
        ("def f(): x.append(1)", ""),
        ("if a:\n  def f(): x.append(1)", ""),
        ("x().append(1)", ""),
    ],
)
def test_objects_that_a_statement_changes(source: str, changed: str):
    assert set(changed_in_place(ast.parse(source).body[0])) == set(changed.split())
