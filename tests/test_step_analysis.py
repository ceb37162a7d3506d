"""What a step's code needs, and what is wrong with it, is known before anything runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cells import code_of, fine, read, shared_names, wrong

from nbpipe.errors import UndeclaredName
from nbpipe.language.parsed_notebook import unbound_errors

LR = "#| parameters\nlr = 0.1"


def messages(*sources: str) -> list[str]:
    return [warned.message for warned in fine(*sources).warnings]


# What a name means


@pytest.mark.parametrize(
    "body, reads",
    [
        ("x = lr", True),
        ("lr = lr * 2\nx = lr", True),
        ("lr *= 2\nx = lr", True),
        ("lr = 5\nx = lr", False),
        ("if fast:\n    lr = 5\nx = lr", True),
        ("try:\n    lr = 5\nexcept KeyError:\n    pass\nx = lr", True),
        ("for lr in []:\n    pass\nx = lr", True),
        ("x = [lr for lr in []]", False),
        ("x = [lr for _ in []]", True),
        ("x = (lambda lr: lr)(1)", False),
        ("x = (lambda: lr)()", True),
        ("def f(lr): return lr\nx = f(1)", False),
        ("def f(): return lr\nx = f()", True),
        ("def f(n=lr): return n\nx = f()", True),
        ("class C:\n    lr = lr\nx = C.lr", True),
        ("class C:\n    lr = 1\nx = C.lr", False),
        ("x = f'{lr:.2f}'", True),
        ("x = 'lr'", False),
        ("x = o.lr", False),
        ("x = f(lr=1)", False),
        ("del lr\nx = 1", True),
        ("global lr\nx = lr", True),
        ("async def f(): return lr\nx = await f()", True),
        ("x = (lr := 3) + lr", False),
        ("match 3:\n    case lr:\n        x = lr", False),
        ("match 3:\n    case int(lr) if lr: pass\nx = 1", False),
        ("import lr\nx = lr", False),
        ("with f() as lr: x = lr", False),
        ("%time x = f(lr)", True),
        ("x = !ls {lr}", True),
        ("!echo $lr\nx = 1", True),
        ("%timeit lr\nx = 1", True),
        ("x: lr = 1", True),
    ],
)
def test_a_step_is_delivered_exactly_the_parameters_that_it_reads(body: str, *, reads: bool):
    reading = fine(LR + "\nfast = True", "def f(n=0, lr=0): return n\no = 1", f"%%step s -o x\n{body}")
    assert ("lr" in reading.code["s"].parameters) is reads


def test_what_a_helper_reads_the_step_reads():
    sources = (LR, "def f(): return g()", "class G:\n    def m(self): return lr", "def g(): return G().m()")
    assert code_of(*sources, "%%step s -o x\nx = f()").parameters == ("lr",)
    assert code_of(*sources, "%%step s -o x\nx = 1").parameters == ()
    assert code_of(*sources, "%%step s -o x -p lr\nx = 1").parameters == ("lr",)


def test_an_input_goes_before_all_else_and_a_parameter_before_a_definition():
    step = "%%step s -i lr=./lr.csv, f=./f.csv -o x\nx = lr, f"
    code = code_of(LR, "def f(): pass", step)
    assert (code.parameters, code.definitions) == ((), ())
    helper = code_of("data = 1", "def f(): return data", "%%step s -i data=./d.csv -o x\nx = f(), data")
    assert shared_names(helper) == ["f"]
    own = code_of("def f(): pass", "%%step s -o x\ndef f(): return 1\nx = f()")
    assert own.definitions == ()


def test_a_name_that_is_parameter_and_definition_is_refused_where_it_is_read():
    assert "`lr` is both a parameter and a definition (cell 2)" in wrong(LR, "lr = 1", "%%step s -o x\nx = lr")
    assert fine(LR, "lr = 1", "%%step s -o x\nx = 1").errors == ()
    assert fine(LR, "lr = 1", "%%step s -o x\nlr = 2\nx = lr").errors == ()


@pytest.mark.parametrize("name", ["id", "list", "display", "max", "_", "In", "exit"])
def test_names_that_python_gives_can_be_the_authors_own(name: str):
    assert code_of(f"#| parameters\n{name} = 1", f"%%step s -o x\nx = {name}").parameters == (name,)
    assert shared_names(code_of(f"def {name}(): return 1", f"%%step s -o x\nx = {name}()")) == [name]
    assert fine(f"%%step a -o {name}\n{name} = 1", f"%%step b -i {name} -o x\nx = {name}").errors == ()
    assert code_of(f"%%step s -o x\nx = {name}").definitions == ()


def test_a_builtin_that_no_statement_binds_is_no_output():
    reading = fine("%%step s -o list\nx = 1")
    assert reading.unbound == {"s": ("list",)}


def test_names_of_the_kernel_are_given():
    assert fine("%%step s -o x\ndisplay(1)\nx = get_ipython(), __name__, __doc__, _, exit").errors == ()


# Checked before anything runs


@pytest.mark.parametrize(
    "sources, said",
    [
        (
            ("%%step a -o df\ndf = 1", "%%step s -o x\nx = df"),
            "cell 2 (step s), line 2, column 5: `df` is an output of `a`",
        ),
        (("%%step a -o df\ndf = 1", "%%step s -o x\nx = df"), "Add `-i df`."),
        (("%%step a -o df\ndf = 1", "%%step b -o df\ndf = 2", "%%step s -o x\nx = df"), "Add `-i df=a.df`."),
        (("df = load()", "%%step s -o x\nx = df"), "`df` is defined in cell 1, which is not part of the pipeline"),
        (
            ("try:\n    import json\nexcept ImportError:\n    json = find()", "%%step s -o x\nx = json"),
            "mark that cell with `#| shared`",
        ),
        (("def load_data(): pass", "%%step s -o x\nx = laod_data()"), "Did you mean `load_data`?"),
        ((LR, "%%step s -o x\nx = lrr"), "Did you mean `lr`?"),
        (("%%step a -o features\nfeatures = 1", "%%step s -o x\nx = feature"), "Did you mean `features`?"),
        (("%%step s -o x\nx = pritn(1)",), "Did you mean `print`?"),
        (("%%step s -o x\nx = zzz",), "Define it, declare it as an input, or make it a parameter."),
        (("def f(): return zzz", "%%step s -o x\nx = f()"), "`f` in cell 1, which this step uses, reads it"),
        (("%%step a -o df\ndf = 1", "def f(): return df", "%%step s -o x\nx = f()"), "`df` is an output of `a`"),
        (
            ("%%step a -o df\ndf = 1", "def f(x=df): return x", "%%step s -i df -o x\nx = f()"),
            "`f` in cell 2, which this step uses, reads `df` while it is defined",
        ),
        (
            ("%%step a -o df\ndf = 1", "class C:\n    size = df + 1", "%%step s -i df -o x\nx = C.size"),
            "`C` in cell 2, which this step uses, reads `df` while it is defined",
        ),
        (
            ("%%step s -o x\ny = 1", "%%step s --append\nx = y + zzz"),
            "cell 2 (step s), line 2, column 9: `zzz` is used but never defined",
        ),
        (("%%step s -o x\n'é'; x = zzz",), "line 2, column 10: `zzz` is used but never defined"),
        (("%%step s -o zzz\nzzz = zzz + 1",), None),
        (("%%step s -o x\nx = (",), "cell 1 (step s), line 2, column 5: the code is not valid Python"),
        (("%%step s -o x\nreturn 1",), "'return' outside function"),
        (("%%step s -o x\nx = 1\nbreak",), "'break' outside loop"),
        (("%%step s -o x\ndef f(a, a): pass\nx = 1",), "duplicate argument 'a'"),
        (("%%step s -o x\nx = dict(a=1, a=2)",), "keyword argument repeated: a"),
        (("%%step s -o x\nx = [(y := 1) for y in 'ab']",), "cannot rebind comprehension iteration variable 'y'"),
        (("%%step s -o x\nx = 1", "%%step s --append\ny = *x"), "cell 2 (step s), line 2"),
        (("%%step s -o x\n%time y = 1\nx = dict(a=1, a=2)",), "keyword argument repeated: a"),
        (("%%step s -o x\nx = 0x" + "f" * 5000,), None),
        (("%%step s -o x\nx = '\ud800'",), "the code is not valid Python"),
        (("%%step s -o x\nx = \x00",), "the code is not valid Python"),
        (("%%step s -o x -p lrr\nx = 1", LR), "cell 1 (step s), line 1, column 18: there is no parameter `lrr`"),
        (
            ("%%step s -o x --when 'lrr > 1'\nx = 1", LR),
            "line 1, column 22: `when` reads `lrr`, which is not a parameter",
        ),
        (("%%step s -o x\n#| when: f(lr)\nx = 1", LR), "line 2, column 10: `f(lr)` cannot stand in `when`"),
        (("%%step s -o x\nx = 1", "%%step s -o y\ny = 1"), "cells 1 and 2 are both called `s`"),
        (("%%step s -o x\nx = 1", "%%step t --append -o y\ny = 1"), "there is no step `t` to continue"),
        (("%%step train -o x\nx = 1", "%%step trian --append -o y\ny = 1"), "Did you mean `train`?"),
        (("%%step s -o x\nx = 1", "%%step s --append -o x\nx = 1"), "`x` is declared twice in step s"),
        (("%%step s -i x=./x -o y\ny = x", "%%step s --append -i x=./x"), "`x` is declared twice in step s"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_its_cure(sources: tuple[str, ...], said: str | None):
    if said is not None:
        assert said in wrong(*sources)
    else:
        assert fine(*sources).errors == ()


def test_every_missing_name_is_told_at_once_in_the_order_of_the_text():
    errors = read("%%step s -o x\nx = zeta + alpha\ny = mid").errors
    assert [error.message[:6] for error in errors] == ["`zeta`", "`alpha", "`mid` "]


def test_an_output_that_nothing_can_bind_is_refused():
    reading = fine("%%step s -o model,plots:dir,log:file.txt\nprint(plots, log)")
    (error,) = unbound_errors(reading)
    assert "no statement of the step binds its output `model`" in str(error)
    assert (error.place.line, error.place.column) == (1, 13)


@pytest.mark.parametrize(
    "body",
    [
        "x = 1",
        "x: int = 1",
        "if f():\n    x = 1",
        "for x in [1]: pass",
        "import os as x",
        "def x(): pass",
        "class x: pass",
        "y, *x = 1, 2",
        "with f() as x: pass",
        "(x := 1)",
        "exec('x = 1')",
        "globals()['x'] = 1",
        "%time x = 1",
        "%run other.py",
        "from os import *",
        "get_ipython().user_ns['x'] = 1",
        "def g():\n    global x\n    x = 1\ng()",
        "try: pass\nexcept E as x: pass",
        "x += 1",
        "x = !ls",
        "[x := 1 for _ in [1]]",
        "match 1:\n    case {'a': 1, **x}: pass",
    ],
)
def test_every_way_to_bind_an_output_counts(body: str):
    reading = read("def f(): pass\nE = 1", f"%%step s -o x\n{body}")
    assert reading.unbound == {}


def test_an_output_may_be_a_parameter_or_a_definition():
    assert code_of(LR, "%%step s -o lr\nprint(1)").parameters == ("lr",)
    assert shared_names(code_of("def f(): pass", "%%step s -o f\nprint(1)")) == ["f"]
    assert fine("%%step a -o df\ndf = 1", "%%step s -i df -o df\nprint(df)").unbound == {}


def test_advice_on_inputs():
    make = "%%step m -o df,other\ndf = other = 1"
    assert messages(make, "%%step s -i df,other -o x\nx = df") == ["the input `other` is not used"]
    assert messages(make, "def f(): return other", "%%step s -i df,other -o x\nx = df, f()") == []
    assert messages(make, "%%step s -i df -o x\n%run x.py\nx = 1") == []
    for change in ("df['a'] = 1", "df.drop('a', inplace=True)", "df.append(1)", "df += 1", "if x: df.pop()"):
        assert messages(make, f"%%step s -i df -o x\nx = df\n{change}") == [
            "the input `df` is changed in place, which no other step sees"
        ]
    assert messages(make, "%%step s -i df=m.df -o df\ndf['a'] = 1") == []
    assert messages(make, "%%step s -i df -o x\ndef f(df): df.append(1)\nx = f(df)") == []


# What does not count

EDITS = st.lists(
    st.sampled_from(["# note\n", "\n", "   # indented note\n", "#\n", "\n\n"]), max_size=4
)  # fmt: skip


@settings(max_examples=60)
@given(
    EDITS,
    EDITS,
    st.integers(0, 2),
    st.sampled_from(["%%step s -o x", "%%step s \\\n -o x", "%%step s\n#| out: x", "#| step: s -o x"]),
)
def test_comments_layout_and_place_never_change_the_code(above: list[str], within: list[str], place: int, header: str):
    base = code_of(LR, "def f(a):\n    return a, LIMIT\nLIMIT = 3", "%%step s -o x\nx = f(lr)\ny = [1, 2]")
    body = f"{''.join(within)}x = f( lr )  # told\n{''.join(above)}y = [\n  1,\n  2,\n]\n"
    others = [LR, f"{''.join(above)}LIMIT = 3  # three", f"def f( a ):\n{''.join(within)}\n    return (a, LIMIT)"]
    reading = fine(*others[:place], f"{header}\n{body}", *others[place:])
    code = reading.code["s"]
    assert code.normal == base.normal
    assert {item.normal for item in code.definitions} == {item.normal for item in base.definitions}
    assert (code.parameters, code.imports) == (base.parameters, base.imports)


@pytest.mark.parametrize(
    "one, other",
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = f(1)", "x = f(a=1)"),
        ("def g():\n    'a'\nx = 1", "def g():\n    'b'\nx = 1"),
        ("x = 1\ny = 2", "y = 2\nx = 1"),
        ("x = 'a'", "x = b'a'"),
        ("print('a')\nx = 1", "print('b')\nx = 1"),
        ("x = 1", "%time x = 1"),
        ("%time x = 1", "%time x = 2"),
        ("!ls a\nx = 1", "!ls b\nx = 1"),
        ("x = 0.0", "x = -0.0"),
        ("x = a + b", "x = b + a"),
    ],
)
def test_every_change_of_the_code_counts(one: str, other: str):
    normals = [code_of("def f(a): pass\na = b = 1", f"%%step s -o x\n{body}").normal for body in (one, other)]
    assert normals[0] != normals[1]


def test_code_that_reads_its_own_text_or_has_magics_is_taken_as_written():
    for body in ("!ls\nx = 1", "import inspect\nx = inspect.getsource(print)", "x = In[0]"):
        one, other = (code_of(f"%%step s -o x\n{body}{note}").normal for note in ("", "  # note"))
        assert one != other
        assert one == code_of(f"%%nbstep s -o x --retries 2\n{body}").normal
    magic = [code_of(f"{header}\n!ls\nx = 1").normal for header in ("%%step s -o x", "%%nbstep s\n#| out: x")]
    assert magic[0] == magic[1]
    helper = "import inspect\ndef f(): return inspect.getsource(f)"
    assert code_of(helper, "%%step s -o x\nx = f()").normal.startswith("raw")


@pytest.mark.parametrize(
    "reader",
    [
        "import inspect\ndef f(): return inspect.getsource(g)",
        "from inspect import getsource as gs\ndef f(): return gs(g)",
        "import sys\ndef f(): return g(), sys._getframe(1).f_lineno",
        "from linecache import getline as line\ndef f(): return g, line('a', 1)",
    ],
)
def test_all_that_code_reaches_counts_as_written_where_it_reads_its_own_text(reader: str):
    def seen(note: str = "", above: str = "", header: str = "%%step s -o x") -> tuple[str, list[str]]:
        code = code_of(reader, f"def g():\n    return 1{note}", f"{header}\n{above}x = f()")
        return code.normal, [item.normal for item in code.definitions]

    normal, definitions = seen()
    assert seen(note="  # a note")[1] != definitions
    for above in ("# a note\n", "\n"):
        assert seen(above=above)[0] != normal
    assert seen(header="%%step s -o x --retries 2") == (normal, definitions)
    assert seen(header="%%step s \\\n -o x") == seen(header="%%step s\n#| out: x")


# Code that lies in other files


@pytest.mark.parametrize(
    "call",
    [
        "importlib.import_module('hm.deep')",
        "import_module('hm.deep')",
        "__import__('hm.deep')",
        "__import__(name='hm.deep')",
    ],
)
def test_a_module_that_is_imported_by_a_call_is_imported(call: str):
    imports = "import importlib\nfrom importlib import import_module"
    assert "hm.deep" in code_of(imports, f"%%step s -o x\nx = {call}").imports
    assert "hm.deep" in code_of(imports, f"def f():\n    return {call}", "%%step s -o x\nx = f()").imports


@pytest.mark.parametrize(
    "line, files",
    [
        ("%run x.py", ("x.py",)),
        ("%run -i lib/x 1 2", ("lib/x.py",)),
        ("%run 'a b.py'", ("a b.py",)),
        ("!python x.py --n 1", ("x.py",)),
        ("!python3 -u -W ignore x.py", ("x.py",)),
        ("!{sys.executable} x.py", ("x.py",)),
        ("out = !bash a.sh && sh b.sh | tee log", ("a.sh", "b.sh")),
        ("if True:\n    !sh ./x.sh", ("./x.sh",)),
        ("!python -c 'print(1)'", ()),
        ("!echo python x.py", ()),
        ("!python --version", ()),
    ],
)
def test_scripts_that_a_step_runs_are_part_of_its_code(line: str, files: tuple[str, ...]):
    code = code_of("import sys", f"%%step s -o x\n{line}\nx = 1")
    assert (code.files, code.warnings) == (files, ())


@pytest.mark.parametrize("line", ["%run $name", "!python {name}", "!cd lib && python x.py", "!bash ~/x.sh"])
def test_a_script_that_cannot_be_told_is_warned_about(line: str):
    code = code_of("name = 'x.py'", f"%%step s -o x\n{line}\nx = 1")
    assert ([warned.code for warned in code.warnings], code.files) == (["hidden-code"], ())


def test_a_module_that_a_step_runs_is_imported():
    for line in ("%run -m hm.cli", "!python -m hm.cli a"):
        assert "hm.cli" in code_of(f"%%step s -o x\n{line}\nx = 1").imports


def test_scripts_that_definitions_run_are_part_of_the_code():
    assert code_of("def f():\n    !python x.py", "%%step s -o x\nx = f()").files == ("x.py",)
    assert code_of("#| shared\n%run x.py", "%%step s -o x\nx = made").files == ("x.py",)


def test_names_may_come_from_a_script_that_is_run_in_the_notebooks_namespace():
    assert fine("%%step s -o x\n%run x.py\nx = made(made_too)").errors == ()
    assert "`made` is used but never defined" in wrong("%%step s -o x\n!python x.py\nx = made")


# Steps over several cells, and defaults


def test_a_step_may_be_written_over_several_cells_in_any_order():
    begin, go_on = "%%step s -i a=./a -o b\nb = a", "%%step s --append -i c=./c -o d\nd = b, c"
    for sources in ((begin, go_on), (go_on, begin)):
        step = fine(*sources).steps[0]
        assert [item.name for item in step.inputs] == ["a", "c"]
        assert [item.name for item in step.outputs] == ["b", "d"]
        assert [piece.cell for piece in step.pieces] == [sources.index(begin) + 1, sources.index(go_on) + 1]
    pipe = fine(
        "#| step: s -o b\nb = 1", "#| step: s --append\n#| out: d\nd = b", "%%nbstep s --append\nd = d + 1"
    ).steps[0]
    assert len(pipe.pieces) == 3


def test_a_step_that_is_written_three_times_is_told_twice():
    errors = read("%%step s -o x\nx = 1", "%%step s -o x\nx = 1", "%%step s -o x\nx = 1").errors
    assert [error.place.cell for error in errors] == [2, 3]


def test_defaults_hold_for_steps_that_say_nothing_else():
    reading = fine(
        "%nbpipe defaults retries=2 timeout=10m reuse=never run=manual",
        "%%step a -o x\nx = 1",
        "%%step b -o y --retries 0\ny = 1",
    )
    one, two = (step.options for step in reading.steps)
    assert (one.retries, one.timeout, one.reuse.value) == (2, 600.0, "never")
    assert (two.retries, two.timeout) == (0, 600.0)
    assert reading.defaults["run"] == "manual"
    later = fine("if True:\n    %nbpipe defaults env=torch", "%%step a -o x\nx = 1").steps[0].options.later
    assert [(key, place.line, place.column) for key, place in later] == [("env", 2, 22)]


@pytest.mark.parametrize(
    "line, said",
    [
        ("%nbpipe defaults retires=2", "line 1, column 18: `retires` cannot be a default"),
        ("%nbpipe defaults retries", "line 1, column 18: `retries` is not KEY=VALUE"),
        ("%nbpipe defaults retries=two", "line 1, column 26: `two` is not a whole number"),
        ("%nbpipe defaults run=later", "line 1, column 22: `later` is none of submit, manual"),
        ("%nbpipe defaults in=x", "line 1, column 18: `in` cannot be a default"),
    ],
)
def test_bad_defaults_are_refused(line: str, said: str):
    assert said in wrong(line, "%%step a -o x\nx = 1")


def test_a_text_that_looks_like_defaults_sets_none():
    assert fine("!ls\ntext = '''\n%nbpipe defaults retries=2\n'''", "%%step a -o x\nx = 1").defaults == {}


@pytest.mark.parametrize(
    "star, name, defined",
    [
        ("from math import *", "sqrt", True),
        ("from math import *", "nowhere", False),
        ("from itertools import *\nfrom collections import *", "Counter", True),
        ("from itertools import *\nfrom collections import *", "Counters", False),
        # Depends on the kernel's environment, or on more than the module's text.
        ("from somewhere import *", "nowhere", True),
        ("from os import *", "nowhere", True),
    ],
)
@pytest.mark.parametrize("in_step", [False, True])
def test_a_star_import_explains_the_names_that_its_module_has(star, name, defined, in_step):
    cells = [f"%%step s -o x\n{star}\nx = {name}"] if in_step else [star, f"%%step s -o x\nx = {name}"]
    assert [type(error) for error in read(*cells).errors] == ([] if defined else [UndeclaredName])


@pytest.mark.parametrize("star", ["from math import *", "from somewhere import *"])
def test_a_star_import_does_not_explain_names_that_the_notebook_binds_elsewhere(star):
    made = "%%step make -o e\ne = 1"
    (error,) = read(star, made, "%%step s -o x\nx = e").errors
    assert error.message == "`e` is an output of `make`, and this step does not declare it"
    (error,) = read(star, "e = open('x')", "%%step s -o x\nx = e").errors
    assert error.message == "`e` is defined in cell 2, which is not part of the pipeline"


def test_a_built_in_name_that_a_cell_below_binds_is_still_python_s():
    cells = ["%%step a -o n\nn = sum([1, 2])", "sum = 0", "for i in [1, 2]:\n    sum += i"]
    assert shared_names(code_of(*cells[:1])) == []
    assert read(*cells).errors == ()
    assert "`sum` is defined in cell 1 and changed in cell 2" in wrong(*cells[1:], cells[0])
