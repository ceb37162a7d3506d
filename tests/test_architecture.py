"""The house stays a house: floors, sizes, light imports, honest errors, complete documentation."""

from __future__ import annotations

import ast
import json
import pickle
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from notebook_author import Author

import nbpipe
from nbpipe import errors
from nbpipe.entry_points import load_entry_point
from nbpipe.errors import NbpipeError, Refusals, Refused, SourceLocation
from nbpipe.execution.attempt.runtime_bundle import write_bundle
from nbpipe.verbs.table import VERBS
from nbpipe.workspace.context import WorkspaceContext

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "nbpipe"

HEAVY = (
    "IPython", "dask", "distributed", "fsspec", "ipykernel", "jsonschema", "jupyter_client", "matplotlib", "nbclient",
    "nbformat", "numpy", "pandas", "papermill", "polars", "pyarrow", "sklearn",
)  # fmt: skip

NO_NOUN = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc"}

PURE = ("language", "planning", "proposal", "views")

# What would let a pure floor read a clock, a disk, the environment, a network or chance.
EFFECTS = {
    "asyncio", "datetime", "glob", "multiprocessing", "os", "pathlib.Path", "random", "secrets", "shutil",
    "signal", "socket", "subprocess", "tempfile", "threading", "time", "urllib.request", "uuid",
}  # fmt: skip

READS_FILES = {"nbpipe.language.notebook_file"}

FORBIDDEN_CALLS = re.compile(
    r"^(eval|exec|os\.(system|popen)|subprocess\.(getoutput|getstatusoutput)|"
    r"(pickle|cloudpickle|marshal|dill|joblib)\.(load|loads|Unpickler)|pickles\.Reader|yaml\.(load|unsafe_load))$"
)

ALLOWED_CALLS = {
    # Data are unpickled in one place, which only a step's kernel and the author's own call.
    "nbpipe.data.formats": {
        "pickle.load",
        "pickle.loads",
        "cloudpickle.load",
        "cloudpickle.loads",
        "pickles.NotebookUnpickler",
    },
    # A frozen local module is executed by its import loader.
    "nbpipe.execution.kernel_runtime.step_runtime": {"exec"},
}

# What only a worker, a kernel or papermill loads, which have those libraries loaded already.
FACES_OF_OTHERS = ("nbpipe.execution", "nbpipe.magics", "nbpipe.papermill_engine")

# Loaded by its name when a cluster starts, and by its worker process.
CLUSTER_ONLY = ("nbpipe.compute.httpless_nodes",)

ENTRY_POINT = re.compile(r"nbpipe(\.\w+)+:\w+")

# Nobody imports the worker's wing, and one module names its entry points.
NAMES_WORKER = ("nbpipe.compute.worker_entry_points",)

_RUNNING = (
    "nbpipe.compute.dask_executor", "nbpipe.compute.local_cluster", "nbpipe.planning.run_state",
    "nbpipe.planning.execution_graph", "nbpipe.planning.tries", "nbpipe.planning.stimuli",
    "nbpipe.planning.instructions", "nbpipe.run.driver", "nbpipe.run.attempt_control", "nbpipe.run.carried_run",
    "nbpipe.run.execution_decider", "nbpipe.run.job_factory", "nbpipe.run.messages",
    "nbpipe.run.run_watcher", "nbpipe.run.runner_client", "nbpipe.run.submission", "nbpipe.workspace.run_",
    "nbpipe.verbs.run_", "nbpipe.cli.run_progress", "nbpipe.cli.run_rendering",
)  # fmt: skip
_CHECKING = (
    "nbpipe.history.inspection", "nbpipe.history.salvage", "nbpipe.history.rebuild_archive", "nbpipe.run.archive_files",
    "nbpipe.run.result_recovery", "nbpipe.run.verification", "nbpipe.run.workspace_repair", "nbpipe.workspace.trust",
    "nbpipe.workspace.verification", "nbpipe.verbs.verification_calls",
)  # fmt: skip
_WRITING = (
    "nbpipe.authoring", "nbpipe.data.job_file", "nbpipe.data.postmortem", "nbpipe.language.declaration_formatter",
    "nbpipe.language.notebook_text_edits", "nbpipe.language.quick_fix", "nbpipe.verbs.authoring_calls",
    "nbpipe.verbs.debug_calls",
)  # fmt: skip
_COMPARING = ("nbpipe.views.run_comparison", "nbpipe.verbs.comparison_calls")
_PARSING = (
    "nbpipe.language.definitions", "nbpipe.language.directives", "nbpipe.language.name_analysis",
    "nbpipe.language.notebook_parser", "nbpipe.language.step_analysis", "nbpipe.workspace.notebook_traits",
)  # fmt: skip
_TELLING = ("nbpipe.cli.completion", "nbpipe.language.completion", "nbpipe.verbs.completion", "nbpipe.verbs.usage")
_OTHERS = (*_RUNNING, *_CHECKING, *_WRITING, *_COMPARING, *_PARSING, *_TELLING)

