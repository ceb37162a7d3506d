"""No component of the reuse key can be left out: each has two situations that nothing else tells apart.

Both situations are real: written into a folder, read, planned and run, so that their results are seen to differ. With
the one component left out of the key, the second would be given the first one's result.
"""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from in_process_executor import InProcess
from sample_pipelines import cells

import nbpipe.planning.fingerprint
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import ComponentKind, KeyComponent, Status
from nbpipe.planning.fingerprint import PinnedInputs, fixed_components, key_of, raw_key_of
from nbpipe.resolve.resolved_request import PipelineRequest, resolve_request
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import execute_run

FINGERPRINT = Path(nbpipe.planning.fingerprint.__file__)
KEYS: Mapping[str, Callable[[Iterable[KeyComponent]], str]] = {"normal form": key_of, "as written": raw_key_of}


@dataclasses.dataclass(frozen=True)
class Scene:
    """A notebook with what lies around it; looked at is its step ``s``."""

    cells: tuple[str, ...]
    parameters: str = ""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environ: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    elsewhere: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_(self, **changes: Any) -> Scene:
        """Get the scene with something changed."""
        return dataclasses.replace(self, **changes)

    def saying(self, old: str, new: str) -> Scene:
        """Get the scene with the cells written otherwise."""
        assert any(old in cell for cell in self.cells)
        return self.with_(cells=tuple(cell.replace(old, new) for cell in self.cells))


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a scene's step ``s`` is made of, and the bytes that it makes."""

    components: tuple[KeyComponent, ...]
    result: Mapping[str, tuple[str, str]]

    def without(self, name: str) -> list[KeyComponent]:
        """Get the components but for one."""
        return [component for component in self.components if component.name != name]


def see(folder: Path, scene: Scene) -> Seen:
    """Write a scene, run it, and look at its step."""
    for name, text in scene.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    reading = parse_cells(cells(*scene.cells, parameters=scene.parameters))
    request = PipelineRequest(str(folder / "work.ipynb"), reading, folder)
    with environment(scene.environ), Workspace.open(folder) as workspace:
        report = execute_run(workspace, request, RunOptions(), executors=InProcess)
        assert report.run.status is Status.SUCCEEDED, [step.failure for step in report.steps]
        found = workspace.plans.plan(request).decisions[step_of(request)].components
        if scene.elsewhere:
            found = tuple(in_circumstances(workspace, request, scene.elsewhere))
    (step,) = (step for step in report.steps if step.step == step_of(request))
    # A result is offered to steps that show only with what it displayed.
    shown = {"(display)": ("display", "")} if reading.steps[-1].options.shows else {}
    return Seen(found, {made.name: (made.format, made.digest) for made in step.artifacts} | shown)


def step_of(request: PipelineRequest) -> str:
    """Get the name of the step to look at: the last one."""
    return request.reading.steps[-1].name


def in_circumstances(
    workspace: Workspace, request: PipelineRequest, changed: Mapping[str, Any]
) -> tuple[KeyComponent, ...]:
    """Get the components that a step has on a machine that is not here."""
    situation = resolve_request(
        request, workspace.layout, os.environ, workspace.context.digests, workspace.context.remote_inputs(os.environ)
    )
    name = step_of(request)
    around: PinnedInputs = dataclasses.replace(situation.circumstances[name], **changed)
    return fixed_components(situation.graph.steps[name], situation.graph.pipeline.code[name], around)


@contextmanager
def environment(changes: Mapping[str, str | None]):
    """Set and unset environment variables for a while."""
    kept = dict(os.environ)
    try:
        for name, value in changes.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def step(code: str, declared: str = "-o x") -> Scene:
    """Get a scene of one step."""
    return Scene((f"%%step s {declared}\n{code}",))


