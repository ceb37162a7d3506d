"""Definitions are notebook-wide and order-free: a step gets exactly what it reaches, in an order that works."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cells import cells, code_of, fine, read, shared_names, wrong

from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.language.step_notebook import render_step_notebook

STEP = "%%step train -o result\nresult = [run(3), Model(2).fit(), LIMIT, REGISTRY, table[0], math.pi]"

# Each needs others while it is defined: as base, decorator, default, keyword, annotation, in a class body, when called.
DEFINITIONS = (
    "import math\nimport json as j",
    "from functools import wraps, partial as half",
    "LIMIT = 3",
    "WIDE, TALL = 4, 5",
    "table: list = [1, 2]",
    "REGISTRY = []",
    (
        "def register(f):\n    '''Call at once.'''\n    REGISTRY.append(f(1))\n    @wraps(f)\n"
        "    def inner(*given):\n        return f(*given)\n    return inner"
    ),
    "@register\n@register\ndef run(x, size=WIDE, *, scale=half(int, TALL)):\n    return helper(x) + size + scale()",
    "def helper(x):\n    return other(x) * LIMIT",
    "def other(x):\n    return helper(x - 1) if x > 100 else x",
    (
        "class Meta(type):\n    def __new__(mcs, name, bases, space):\n"
        "        space['made'] = helper(1)\n"
        "        return super().__new__(mcs, name, bases, space)"
    ),
    (
        "class Base(metaclass=Meta):\n    area = WIDE * TALL\n"
        "    sizes = [helper(i) for i in range(LIMIT)]\n    def fit(self):\n"
        "        return self.made + self.area + late()"
    ),
    (
        "class Model(Base):\n    unit: Unit = None\n    best = max(map(helper, [1, 2]))\n"
        "    def __init__(self, n: Unit = LIMIT):\n        self.n = n"
    ),
    "class Unit: ...",
    "def late():\n    return j.loads('1') + LATE",
    "LATE = -1",
)


def shared_source(reading: ParsedNotebook) -> str:
    """Get the rendered cell of shared definitions of the last step."""
    step = reading.steps[-1]
    values = {parameter.name: parameter.default for parameter in reading.parameters}
    notebook = json.loads(render_step_notebook(step, reading.code[step.name], values, None))
    return "\n".join(cell["source"] for cell in notebook["cells"] if cell["metadata"]["nbpipe"]["role"] == "shared")


def executed(reading: ParsedNotebook) -> dict[str, Any]:
    """Get the namespace in which the shared cell and then the step's code have run."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(shared_source(reading), space)  # noqa: S102 - what the step's kernel does
    exec(reading.steps[-1].pieces[0].source, space)  # noqa: S102
    return space


def given_to(reading: ParsedNotebook) -> set[tuple[tuple[str, ...], str]]:
    return {(item.names, item.normal) for item in reading.code["train"].definitions}


@settings(max_examples=40)
@given(st.permutations([*DEFINITIONS, STEP]), st.integers(0, 3))
def test_in_any_order_a_step_gets_the_same_definitions_and_they_run(order: list[str], joined: int):
    """Cells may also be joined into one."""
    sources = [f"{order[index]}\n\n{order[index + 1]}" for index in range(0, joined * 2, 2)] + order[joined * 2 :]
    sources = [part for source in sources for part in (source.split("\n\n") if "%%step" in source else [source])]
    reading = fine(*sources)
    assert given_to(reading) == given_to(fine(*DEFINITIONS, STEP))
    run = executed(reading)
    assert run["result"][:3] == [18, 23, 3]
    assert sorted(run["REGISTRY"]) == [12, 12]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(range(len(DEFINITIONS))), unique=True, max_size=4))