# What a shell that calls a verb for an unchanged notebook does not wait for.
NOT_LOADED = {
    "plan": (*_OTHERS, "nbpipe.verbs.recorded_run_calls", "nbpipe.verbs.result_calls", "nbpipe.views.html"),
    "status": (*_OTHERS, "nbpipe.verbs.plan_calls", "nbpipe.verbs.result_calls", "nbpipe.views.html"),
    "why": _OTHERS,
    "logs": (*_OTHERS, "nbpipe.verbs.plan_calls", "nbpipe.views.html"),
}

# Where an exception of any kind is turned into a value: the borders of the house.
BORDERS = {
    "nbpipe.data.postmortem",  # of a step that has failed: an author's classes raise whatever they like when shown
    "nbpipe.data.formats",  # writers: libraries and the author's own classes raise whatever they like
    # A step's kernel: what breaks it in a cell is the answer to whoever asked for the cell.
    "nbpipe.execution.output_limits.output_limiter",
    "nbpipe.execution.attempt.attempt_runner",  # the worker: a surprise of ours becomes a lost attempt
    "nbpipe.language.notebook_file",  # nbformat raises whatever it meets in an old or broken notebook
    "nbpipe.language.text_notebook",  # jupytext raises whatever its parsers meet in a header or a cell
    "nbpipe.magics",  # the author's kernel
    "nbpipe.magics.cell_run",  # its thread: what is raised there is raised again in the cell that waits
    "nbpipe.papermill_engine.notebook_run",  # its thread: what is raised there is raised again where papermill sees it
    "nbpipe.run.attempt_control",  # the executor's loop
    "nbpipe.runner.service",  # its threads: the client that submitted a run is told what broke it off
}


def name_of(path: Path) -> str:
    """Get the dotted name of a module of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
FUNCTIONS = [
    (f"{module}.{node.name}", node.end_lineno - node.lineno + 1)
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
]


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Get what import statements name: ``a.b`` for ``import a.b``, ``a`` and ``a.b`` for ``from a import b``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Get everything that stands inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from ast.walk(node)


def loaded_by(statement: str) -> set[str]:
    """Get the names of the modules that a fresh interpreter has after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import nbpipe", "import nbpipe.cli", "import nbpipe.__main__"])
def test_imports_are_light(statement):
    """Whoever asks for help, a version or a completion waits for no heavy library."""
    loaded = loaded_by(statement)

    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["run", "--help"], ["nbpipe", "ru", "nbpipe"]])
def test_what_only_tells_something_loads_no_database(words):
    """The version, help and completion load neither the history nor what a verb calls."""
    completing = (
        "import os; os.environ |= {'COMP_LINE': 'nbpipe ru', 'COMP_POINT': '9'}; " if words[0] == "nbpipe" else ""
    )
    program = f"{completing}import contextlib, io; from nbpipe.cli.command import outcome; out = io.StringIO()\n"
    program += f"with contextlib.redirect_stdout(out): assert outcome({words}) == 0\nassert out.getvalue()"
    loaded = loaded_by(f"exec({program!r})")

    assert {"sqlalchemy", "msgspec", "nbpipe.history", "nbpipe.verbs.verb_call"} & loaded == set()
    assert [name for name in loaded if name.startswith("nbpipe.verbs.") and name.endswith("_calls")] == []