TOLD = step('def f():\n    """Old."""\nx = f.__doc__')
SELF = step("import sys\nx = sys._getframe().f_lineno")
HELPER = Scene(("def f():\n    return LEVEL + 1", "LEVEL = 1", "%%step s -o x\nx = f()"))
ORDERED = Scene(
    ("#| shared\nimport random\nrandom.seed(1)", "#| shared\nimport random as again\nagain.seed(2)",
     "%%step s -o x\nx = random.random() + 0 * again.random()")
)  # fmt: skip
SEEDED = Scene(("import random\nrandom.seed(1)", "%%step s -o x\nx = random.random()"))
TWICE = Scene(("import random\nrandom.seed(1)", "import random\nrandom.seed(2)", SEEDED.cells[1]))
EXACT = Scene(
    ("import decimal\ndecimal.getcontext().prec = 9", "decimal.getcontext().prec = 4",
     "THIRD = decimal.Decimal(1) / 3", "%%step s -o x\nx = str(THIRD)")
)  # fmt: skip
LOCAL = Scene(("import tools", "%%step s -o x\nx = tools.f()"), files={"tools.py": "def f():\n    return 1\n"})
PACKAGE = LOCAL.with_(files={"tools.py": "f = lambda: hasattr(__import__('tools'), '__path__')\n"})
CHAIN = LOCAL.with_(files={"tools.py": "from deep import f\n", "deep.py": "def f():\n    return 1\n"})
RATE = Scene(("%%step s -o x\nx = [type(rate).__name__, str(rate)]",), "rate = 1")
FILE = step("x = [raw.name, raw.read_text()]", "-i raw=./data/one.txt -o x").with_(files={"data/one.txt": "1"})
LOADED = step("x = repr(raw)", "-i raw:json=./data/one.txt -o x").with_(files={"data/one.txt": "1"})
FOLDER = step("x = sorted((p.name, p.read_text()) for p in all.iterdir())", "-i all=./data/ -o x").with_(
    files={"data/a.txt": "1", "data/b.txt": "2"}
)
GLOB = step("x = [(p.name, p.read_text()) for p in all]", "-i all=./data/*.txt -o x").with_(files=FOLDER.files)
FED = Scene(("%%step make -o a\na = 1", "%%step s -i a -o x\nx = a"))
PASSED = Scene(("%%step make -o a:file.txt\na.write_text('1')", "%%step s -i a -o x\nx = a.name"))
READ_AS = Scene(("%%step make -o a:json\na = '1'", "%%step s -i a -o x\nx = type(a).__name__"))
VARIABLE = step("import os\nx = os.environ.get('NBPIPE_MODE')", "--envvar NBPIPE_MODE -o x").with_(
    environ={"NBPIPE_MODE": "one"}
)
LOCALE = step("import os\nx = os.environ.get('LANG')").with_(environ={"LANG": "C.UTF-8"})
CLOCK = step("import time\nx = time.time_ns()", "--salt one -o x")
HASHED = step("from pathlib import Path\nx = Path('conf.txt').read_text()", "--hash ./conf.txt -o x").with_(
    files={"conf.txt": "1"}
)
PYTHON = step("import sys\nx = sys.version").with_(elsewhere={"python": "CPython 3.11.7 linux-x86_64"})
OPTIMISED = PYTHON.with_(elsewhere={"options": ("-O",)})
STRICT = step("x = 1").with_(elsewhere={"packages": ("a==1", "b==1")})