def test_what_a_step_does_not_reach_makes_no_difference(dropped: list[int]):
    step = "%%step train -o result\nresult = helper(3)"
    kept = [text for index, text in enumerate(DEFINITIONS) if index not in dropped or index in (2, 8, 9)]
    assert given_to(fine(*kept, step)) == given_to(fine(*DEFINITIONS, step))
    assert shared_names(fine(*kept, step).code["train"]) == ["LIMIT", "helper", "other"]


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("def f(x):\n    return x", "def f(x):  # note\n\n    # more\n    return (x)", True),
        ("def f(x): return x", "def f(x):\n\treturn x", True),
        ("LIMIT = [1, 2]", "LIMIT = [\n    1,\n    2,  # two\n]", True),
        ("import numpy as np, math", "import math\nimport numpy as np", True),
        ("def f(): return 'a'", 'def f(): return "a"', True),
        ("def f():\n    'old'\n    return 1", "def f():\n    'new'\n    return 1", False),
        ("def f(): return 1", "def f(): return 1.0", False),
        ("def f(x): return x", "def f(x: int): return x", False),
        ("def f(a, b): return a", "def f(b, a): return a", False),
        ("async def f(): pass", "def f(): pass", False),
        ("LIMIT = 1", "LIMIT = True", False),
        ("@a\ndef f(): pass\ndef a(f): return f", "def f(): pass\ndef a(f): return f", False),
    ],
)
def test_only_what_code_does_counts(one: str, other: str, *, same: bool):
    step = "%%step s -o x\nx = [f, LIMIT]"
    filler = "def f(): return 0" if "f(" not in one else "LIMIT = 0" if "LIMIT" not in one else ""
    filler = "LIMIT = 0\ndef f(): return 0" if "import" in one else filler
    step += ", np, math" if "import" in one else ""
    normals = [{item.normal for item in code_of(text, filler, step).definitions} for text in (one, other)]
    assert (normals[0] == normals[1]) is same


def test_a_definition_is_rendered_as_it_is_written():
    source = (
        "import os; LIMIT = 1  # told\n\n# above\n@staticmethod  # why\ndef f(\n"
        "    x,  # given\n):\n    return x, LIMIT"
    )
    texts = {item.names: item.source for item in code_of(source, "%%step s -o x\nx = f(1)").definitions}
    assert texts[("f",)] == "@staticmethod  # why\ndef f(\n    x,  # given\n):\n    return x, LIMIT"
    assert texts[("LIMIT",)] == "LIMIT = 1"


def test_equal_repeats_are_one_and_differing_ones_are_refused_where_they_are_read():
    twice = (
        "import pandas as pd\nLIMIT = 1\ndef f(): return 1",
        "import pandas as pd\nLIMIT = 1  # again\ndef f():\n  return 1",
    )
    assert shared_names(code_of(*twice, "%%step s -o x\nx = [pd, LIMIT, f]")) == ["LIMIT", "f", "pd"]
    differing = ("LIMIT = 1", "LIMIT = 2")
    assert fine(*differing, "%%step s -o x\nx = 1").errors == ()
    assert "`LIMIT` is defined differently in cell 1 and cell 2" in wrong(*differing, "%%step s -o x\nx = LIMIT")
    assert "`f` is defined differently" in wrong("def f(): return 1", "f = 1", "%%step s -o x\nx = f")
    assert "`np` is defined differently" in wrong("import numpy as np", "import numpyro as np", "%%step s -o x\nx = np")


def test_submodules_of_one_package_add_up():
    code = code_of(
        "import os", "import os.path", "import xml.dom\nimport xml.sax", "%%step s -o x\nx = os.path, xml.dom"
    )
    assert {item.source for item in code.definitions} == {
        "import os",
        "import os.path",
        "import xml.dom",
        "import xml.sax",
    }
    assert set(code.imports) == {"os", "os.path", "xml.dom", "xml.sax"}
    assert "defined differently" in wrong("import os.path", "import other as os", "%%step s -o x\nx = os")


@pytest.mark.parametrize(
    "change",
    [
        "LIMIT += 1",
        "LIMIT[0] = 1",
        "LIMIT.append(1)",
        "del LIMIT",
        "del LIMIT[0]",
        "for LIMIT in []: pass",
        "LIMIT = f()",
        "with f() as LIMIT: pass",
        "if 1:\n    LIMIT.x = 1",
        "(LIMIT := 2)",
        "try: LIMIT = g()\nexcept E: pass",
        "LIMIT.x.update(a=1)",
        "%time LIMIT = 5",
        "LIMIT = !ls",
        "%%time\nLIMIT += 1",
        "%%capture out\nLIMIT.clear()",
        "print(LIMIT.pop())",
        "match 1:\n    case LIMIT: pass",
        "[y := 1 for x in LIMIT]; LIMIT[1:] = []",
    ],
)
def test_a_constant_that_another_statement_changes_is_not_shared(change: str):
    for sources in (("LIMIT = [1]", change), (change, "LIMIT = [1]")):
        text = wrong(*sources, "%%step s -o x\nx = LIMIT")
        number = sources.index(change) + 1
        assert f"and changed in cell {number}, line" in text
        assert fine(*sources, "%%step s -o x\nx = 1").errors == ()