def test_the_bare_package_loads_nothing_of_its_own():
    """``import nbpipe`` is one module: its gates open on use."""
    loaded = loaded_by("import nbpipe")

    assert {name for name in loaded if name.split(".")[0] == "nbpipe"} == {"nbpipe"}


def test_importing_any_module_never_loads_the_heaviest_libraries():
    """A floor can be read by a program that runs nothing: heavy libraries load on use, but for the worker's wing."""
    floors = [name for name in MODULES if not name.startswith((*FACES_OF_OTHERS, *CLUSTER_ONLY))]
    loaded = loaded_by(f"import {', '.join(floors)}")

    assert {"papermill", "nbclient", "distributed", "pyarrow", "pandas"} & loaded == set()


def test_exported_names_are_those_of_all():
    """What ``dir`` shows, what ``__all__`` promises and what can be fetched are the same."""
    assert sorted(nbpipe.__all__) == dir(nbpipe)
    assert all(getattr(nbpipe, name) for name in nbpipe.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nbpipe.nothing  # noqa: B018 - looking it up is what is tried


def test_there_are_no_import_rings():
    """Modules can be ordered so that each imports only earlier ones."""
    graph = {
        module: {name for name in imported(ast.walk(tree)) if name in MODULES and name != module}
        for module, tree in TREES.items()
    }

    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


def test_own_modules_are_imported_at_the_top():
    """An import inside a function would hide a ring: the late gates go by mapping literals and importlib."""
    hidden = {
        (module, name)
        for module, tree in TREES.items()
        for name in imported(within_functions(tree))
        if name.split(".")[0] == "nbpipe"
    }

    assert hidden == set()


def contracts() -> list[dict[str, Any]]:
    """Get the contracts about imports."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = config["tool"]["importlinter"]["contracts"]
    return found


def entry_points() -> Iterator[tuple[str, str]]:
    """Get each module of the package with the entry points that it names."""
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ENTRY_POINT.fullmatch(node.value):
                yield module, node.value


ENTRY_POINTS = sorted(set(entry_points()))


@pytest.mark.parametrize("name", sorted({name for _, name in ENTRY_POINTS}))
def test_every_entry_point_exists(name):
    """A function that is named in a string is there when its module is loaded at last."""
    assert callable(load_entry_point(name))


def test_entry_points_obey_the_floors():
    """What a module names in a string it might have imported: only the worker's wing is reached by name alone."""
    (floors,) = [contract["layers"] for contract in contracts() if contract["type"] == "layers"]
    height = {room: -place for place, floor in enumerate(floors) for room in floor.split(" | ")}
    named = [(module, name.partition(":")[0]) for module, name in ENTRY_POINTS if module not in NAMES_WORKER]
    rooms = {(module.split(".")[1], target.split(".")[1]) for module, target in named}

    assert {(room, target) for room, target in rooms if room != target and height[room] <= height[target]} == set()
    for contract in contracts():
        if contract["type"] == "forbidden":
            sources = tuple(f"{source}." for source in contract["source_modules"])
            targets = tuple(f"{target}." for target in contract["forbidden_modules"])
            crossing = [pair for pair in named if pair[0].startswith(sources) and pair[1].startswith(targets)]
            assert crossing == [], contract["name"]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Return a notebook whose only step has been executed, and which is in the cache of parsed notebooks."""
    # Young source is not trusted to be the code that was loaded, so nothing that it parses is cached.
    newest = max(path.stat().st_mtime for path in MODULES.values())
    time.sleep(max(0.0, newest + 11 - time.time()))
    author = Author(tmp_path_factory.mktemp("project"), "%%step make -o a:json\nprint('making')\na = 1")
    assert author.run() == {"make"}
    return author.write()


@pytest.mark.kernel
@pytest.mark.parametrize("verb", sorted(NOT_LOADED))
def test_a_verb_loads_only_what_it_needs(verb, notebook):
    """A shell waits for each module that a verb loads: reading loads nothing that runs, checks or repairs."""
    words = [verb, str(notebook), *(["make"] if verb in ("why", "logs") else [])]
    program = "import contextlib, io; from nbpipe.cli.command import outcome; out = io.StringIO()\n"
    program += f"with contextlib.redirect_stdout(out): assert outcome({words}) == 0\nassert out.getvalue()"
    loaded = loaded_by(f"exec({program!r})")

    assert [name for name in sorted(loaded) if name.startswith(NOT_LOADED[verb])] == []


def test_the_contracts_have_no_exceptions():
    """An ignored import in a contract is the first crack."""
    assert [contract["name"] for contract in contracts() if "ignore_imports" in contract] == []


@pytest.mark.parametrize("floor", PURE)
def test_pure_floors_have_no_effects(floor):
    """Times, ids and bytes are handed to the heart of nbpipe, so it is tested without any service."""
    found = {
        (module, name)
        for module, tree in TREES.items()
        if module.startswith(f"nbpipe.{floor}") and module not in READS_FILES
        for name in imported(ast.walk(tree))
        if name in EFFECTS or name.split(".")[0] in EFFECTS
    }
    opened = {
        module
        for module, tree in TREES.items()
        if module.startswith(f"nbpipe.{floor}") and module not in READS_FILES and "open" in calls(tree)
    }

    assert (found, opened) == (set(), set())


def test_faces_do_not_reach_past_the_workspace():
    """What they need of its history, stores and caches is a method of the workspace or of one of its services."""
    faces = tuple(f"nbpipe.{name}" for name in ("cli", "magics", "papermill_engine", "runner", "verbs", "widget"))
    reached = {
        (module, ast.unparse(node))
        for module, tree in TREES.items()
        if module.startswith(faces)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in dir(WorkspaceContext)
        if ast.unparse(node.value).endswith(".context")
    }

    assert reached == set()


def calls(tree: ast.AST) -> set[str]:
    """Get the dotted names of all that is called."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_the_kernel_side_needs_only_the_standard_library(tmp_path):
    """A step's environment needs ipykernel and what the step uses: what is shipped loads without site-packages."""
    bundle = write_bundle(tmp_path)
    program = (
        "import sys; exec(sys.argv[1]); import nbpipe.execution.kernel_runtime.step_runtime as it; print(it.__file__)"
    )
    command = [sys.executable, "-I", "-S", "-c", program, bundle.loading]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.stderr == ""
    assert Path(done.stdout.strip()).is_relative_to(bundle.path)


def test_in_the_wing_only_the_kernel_side_knows_ipython():
    """A worker starts kernels; only what runs inside one may ask for its shell."""
    found = {
        module
        for module, tree in TREES.items()
        if module.startswith("nbpipe.execution.") and module != "nbpipe.execution.kernel_runtime.step_runtime"
        for name in imported(ast.walk(tree))
        if name.split(".")[0] == "IPython"
    }

    assert found == set()


def test_modules_are_nouns():
    """A file answers one question, and its name is that noun."""
    assert [name for name in MODULES if NO_NOUN & set(name.split("."))] == []


def test_every_module_says_what_it_is_for():
    """The first line of a file tells whether it is the one to read."""
    scripts = [*MODULES.values(), *sorted((ROOT / "tests").glob("*.py")), ROOT / "dev.py"]

    assert [str(path) for path in scripts if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_files_are_short():
    """Nobody reads a file of 500 lines; most have at most 200."""
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}

    assert {name: length for name, length in lengths.items() if length > 500} == {}
    assert median(lengths.values()) <= 200


def test_functions_are_short():
    """A function fits on a screen; most fit into ten lines."""
    assert {name: length for name, length in FUNCTIONS if length > 40} == {}
    assert median(length for _, length in FUNCTIONS) <= 10


def test_nothing_is_left_for_later():
    """What is unfinished is an issue, not a remark in the code."""
    word = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
    texts = [*MODULES.values(), *(ROOT / "tests").glob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]

    assert [str(path) for path in texts if word.search(path.read_text(encoding="utf-8"))] == []


def test_no_call_hands_text_to_an_interpreter():
    """A notebook's name, a parameter or a stored file never becomes code, a shell command or a pickle by accident."""
    found = {
        (module, call)
        for module, tree in TREES.items()
        for call in calls(tree)
        if FORBIDDEN_CALLS.match(call) and call not in ALLOWED_CALLS.get(module, set())
    }
    shells = {
        (module, node.lineno)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    }

    assert (found, shells) == (set(), set())


def test_any_exception_is_caught_only_at_the_borders():
    """Elsewhere a surprise must be seen, not swallowed."""
    broad = {
        (module, node.lineno)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (module not in BORDERS and is_broad(node.type)))
    }

    assert broad == set()


