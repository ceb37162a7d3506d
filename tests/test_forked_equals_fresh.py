"""A forked kernel equals a fresh one in all that a program can read, for every library that is loaded ahead."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sample_jobs import job

from nbpipe.compute.environments import kernel_environment
from nbpipe.execution.attempt.attempt_runner import run_attempt
from nbpipe.execution.kernels import standby_kernel
from nbpipe.execution.kernels.zygote_pool import FORK_SAFE

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(sys.platform != "linux", reason="zygotes are Linux's")]

# A module of each library that loads most of it.
MODULES = {"matplotlib": "matplotlib.pyplot", "PIL": "PIL.Image", "pyarrow": "pyarrow.parquet", "scipy": "scipy.stats",
           "sklearn": "sklearn.ensemble"}  # fmt: skip
# What a loop over a set of functions leaves behind: their order depends on their addresses in memory.
LAST_OF_A_SET = (("scipy.sparse._data", "name"),)
READ = r"""
import decimal, gc, locale, logging, multiprocessing, os, re, resource, signal, sys, tempfile, threading, types, warnings
import asyncio

def plain(value, depth=0):
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return re.sub(r" at 0x\w+", "", repr(value)[:300])
    if depth < 4 and type(value) in (list, tuple):
        return [plain(each, depth + 1) for each in value[:100]]
    if depth < 4 and isinstance(value, dict) and "__import__" not in value:
        return sorted([plain(key, 4), plain(each, depth + 1)] for key, each in list(value.items())[:300])
    return repr(type(value))