@pytest.mark.parametrize(
    "harmless",
    [
        "print(LIMIT)",
        "other = LIMIT",
        "[LIMIT for LIMIT in []]",
        "def f(): LIMIT.append(1)",
        "def f(LIMIT): LIMIT[0] = 1",
        "class C:\n    LIMIT = 2",
        "lambda LIMIT: LIMIT.pop()",
        "other.LIMIT = 1",
        "%matplotlib inline\n%load_ext autoreload",
        "#| local\nLIMIT = 5",
        "%%bash\nLIMIT=4",
        "LIMIT == 3",
        "f(LIMIT=3)",
    ],
)
def test_a_constant_that_is_only_read_is_shared(harmless: str):
    assert shared_names(code_of("LIMIT = [1]", harmless, "%%step s -o x\nx = LIMIT")) == ["LIMIT"]


def test_a_constants_place_of_change_is_told():
    assert "changed in cell 2, line 3: LIMIT[0] = 2" in wrong(
        "LIMIT = [1]", "if True:\n    pass\n    LIMIT[0] = 2", "%%step s -o x\nx = LIMIT"
    )


@pytest.mark.parametrize("other", ["df = load()", "import nothing_like_it as df\ndf = df.load()"])
def test_exploration_is_never_part_of_a_step(other: str):
    assert "df" not in shared_names(read(other, "%%step s -o x\nx = df").code["s"])


def test_code_under_magics_that_run_it_is_read_like_any_other():
    code = code_of(
        "%%time\nimport json\ndf = json.loads('[]')", "%%capture\nLIMIT = 1", "%%step s -o x\nx = [json, LIMIT]"
    )
    assert shared_names(code) == ["LIMIT", "json"]
    assert "cell 1, line 2" in wrong("%%time\nx = (", "%%step s -o x\nx = 1")


def test_a_definition_cell_with_line_magics_is_shared_without_them():
    code = code_of("%load_ext autoreload\nimport json\n!pip list\nobj?\nLIMIT = 1", "%%step s -o x\nx = [json, LIMIT]")
    assert {item.source for item in code.definitions} == {"import json", "LIMIT = 1"}


def test_marks_share_a_whole_cell_or_keep_it_out():
    rows = "seed = compute()\nimport json"
    for source, tag in ((f"#| shared\n{rows}", ""), (rows, "shared")):
        code = code_of(source, "def compute(): return 1", "%%step s -o x\nx = seed", tags={1: tag})
        assert shared_names(code) == ["compute", "json", "seed"]
        assert shared_names(code_of(source, "def compute(): return 1", "%%step s -o x\nx = 1", tags={1: tag})) == []
    for source, tag in (("#| local\nimport json", ""), ("import json", "local")):
        assert "`json` is used but never defined" in wrong(source, "%%step s -o x\nx = json", tags={1: tag})


@pytest.mark.parametrize(
    "source",
    [
        "import m\nm.set(1)",
        "x.y = 1",
        "print(1)",
        "if True:\n    print(1)",
        "m['a'] = 2",
        "LIMIT = 1\nm.configure(LIMIT)",
    ],
)
def test_a_shared_cell_that_does_something_is_given_to_every_step(source: str):
    reading = fine(f"#| shared\n{source}", "m = {}\nx = 1", "%%step s -o y\ny = 1")
    assert any("#| shared" in item.source for item in reading.code["s"].definitions)


def test_shared_cells_run_in_notebook_order_below_what_they_need():
    one, two = ("#| shared\nlog.append(helper(1))", "#| shared\nlog.append(helper(2))")
    reading = fine(one, two, "def helper(x): return x", "log = []", "%%step train -o x\nx = log")
    assert executed(reading)["x"] == [1, 2]


def test_star_imports_are_given_to_steps_that_read_unknown_names():
    code = code_of("from math import *", "from math import *", "%%step s -o x\nx = sqrt(4)")
    assert [item.source for item in code.definitions] == ["from math import *"]
    assert code.imports == ("math",)
    assert code_of("from math import *", "%%step s -o x\nx = 4").definitions == ()
    helper = code_of("from math import *", "def root(x): return sqrt(x)", "%%step s -o x\nx = root(4)")
    assert [item.source for item in helper.definitions] == ["from math import *", "def root(x): return sqrt(x)"]