def is_broad(type_: ast.expr) -> bool:
    """Say whether an except clause takes everything."""
    return {"Exception", "BaseException"} & {node.id for node in ast.walk(type_) if isinstance(node, ast.Name)} != set()


def error_classes(of: type[NbpipeError] = NbpipeError) -> Iterator[type[NbpipeError]]:
    """Get an error class and all below it that nbpipe.errors defines."""
    yield of
    for child in of.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_classes(child)


ERRORS = sorted(set(error_classes()), key=lambda kind: kind.__name__)


def example(kind: type[NbpipeError]) -> NbpipeError:
    """Make an error with everything in it."""
    if issubclass(kind, Refusals):
        return Refusals((example(Refused), example(Refused)))
    return kind("`a` is “odd”", "Write `b`.", SourceLocation(cell=3, line=2, column=1, step="train"))


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_cross_processes_whole(kind):
    """An error pickled on a worker says the same here, and so does its JSON."""
    error = example(kind)
    back = pickle.loads(pickle.dumps(error))

    assert type(back) is kind
    assert (str(back), back.to_json()) == (str(error), error.to_json())
    assert json.loads(json.dumps(error.to_json())) == error.to_json()
    assert [str(part) for part in getattr(back, "errors", ())] == [str(part) for part in getattr(error, "errors", ())]