# What differs, the two situations, the one component.
ROWS = {
    "code": (step("x = 1"), step("x = 2"), "code"),
    "code: an operator": (step("x = 3 + 2"), step("x = 3 - 2"), "code"),
    "code: a docstring": (TOLD, TOLD.saying("Old", "New"), "code"),
    "code: its line numbers, where it reads them": (
        SELF, SELF.saying("import sys", "import sys\n# more"), "code",
    ),
    "definition: a function": (HELPER, HELPER.saying("+ 1", "+ 2"), "definition:f"),
    "definition: a constant behind it": (HELPER, HELPER.saying("LEVEL = 1", "LEVEL = 2"), "definition:LEVEL"),
    "definition: a constant's type": (HELPER, HELPER.saying("LEVEL = 1", "LEVEL = 1.0"), "definition:LEVEL"),
    "definition: an import": (
        Scene(("import math as m", "%%step s -o x\nx = m.__name__")),
        Scene(("import cmath as m", "%%step s -o x\nx = m.__name__")), "definition:m",
    ),
    "setting": (SEEDED, SEEDED.saying("seed(1)", "seed(2)"), "setting:random.seed"),
    "shared order: of settings": (TWICE, TWICE.with_(cells=(*TWICE.cells[1::-1], TWICE.cells[2])), "shared order"),
    "shared order: of a setting and a value": (
        EXACT, EXACT.with_(cells=(EXACT.cells[0], *EXACT.cells[2:0:-1], EXACT.cells[3])), "shared order",
    ),
    "shared order": (ORDERED, ORDERED.with_(cells=(*ORDERED.cells[1::-1], ORDERED.cells[2])), "shared order"),
    "module": (LOCAL, LOCAL.with_(files={"tools.py": "def f():\n    return 2\n"}), "module:tools"),
    "module: one behind it": (CHAIN, CHAIN.with_(files={**CHAIN.files, "deep.py": "f = lambda: 2\n"}), "module:deep"),
    "module: a package now": (
        PACKAGE, PACKAGE.with_(files={"tools/__init__.py": PACKAGE.files["tools.py"]}), "module:tools",
    ),
    "parameter": (RATE, RATE.with_(parameters="rate = 2"), "parameter:rate"),
    "parameter: float": (RATE, RATE.with_(parameters="rate = 1.0"), "parameter:rate"),
    "parameter: bool": (RATE, RATE.with_(parameters="rate = True"), "parameter:rate"),
    "parameter: list order": (
        RATE.with_(parameters="rate = [1, 2]"), RATE.with_(parameters="rate = [2, 1]"), "parameter:rate",
    ),
    "input: a file's bytes": (FILE, FILE.with_(files={"data/one.txt": "2"}), "input:raw"),
    "input: a file's name": (FILE, FILE.saying("one", "two").with_(files={"data/two.txt": "1"}), "input:raw"),
    "input: how a file is read": (LOADED, LOADED.saying(":json", ":text"), "input:raw"),
    "input: a file in a folder": (FOLDER, FOLDER.with_(files={**FOLDER.files, "data/b.txt": "3"}), "input:all"),
    "input: a name in a folder": (FOLDER, FOLDER.with_(files={"data/a.txt": "1", "data/c.txt": "2"}), "input:all"),
    "input: one more file in a folder": (FOLDER, FOLDER.with_(files={**FOLDER.files, "data/c": "2"}), "input:all"),
    "input: a folder's own name": (
        step("x = all.name", "-i all=./data/ -o x").with_(files={"data/a": "1"}),
        step("x = all.name", "-i all=./more/ -o x").with_(files={"more/a": "1"}), "input:all",
    ),
    "input: a match more": (GLOB, GLOB.with_(files={**GLOB.files, "data/c.txt": "3"}), "input:all"),
    "input: which names match": (GLOB, GLOB.with_(files={"data/a.txt": "1", "data/c.txt": "2"}), "input:all"),
    "input: what another step makes": (FED, FED.saying("a = 1", "a = 2"), "input:a"),
    "input: how another step stores it": (READ_AS, READ_AS.saying("a:json\na = '1'", "a:bin\na = b'\"1\"'"), "input:a"),
    "input: the name of another step's file": (PASSED, PASSED.saying("file.txt", "file.csv"), "input:a"),
    "outputs: the format": (step("x = '1'", "-o x:json"), step("x = '1'", "-o x:text"), "outputs"),
    "outputs: the name to write to": (
        step("x.write_text(x.name)", "-o x:file.txt"), step("x.write_text(x.name)", "-o x:file.csv"), "outputs",
    ),
    "outputs: one less": (step("x = y = 1", "-o x,y"), step("x = y = 1", "-o x"), "outputs"),
    "python": (PYTHON, PYTHON.with_(elsewhere={"python": "CPython 3.12.1 linux-x86_64"}), "python"),
    "kernel": (OPTIMISED, OPTIMISED.with_(elsewhere={"options": ("-OO",)}), "kernel"),
    "packages": (STRICT, STRICT.with_(elsewhere={"packages": ("a==1", "b==2")}), "packages"),
    "envvar": (VARIABLE, VARIABLE.with_(environ={"NBPIPE_MODE": "two"}), "envvar:NBPIPE_MODE"),
    "envvar: set to nothing": (
        VARIABLE.with_(environ={"NBPIPE_MODE": None}), VARIABLE.with_(environ={"NBPIPE_MODE": ""}),
        "envvar:NBPIPE_MODE",
    ),
    "envvar: the locale": (LOCALE, LOCALE.with_(environ={"LANG": "de_DE.UTF-8"}), "envvar:LANG"),
    "shows": (step("x = 1"), step("x = 1", "-o x --shows true"), "shows"),
    "salt": (CLOCK, CLOCK.saying("one", "two"), "salt"),
    "hash": (HASHED, HASHED.with_(files={"conf.txt": "2"}), "hash:./conf.txt"),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Get a maker of folders that steps run in."""

    def seen(scene: Scene, name: str) -> Seen:
        folder = tmp_path / name / "work"
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        return see(folder, scene)

    return seen


@pytest.mark.parametrize("before, after, name", ROWS.values(), ids=ROWS)
def test_without_this_component_a_false_result_would_be_reused(here, before, after, name):
    """The results differ, one component differs, and without that one the keys would be the same."""
    one, other = here(before, "one"), here(after, "other")

    assert one.result != other.result or before.elsewhere, "this row would be no false reuse"
    for key in KEYS.values():
        assert key(one.components) != key(other.components)
        assert key(one.without(name)) == key(other.without(name))


def kinds_of_components() -> set[str]:
    """Get the kinds of components that the fingerprint can hold, as its source names them."""
    calls = (node for node in ast.walk(ast.parse(FINGERPRINT.read_text())) if isinstance(node, ast.Call))
    named = [
        call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("_component", "_code")
    ]
    attributes = [node for argument in named for node in ast.walk(argument) if isinstance(node, ast.Attribute)]
    return {ComponentKind[node.attr].value for node in attributes if ast.unparse(node.value) == "ComponentKind"}


def test_every_kind_of_component_has_a_row():
    """Whoever adds a component to the key adds a scene that needs it."""
    tried = {name.partition(":")[0] for _, _, name in ROWS.values()}

    assert tried == kinds_of_components()


SAME = {
    "the step's name": (FED, FED.saying("step s", "step t")),
    "a producer's name": (FED, FED.saying("step make", "step produce")),
    "a producer's code": (FED, FED.saying("a = 1", "a = 3 - 2")),
    "places of cells": (HELPER, HELPER.with_(cells=HELPER.cells[::-1])),
    "a remark above the step": (step("x = 1"), Scene(("# remark", *step("x = 1").cells))),
    "other cells": (HELPER, HELPER.with_(cells=("print(1)", *HELPER.cells))),
    "an unused function": (HELPER, HELPER.with_(cells=("def g():\n    return 1", *HELPER.cells))),
    "retries": (step("x = 1"), step("x = 1", "--retries 3 -o x")),
    "timeout": (step("x = 1"), step("x = 1", "--timeout 2h -o x")),
    "after": (FED, FED.saying("-i a", "-i a --after make")),
    "reuse": (step("x = 1"), step("x = 1", "--reuse never -o x")),
    "when": (RATE, RATE.saying("-o x", '--when "rate > 0" -o x')),
    "a destination": (step("x = 1", "-o x:json"), step("x = 1", "-o x:json=./out.json")),
    "the form of the declaration": (step("x = 1"), Scene(("#| step: s\n#| out: x\nx = 1",))),
    "an unread parameter": (RATE.with_(parameters="rate = 1\nn = 1"), RATE.with_(parameters="rate = 1\nn = 2")),
    "the order of a dict": (
        RATE.with_(parameters="rate = {'a': 1, 'b': 2}"), RATE.with_(parameters="rate = {'b': 2, 'a': 1}"),
    ),
    "where a file lies": (FILE, FILE.saying("data", "more").with_(files={"more/one.txt": "1"})),
    "the name of a file that is loaded": (LOADED, LOADED.saying("one", "two").with_(files={"data/two.txt": "1"})),
    "a file beside the matches": (GLOB, GLOB.with_(files={**GLOB.files, "data/c.dat": "1"})),
    "the name of an output that is loaded": (
        FED.saying("-i a", "-i a=make.a"), FED.saying("a\na = 1", "b\nb = 1").saying("-i a", "-i a=make.b"),
    ),
    "an undeclared variable": (VARIABLE, VARIABLE.with_(environ={**VARIABLE.environ, "NBPIPE_OTHER": "1"})),
    "a module that nobody imports": (LOCAL, LOCAL.with_(files={**LOCAL.files, "more.py": "x = 1"})),
}  # fmt: skip


@pytest.mark.parametrize("before, after", SAME.values(), ids=SAME)
def test_what_has_no_part_in_a_result_leaves_both_keys_alone(here, before, after):
    """The same result, and the same key: nothing runs in vain."""
    one, other = here(before, "one"), here(after, "other")

    assert one.result == other.result or "rate" in before.parameters
    for key in KEYS.values():
        assert key(one.components) == key(other.components)


WRITTEN_OTHERWISE = {
    "a comment": (step("x = 1"), step("# why\nx = 1  # because")),
    "layout": (step("x = 1 + 2"), step("x = (\n    1+2\n)")),
    "a blank line": (step("x = 1"), step("\n\nx = 1\n")),
    "a comment in a helper": (HELPER, HELPER.saying("    return", "    # why\n    return")),
    "a comment in a module": (LOCAL, LOCAL.with_(files={"tools.py": "# why\ndef f():\n    return 1"})),
    "a cell more": (
        step("x = 1\ny = 2", "-o x,y"), Scene(("%%step s -o x\nx = 1", "%%step s --append -o y\n# more\ny = 2")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("before, after", WRITTEN_OTHERWISE.values(), ids=WRITTEN_OTHERWISE)
def test_how_code_is_written_leaves_the_first_key_alone(here, before, after):
    """The second key is for code that is written the same."""
    one, other = here(before, "one"), here(after, "other")

    assert one.result == other.result
    assert key_of(one.components) == key_of(other.components)


def test_a_file_that_is_touched_leaves_the_keys_alone(here, tmp_path):
    """Times and rights are no content."""
    one = here(FILE, "one")
    touched = tmp_path / "one" / "work" / "data" / "one.txt"
    touched.chmod(0o600)
    os.utime(touched, (1, 1))

    other = see(tmp_path / "one" / "work", FILE.with_(files={}))
    assert [key(one.components) for key in KEYS.values()] == [key(other.components) for key in KEYS.values()]