def test_future_imports_come_first_and_make_annotations_harmless():
    sources = (
        "import json",
        "#| shared\nfrom __future__ import annotations\nfrom __future__ import division\nprint('shared')",
        "def f(x: Missing) -> json.Nothing: return x",
        "%%step train -o result\nresult = f(1)",
    )
    reading = fine(*sources)
    assert all(line.startswith("from __future__") for line in shared_source(reading).splitlines()[1:3])
    assert executed(reading)["result"] == 1
    assert "`Missing` is used but never defined" in wrong("def f(x: Missing): return x", "%%step s -o x\nx = f(1)")


def test_functions_that_share_a_global_share_its_constant():
    reading = fine(
        "COUNT = 0",
        "def up():\n    global COUNT\n    COUNT += 1\n    return COUNT",
        "%%step train -o result\nresult = up()",
    )
    assert executed(reading)["result"] == 1
    lazily = fine(
        "def load():\n    global model\n    model = 1",
        "def use(): return model",
        "%%step train -o result\nload()\nresult = use()",
    )
    assert executed(lazily)["result"] == 1


def test_modules_are_found_wherever_they_are_imported():
    code = code_of(
        "def f():\n    import helpers.deep\n    from pkg import sub, name as other\n    from . import near",
        "#| shared\n!ls\nimport shared_one",
        "%%step s -o x\nimport own\nx = f(), shared_one",
    )
    assert set(code.imports) == {"helpers.deep", "pkg", "pkg.sub", "pkg.name", "shared_one", "own"}


def test_a_cell_that_does_not_compile_is_told_once():
    errors = read("def f(:", "%%step s -o x\nx = 1", "%%step t -o y\ny = 1").errors
    assert [(error.code, error.place.cell, error.place.line) for error in errors] == [("bad-code", 1, 1)]


def test_many_definitions_are_read_in_no_time():
    """A cell of a thousand functions that call one another is read in about a second, not in minutes."""
    source = "\n".join(f"def f{n}(x): return f{n + 1}(x)" for n in range(400)) + "\nf400 = 1"
    reading = parse_cells(cells(source, "%%step s -o x\nx = f0(1)"))
    assert len(reading.code["s"].definitions) == 401


# Numbers longer than Python writes down in decimals

LONG = "0x" + "f" * 5000


@pytest.mark.parametrize("cell", [f"MASK = {LONG}", f"#| shared\nMASK = {LONG}", f"def mask(): return {LONG}"])
def test_a_very_long_number_is_shared_as_it_is_written(cell: str):
    name = "mask" if "def" in cell else "MASK"
    definition = code_of(cell, f"%%step s -o x\nx = {name}").definitions[0]

    assert LONG in definition.source
    assert definition.normal != code_of(cell.replace("0xf", "0xe"), f"%%step s -o x\nx = {name}").definitions[0].normal


def test_a_very_long_number_beside_other_code_is_refused_with_its_cell():
    error = read(f"MASK = {LONG}; WIDE = 1", "%%step s -o x\nx = 1").errors[0]

    assert error.place.cell == 1
    assert "a number that is too long" in error.message


# Definitions that steps use by an attribute

ACCESSOR = "import pandas as pd\n@pd.api.extensions.register_dataframe_accessor('geo')\nclass Geo:\n    rate = RATE"


def test_an_accessor_is_shared_with_the_steps_that_use_its_attribute():
    reading = fine(
        "RATE = 2", ACCESSOR, "%%step a -o x\nx = load().geo.rate", "%%step b -o y\ny = 1", "def load(): return 1"
    )
    assert shared_names(reading.code["a"]) == ["Geo", "RATE", "load", "pd"]
    assert shared_names(reading.code["b"]) == []
    assert reading.warnings == ()


def test_an_accessor_is_shared_with_functions_that_use_its_attribute():
    assert shared_names(code_of("RATE = 2", ACCESSOR, "def f(x): return x.geo.rate", "%%step a -o x\nx = f(1)")) == [
        "Geo", "RATE", "f", "pd",
    ]  # fmt: skip