def test_the_error_tree_is_drawn():
    """The docstring of nbpipe.errors shows every class, with the exit code that it leads to."""
    assert [kind.__name__ for kind in ERRORS if kind.__name__ not in (errors.__doc__ or "")] == []
    assert {kind.exit_code for kind in ERRORS} == {1, 2, 3}


def documentation() -> str:
    """Get all that a person can read: README, docs and the notebooks' own text."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    cells = [
        "".join(cell["source"])
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]
    return "\n".join([*(page.read_text(encoding="utf-8") for page in pages), *cells])


def test_every_error_code_is_documented():
    """Whoever meets an error's code in a log finds it in the documentation."""
    text = documentation()

    assert [kind.code for kind in ERRORS if f"`{kind.code}`" not in text] == []


def test_every_verb_and_option_is_documented():
    """What the verbs take is found in the documentation."""
    text = documentation()
    options = {option.name for verb in VERBS for option in verb.options}

    assert [verb.name for verb in VERBS if f"nbpipe {verb.name}" not in text] == []
    assert [option for option in sorted(options) if option not in text] == []


def test_the_commands_of_the_readme_exist():
    """What the README asks a newcomer to type is what dev.py takes; anything else shows its usage."""
    words = set(re.findall(r"python3 dev\.py (\w+)", documentation()))
    command = [sys.executable, str(ROOT / "dev.py"), "nonsense"]
    asked = subprocess.run(command, check=False, capture_output=True, text=True)

    assert words == {"quickstart", "test", "check"}
    assert asked.returncode == 2
    assert all(f"dev.py {word} " in asked.stderr for word in words)


def test_continuous_integration_runs_the_readme_commands():
    """What must be green before anything lands is what everybody can run."""
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & 0o111
    assert {"dev.py test", "dev.py check"} <= set(re.findall(r"dev\.py \w+", script.read_text(encoding="utf-8")))