names = ("__spec__", "__loader__", "__file__", "__cached__", "__path__", "__doc__", "__builtins__")
told = {
    "modules": {
        name: {key: plain(value) for key, value in vars(module).items() if key not in names}
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] == LIBRARY and isinstance(module, types.ModuleType)
    },
    "variables": {name: value for name, value in os.environ.items() if name not in OTHERS},
    "type of environ": str(type(os.environ)),
    "filters": [str(each) for each in warnings.filters],
    "loggers": {name: [logger.level, logger.propagate, [str(type(each)) for each in logger.handlers]]
                for name, logger in sorted(logging.root.manager.loggerDict.items()) if isinstance(logger, logging.Logger)
                and not name.startswith(("ipykernel", "asyncio", "parso"))},
    "root": [logging.root.level, len(logging.root.handlers), 0 < logging.LogRecord("", 1, "", 1, "", (), None).relativeCreated < 60_000],
    "signals": [str(signal.getsignal(number)).split(" at ")[0] for number in signal.valid_signals()],
    "threads": sorted(type(each).__name__ for each in threading.enumerate()),
    "native": len([1 for each in os.listdir("/proc/self/task")
                   if "jemalloc" not in open(f"/proc/self/task/{each}/comm").read()]),
    "streams": [str(type(each)) for each in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__)],
    "terminals": [sys.stdin.isatty(), sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.errors, sys.stdout.name],
    "hooks": [str(each).split(" at ")[0] for each in (sys.excepthook, sys.displayhook, sys.unraisablehook)],
    "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding()],
    "flags": [str(sys.flags), sys.getrecursionlimit(), sys.getswitchinterval(), len(sys.argv), len(sys.orig_argv)],
    "path": sys.path,
    "collector": [gc.isenabled(), gc.get_threshold()],
    "limits": [resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if "RLIMIT" in name],
    "places": [os.getcwd(), tempfile.gettempdir(), multiprocessing.process.ORIGINAL_DIR],
    "decimal": str(decimal.getcontext()),
    "policies": [type(asyncio.get_event_loop_policy()).__name__, multiprocessing.get_start_method(allow_none=True)],
    "main": sorted(vars(sys.modules["__main__"])),
    "callbacks": {name: len(each) for name, each in get_ipython().events.callbacks.items()},
    "printers": sorted(str(kind) for each in get_ipython().display_formatter.formatters.values() for kind in each.type_printers),
    "mask": os.umask(0o77),
}
"""  # noqa: E501  # the code of a step
OTHERS = ("JPY_PARENT_PID", "PYDEVD_USE_FRAME_EVAL", "NBPIPE_RECORDS")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    standby_kernel.retire_kernels()
    yield
    standby_kernel.retire_kernels()


class Steps:
    """Runs steps in forked and in fresh kernels, and gets what each leaves in ``told``."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        self._count = 0

    def __call__(self, code: str, preload: tuple[str, ...], *, fresh: bool = False, **env: str) -> dict[str, Any]:
        self._count += 1
        target = self.folder / f"told{self._count}.json"
        ending = f"\nimport json\n_ = open({str(target)!r}, 'w').write(json.dumps(told))"
        given = {**kernel_environment(os.environ, ()), **env}
        asked = job(self.folder, textwrap.dedent(code) + ending, name=f"a{self._count}", env=given)
        with self._patch.context() as patch:
            if fresh:
                patch.setenv("NBPIPE_KERNELS", "fresh")
            outcome = run_attempt(dataclasses.replace(asked, preload=preload))
        assert outcome.failure is None, outcome.failure
        told: dict[str, Any] = json.loads(target.read_text())
        target.unlink()
        return told

    def load(self, module: str, preload: tuple[str, ...], **env: str) -> None:
        """Return when kernels come with a module loaded."""
        ends = time.monotonic() + 60
        while not self(f"import sys; told = {{'is': {module!r} in sys.modules}}", preload, **env)["is"]:
            assert time.monotonic() < ends

    def both(self, code: str, preload: tuple[str, ...], **env: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Get what a forked kernel and a fresh one tell; the library is loaded ahead of the forked one."""
        self.load(preload[-1], preload, **env)
        return self(code, preload, **env), self(code, preload, fresh=True, **env)


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(tmp_path, monkeypatch)


def library(folder: Path, source: str, name: str = "scipy") -> dict[str, str]:
    """Write a library that may be loaded ahead, by its name, and get the variables to find it."""
    (folder / "lib" / name).mkdir(parents=True, exist_ok=True)
    (folder / "lib" / name / "__init__.py").write_text(textwrap.dedent(source))
    return {"PYTHONPATH": str(folder / "lib")}


def same_process(told: dict[str, Any]) -> str:
    """Get what was told as text, without what no two processes share."""
    return re.sub(r"nbk\d+-\w+|joblib-\d+-\w+|Session key \w+", "", json.dumps(told, indent=1, sort_keys=True))


@pytest.mark.parametrize("name", sorted(FORK_SAFE))
def test_all_that_a_program_can_read_of_a_library_and_its_process(steps: Steps, name: str) -> None:
    module = MODULES.get(name, name)
    code = f"import {module}\nLIBRARY, OTHERS = {name!r}, {OTHERS!r}\n" + READ
    forked, fresh = steps.both(code, (module,))
    assert fresh["modules"]
    for told in (forked, fresh):
        for part, key in LAST_OF_A_SET:
            told["modules"].get(part, {}).pop(key, None)
    # Others may have been loaded for another step; none is missing.
    assert fresh["modules"].keys() == forked["modules"].keys()
    assert same_process(forked).splitlines() == same_process(fresh).splitlines()


def test_a_wide_table_is_printed_as_in_a_kernel(steps: Steps) -> None:
    code = """
        import pandas as pd
        frame = pd.DataFrame({f"column{n}": range(70) for n in range(30)})
        told = {"text": str(frame), "html": frame._repr_html_(), "info": pd.options.display.max_columns}
    """
    forked, fresh = steps.both(code, ("pandas",))
    assert forked == fresh
    assert forked["info"] == 20


def test_a_library_that_keeps_a_stream_has_the_kernels(steps: Steps, tmp_path: Path) -> None:
    where = library(tmp_path, "import logging, sys\nKEPT = sys.stdout\nhandler = logging.StreamHandler()")
    code = """
        import scipy, sys
        told = {"same": [scipy.KEPT is sys.stdout, scipy.handler.stream is sys.stderr], "type": str(type(scipy.KEPT))}
    """
    forked, fresh = steps.both(code, ("scipy",), **where)
    assert forked == fresh
    assert forked["same"] == [True, True]


@pytest.mark.parametrize(
    "source",
    [
        "get_ipython().events.register('post_execute', print)",
        "from IPython import get_ipython\nKEPT = get_ipython()",
        "import signal\nsignal.signal(signal.SIGUSR1, print)",
        "import sys\nsys.excepthook = print",
        "import logging\nlogging.basicConfig(level='INFO')",
        "import sys\nsys.setrecursionlimit(5000)",
        "import os\nos.umask(0o22 if os.umask(0) != 0o22 else 0o27)",
        "import decimal\ndecimal.getcontext().prec = 3",
        "import multiprocessing\nmultiprocessing.set_start_method('spawn')",
        "import sys\nsys.path.append('/nowhere')",
    ],
)
def test_a_library_that_acts_on_its_process_is_not_loaded_ahead(steps: Steps, tmp_path: Path, source: str) -> None:
    where = library(tmp_path, source, "PIL")
    steps.load("numpy", ("PIL", "numpy"), **where)
    code = "import sys; told = {'is': ['PIL' in sys.modules, 'nbpipe_warm' in sys.modules]}"
    assert steps(code, ("PIL", "numpy"), **where)["is"] == [False, True]


def test_what_an_import_does_is_seen_once_the_step_imports(steps: Steps, tmp_path: Path) -> None:
    source = """
        import os, warnings
        os.environ.setdefault("SET_BY_LIBRARY", "1")
        os.environ.setdefault("SET_BY_STEP", "library")
        warnings.filterwarnings("error", message="one")
        warnings.filterwarnings("ignore", message="two", append=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
    """
    code = """
        import os, warnings
        def seen():
            return [os.environ.get("SET_BY_LIBRARY"), os.environ.get("SET_BY_STEP"), *map(str, warnings.filters)]
        told = {"before": seen()}
        import scipy
        told["after"] = seen()
    """
    forked, fresh = steps.both(code, ("scipy",), **library(tmp_path, source))
    assert forked == fresh
    assert forked["before"][:2] == [None, None]
    assert forked["after"][:2] == ["1", "library"]


@pytest.mark.parametrize("way", ["os.environ['KIND'] = 'x'", "os.environ.update(KIND='x')", "%env KIND=x"])
def test_a_variable_that_the_step_sets_before_an_import_counts(steps: Steps, tmp_path: Path, way: str) -> None:
    where = library(tmp_path, "import os\nKIND = os.environ.get('KIND')")
    steps.load("scipy", ("scipy",), **where)
    assert steps(f"import os\n{way}\nimport scipy\ntold = {{'is': scipy.KIND}}", ("scipy",), **where)["is"] == "x"


def test_a_librarys_file_beside_the_notebook_counts(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7.5\n")
    code = "import matplotlib\ntold = {'is': matplotlib.rcParams['lines.linewidth']}"
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        assert steps(code, ("matplotlib",))["is"] == 7.5


@pytest.mark.parametrize(
    "draw",
    [
        "import random; drawn = random.random()",
        "import numpy; drawn = float(numpy.random.rand())",
        "import tempfile; drawn = tempfile.mktemp()",
        "import uuid; drawn = str(uuid.uuid4())",
    ],
)
def test_no_two_forks_draw_the_same(steps: Steps, draw: str) -> None:
    tell: Callable[[], str] = lambda: steps(f"{draw}\ntold = {{'is': drawn}}", ("numpy",))["is"]  # noqa: E731
    assert len({tell() for _ in range(3)}) == 3
