"""A kernel that was forked from a zygote is the kernel that its command would have started, only sooner."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from sample_jobs import executed, job

from nbpipe.compute.environments import kernel_environment
from nbpipe.execution.attempt.attempt_runner import run_attempt, stop_attempt
from nbpipe.execution.kernels import standby_kernel
from nbpipe.model import Job, Outcome, Status

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(sys.platform != "linux", reason="zygotes are Linux's")]

# What a step finds around it, but for its parent and a debugger, which only a kernel started by its command has.
AROUND = """
OTHERS = ("JPY_PARENT_PID", "PYDEVD_USE_FRAME_EVAL")
import gc, locale, os, resource, signal, stat, sys, tempfile, threading, time
kinds = {number: stat.S_IFMT(os.fstat(number).st_mode) for number in (0, 1, 2)}
told = {
    "argv": [part if i != 2 else "..." for i, part in enumerate(sys.argv) if "ipython-dir" not in part],
    "original": len(sys.orig_argv),
    "path": sys.path,
    "environment": {name: value for name, value in os.environ.items() if name not in OTHERS},
    "folder": os.getcwd(),
    "handlers": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals()) if number != 2],
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "blocked": [str(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "leader": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    "input": [os.read(0, 10).decode(), sys.stdin.isatty(), os.readlink("/proc/self/fd/0")],
    "numbers": kinds,
    "streams": [sys.stdout.encoding, sys.stdin.encoding, sys.getfilesystemencoding(), sys.flags.utf8_mode],
    "main": [sys.modules["__main__"].__dict__ is globals(), __name__, sys.modules.get("__mp_main__") is None],
    "threads": sorted(type(each).__name__ for each in threading.enumerate()),
    "limits": [resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if "RLIMIT" in name],
    "mask": os.umask(0o77),
    "collector": [gc.isenabled(), gc.get_threshold()],
    "locale": locale.setlocale(locale.LC_CTYPE),
    "hash": hash("a"),
    "flags": [str(sys.flags), str(sys._xoptions), sys.dont_write_bytecode, sys.executable, sys.prefix],
    "zone": time.tzname,
    "temporary": tempfile.gettempdir(),
    "ours": sorted(name for name in sys.modules if name.startswith("nbpipe.")),
    "zmq": sorted(name for name in ("debugpy",) if sys.modules.get(name, 1) is None),
    "parent": int(os.environ["JPY_PARENT_PID"]) == os.getppid(),
    "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
}
"""


@pytest.fixture(autouse=True)
def nothing_left():
    """After every test all zygotes and all that they forked are gone."""
    before = set(psutil.Process().children(recursive=True))
    standby_kernel.retire_kernels()
    yield
    standby_kernel.retire_kernels()
    assert set(psutil.Process().children(recursive=True)) <= before


def asked(folder: Path, code: str, name: str, preload: tuple[str, ...] = (), **env: str) -> Job:
    """Get a job whose variables are those of a run, and some more."""
    given = {**kernel_environment(os.environ, ()), **env}
    return dataclasses.replace(job(folder, textwrap.dedent(code), name=name, env=given), preload=preload)


class Told:
    """Runs steps one after the other in a folder, and gets what each leaves in ``told``, ``forked`` added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def outcome(self, code: str, preload: tuple[str, ...] = (), **env: str) -> Outcome:
        self.count += 1
        return run_attempt(asked(self.folder, code, f"a{self.count}", preload, **env))

    def __call__(self, code: str, preload: tuple[str, ...] = (), **env: str) -> dict[str, Any]:
        target = self.folder / f"told{self.count}.json"
        ending = (
            "\nimport json, sys\ntold['forked'] = 'nbpipe_warm' in sys.modules\n"
            f"_ = open({str(target)!r}, 'w').write(json.dumps(told))"
        )
        outcome = self.outcome(textwrap.dedent(code) + ending, preload, **env)
        assert outcome.failure is None, outcome.failure
        told: dict[str, Any] = json.loads(target.read_text())
        return told

    def until_loaded(self, module: str, preload: tuple[str, ...], **env: str) -> None:
        """Return when kernels come with a module loaded; a zygote loads it while nobody asks."""
        ends = time.monotonic() + 60
        while not self(f"import sys; told = {{'there': {module!r} in sys.modules}}", preload, **env)["there"]:
            assert time.monotonic() < ends


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def zygotes() -> list[psutil.Process]:
    """List the zygotes of this process that have not ended."""
    here = [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in here if "zygote" in " ".join(each.cmdline())]


class TestTheSame:
    """What a step can see is what it sees in a kernel started by its command."""

    def test_what_a_step_finds_around_it(self, told, monkeypatch):
        forked = told(AROUND, ("numpy",), TZ="Asia/Tokyo", CANARY="x")
        with monkeypatch.context() as patch:
            patch.setenv("NBPIPE_KERNELS", "fresh")
            fresh = told(AROUND, ("numpy",), TZ="Asia/Tokyo", CANARY="x")
        assert (forked.pop("forked"), fresh.pop("forked")) == (True, False)
        environments = [forked.pop("environment"), fresh.pop("environment")]
        # Where processes that the step starts record what they log: a file of the attempt's own.
        records = {environment.pop("NBPIPE_RECORDS") for environment in environments}
        assert len(records) == 2
        assert environments[0] == environments[1]
        assert forked == fresh
        assert forked["input"] == ["", False, "/dev/null"]
        assert forked["zone"] == ["JST", "JST"]

    def test_open_files_are_those_that_the_kernel_opened_itself(self, told, monkeypatch):
        code = """
            import os, re, sys
            links = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{number}")]
            told = {"kinds": sorted(link.partition(":")[0] for link in links if link.startswith(("pipe", "socket")))}
        """
        forked = told(code, ("numpy",))
        with monkeypatch.context() as patch:
            patch.setenv("NBPIPE_KERNELS", "fresh")
            fresh = told(code, ("numpy",))
        assert forked["kinds"] == fresh["kinds"]

    def test_a_figure_is_shown(self, told):
        """The choice of a backend by matplotlib is made while it is loaded."""
        told.until_loaded("matplotlib.pyplot", ("matplotlib.pyplot",))
        outcome = told.outcome("import matplotlib.pyplot as plt\nplt.plot([1, 2]);", ("matplotlib.pyplot",))
        assert '"image/png"' in executed(told.folder, outcome).read_text()

    def test_a_backend_of_the_authors_choice_is_used(self, told):
        code = "import sys, matplotlib; told = {'backend': matplotlib.get_backend()}"
        told.until_loaded("matplotlib", ("matplotlib",))
        assert "inline" in told(code, ("matplotlib",))["backend"]
        assert told(code, ("matplotlib",), MPLBACKEND="svg")["backend"] == "svg"

    @pytest.mark.parametrize(
        "code",
        [
            "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: told = {'is': p.map(abs, [-1, -2])}",
            "import multiprocessing as m\nwith m.get_context('spawn').Pool() as p: told = {'is': p.map(abs, [-1, -2])}",
            "import concurrent.futures as c\nwith c.ThreadPoolExecutor(2) as p: told = {'is': [*p.map(abs, [-1, -2])]}",
            "import numpy as np\ntold = {'is': [int((np.ones((600, 600)) @ np.ones((600, 600)))[0, 0]) // 600, 2]}",
            """
            import io, pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as pc
            table = pa.table({"a": list(range(200_000)), "b": ["x"] * 200_000})
            assert pa.jemalloc_memory_pool().release_unused() is None
            chunk = pa.array(range(100_000), memory_pool=pa.jemalloc_memory_pool())
            sink = io.BytesIO(); pq.write_table(table, sink, row_group_size=10_000)
            back = pq.read_table(pa.BufferReader(sink.getvalue()), use_threads=True)
            told = {"is": [back.num_rows // 200_000, pc.sum(back["a"]).as_py() * 0 + 2]}
            """,
            """
            import pandas as pd
            frame = pd.DataFrame({"a": ["x", "y", "x"], "b": [1.0, 2.0, 3.0]})
            told = {"is": [1, len(frame.groupby("a").sum())]}
            """,
            """
            import numpy as np
            from sklearn.ensemble import RandomForestRegressor
            x = np.arange(200.0).reshape(-1, 1)
            model = RandomForestRegressor(4, n_jobs=2, random_state=0).fit(x, x[:, 0])
            told = {"is": [1, 2 if abs(model.predict(x) - x[:, 0]).mean() < 10 else 0]}
            """,
        ],
        ids=["forks", "spawns", "threads", "blas", "arrow", "pandas", "forest"],
    )
    def test_libraries_that_were_loaded_before_the_fork_work(self, told, code):
        preload = ("numpy", "pandas", "pyarrow.parquet", "sklearn.ensemble")
        told.until_loaded("sklearn.ensemble", preload)
        assert told(code, preload, OMP_NUM_THREADS="2")["is"] == [1, 2]


class TestOfItsOwn:
    """Nothing that one step does is seen by the next."""

    def test_process_namespace_and_modules(self, told):
        code = """
            import json, os, random, sys
            told = {"pid": os.getpid(), "seen": [hasattr(json, "mark"), "MARK" in os.environ, "left" in globals()]}
            json.mark, left, os.environ["MARK"] = 1, 1, "1"
        """
        first, second = told(code), told(code)
        assert (first["forked"], second["forked"]) == (True, True)
        assert first["seen"] == second["seen"] == [False, False, False]
        assert first["pid"] != second["pid"]

    def test_randomness(self, told):
        code = """
            import random, sys, tempfile, uuid
            told = {"there": "numpy" in sys.modules}
            import numpy
            told["drawn"] = [random.random(), float(numpy.random.rand()), float(numpy.random.default_rng().random()),
                             str(uuid.uuid4()), tempfile.mktemp()]
        """
        told.until_loaded("numpy", ("numpy",))
        first, second = told(code, ("numpy",)), told(code, ("numpy",))
        assert first["there"]
        assert not set(first["drawn"]) & set(second["drawn"])

    def test_hashing_is_random_where_it_is_meant_to_be(self, told):
        """All forks would share one secret, so such a kernel is started by its command."""
        ways = [told("told = {'hash': hash('x')}", PYTHONHASHSEED="random") for _ in range(2)]
        assert [way["forked"] for way in ways] == [False, False]
        assert ways[0]["hash"] != ways[1]["hash"]

    def test_many_at_once(self, tmp_path):
        jobs = [asked(tmp_path, f"x = {i}\nprint(x)", f"a{i}") for i in range(12)]
        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(run_attempt, jobs))
        assert [outcome.failure for outcome in outcomes] == [None] * 12
        assert len(zygotes()) == 1

    def test_nothing_grows(self, told):
        """Descriptors, processes, and threads, over many steps."""
        told("told = {}")
        here = psutil.Process()

        def counts() -> tuple[int, int, int]:
            return here.num_fds(), here.num_threads(), len(here.children(recursive=True))

        wait_for(lambda: standby_kernel.HERE._kernel and standby_kernel.HERE._starting is None)
        time.sleep(0.5)
        before = counts()
        for _ in range(15):
            told("told = {}")
        # A supervisor has told how its kernel ended a moment before it is gone itself.
        wait_for(lambda: counts() == before, 10)
        assert zygotes()[0].num_fds() < 12


class TestAhead:
    """The kernel that waits for the next step."""

    CODE = """
        import os, time
        begun = float(open("/proc/self/stat").read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        told = {"pid": os.getpid(), "age": time.clock_gettime(time.CLOCK_BOOTTIME) - begun}
    """

    def test_it_is_handed_out_once_and_belongs_to_one_step(self, told):
        ways = []
        for _ in range(4):
            ways.append(told(self.CODE))
            wait_for(lambda: standby_kernel.HERE._kernel)
            time.sleep(0.6)
        assert len({way["pid"] for way in ways}) == 4
        assert min(way["age"] for way in ways[1:]) > 0.3

    def test_what_it_has_loaded_ahead_leaves_nothing_to_see(self, told):
        """It has run what each step begins with; the step finds the same names, and the library once."""
        code = """
            import pathlib, sys
            from nbpipe.execution.kernel_runtime import step_runtime
            library = str(pathlib.Path(step_runtime.__file__).parents[3])
            told = {"places": sys.path.count(library), "first": sys.path[0] == library, "names": sorted(globals()),
                    "count": get_ipython().execution_count}
        """
        ways = []
        for _ in range(2):
            ways.append(told(code))
            wait_for(lambda: standby_kernel.HERE._kernel)
        assert ways[0] == ways[1]
        assert ways[1]["places"] == 1

    def test_only_one_of_many_steps_gets_it(self, told, tmp_path):
        told(self.CODE)
        wait_for(lambda: standby_kernel.HERE._kernel)
        marks = [tmp_path / f"pid{number}" for number in range(4)]
        code = "import os, pathlib; pathlib.Path({!r}).write_text(str(os.getpid()))"
        jobs = [asked(tmp_path, code.format(str(mark)), mark.name) for mark in marks]
        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(run_attempt, jobs))
        assert [outcome.failure for outcome in outcomes] == [None] * 4
        assert len({mark.read_text() for mark in marks}) == 4

    def test_another_environment_or_folder_is_not_served_by_it(self, told, tmp_path):
        told(self.CODE)
        wait_for(lambda: standby_kernel.HERE._kernel)
        code = "import os; told = {'mark': os.environ.get('MARK'), 'folder': os.getcwd()}"
        assert told(code, MARK="x")["mark"] == "x"
        (tmp_path / "other").mkdir()
        assert Told(tmp_path / "other")(code) == {"mark": None, "folder": str(tmp_path / "other"), "forked": True}

    def test_it_is_not_used_when_a_library_has_changed_meanwhile(self, told, tmp_path):
        where = {"PYTHONPATH": str(tmp_path / "lib")}
        library(tmp_path, "version = 1")
        told.until_loaded("PIL", ("PIL",), **where)
        wait_for(lambda: standby_kernel.HERE._kernel)
        library(tmp_path, "version = 22")
        assert told("import PIL; told = {'version': PIL.version}", ("PIL",), **where)["version"] == 22

    def test_it_is_not_used_when_a_module_of_the_author_hides_a_library_meanwhile(self, told, tmp_path):
        told.until_loaded("numpy", ("numpy",))
        wait_for(lambda: standby_kernel.HERE._kernel)
        (tmp_path / "numpy.py").write_text("mine = 1")
        assert told("import numpy; told = {'mine': hasattr(numpy, 'mine')}", ("numpy",))["mine"]

    def test_one_that_was_killed_is_no_harm(self, told):
        told(self.CODE)
        wait_for(lambda: standby_kernel.HERE._kernel)
        for each in psutil.Process().children(recursive=True):
            if each not in zygotes():
                each.kill()
        assert told(self.CODE)["forked"]


class TestTheRightOne:
    """Where a forked kernel would not be the one that was asked for, it is started by its command."""

    def test_variables_that_count_when_a_process_starts_have_zygotes_of_their_own(self, told, tmp_path):
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "found.py").write_text("here = 1")
        code = "import os\ntry:\n    import found\nexcept ImportError:\n    found = None\n"
        code += "told = {'is': [found is not None, os.environ.get('OMP_NUM_THREADS')]}"
        ways = [told(code, PYTHONPATH=str(tmp_path / "lib")), told(code, OMP_NUM_THREADS="3"), told(code)]
        assert [way["is"] for way in ways] == [[True, "1"], [False, "3"], [False, "1"]]
        assert [way["forked"] for way in ways] == [True, True, True]
        assert len(zygotes()) == 3

    def test_zygotes_do_not_pile_up(self, told):
        for number in range(8):
            told("told = {}", OMP_NUM_THREADS=str(number + 1))
        wait_for(lambda: len(zygotes()) <= 6)

    def test_a_variable_that_a_library_read_while_it_was_loaded(self, told, tmp_path):
        library(tmp_path, "import os; seen = os.environ.get('COLOUR')")
        where = {"PYTHONPATH": str(tmp_path / "lib")}
        told.until_loaded("PIL", ("PIL",), **where)
        code = "import PIL; told = {'seen': PIL.seen}"
        ways = [told(code, ("PIL",), **where), told(code, ("PIL",), COLOUR="red", **where)]
        assert [(way["seen"], way["forked"]) for way in ways] == [(None, True), ("red", False)]

    @pytest.mark.parametrize("name", ["numpy.py", "numpy/__init__.py"])
    def test_a_module_beside_the_notebook_hides_a_librarys(self, told, tmp_path, name):
        told.until_loaded("numpy", ("numpy",))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine = 1")
        way = told("import numpy; told = {'mine': hasattr(numpy, 'mine')}", ("numpy",))
        assert (way["mine"], way["forked"]) == (True, False)

    def test_the_authors_own_modules_are_never_loaded_ahead(self, told, tmp_path):
        (tmp_path / "mine.py").write_text("x = 1")
        way = told("import sys; told = {'there': 'mine' in sys.modules}", ("mine", "unknown", "json.tool"))
        assert not way["there"]
        assert not any("mine" in word for word in zygotes()[0].cmdline())

    @pytest.mark.parametrize("change", ["edited", "added", "removed"])
    def test_a_library_that_has_changed_is_loaded_anew(self, told, tmp_path, change):
        where = {"PYTHONPATH": str(tmp_path / "lib")}
        library(tmp_path, "version = 1")
        told.until_loaded("PIL", ("PIL",), **where)
        if change == "edited":
            library(tmp_path, "version = 22")
        elif change == "added":
            library(tmp_path, "version = 1", name="other")
        else:
            (tmp_path / "lib" / "PIL" / "__init__.py").unlink()
        old = zygotes()
        way = told("import PIL; told = {'version': getattr(PIL, 'version', None)}", ("PIL",), **where)
        assert way["version"] == {"edited": 22, "added": 1, "removed": None}[change]
        assert old != zygotes()

    @pytest.mark.parametrize(
        "source",
        [
            "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
            """
            import ctypes
            library, thread = ctypes.CDLL(None), ctypes.c_ulong()
            library.pthread_create(ctypes.byref(thread), None, library.pause, None)
            """,
            "raise RuntimeError('not today')",
            "import os, __main__\nif not hasattr(__main__, 'get_ipython'): os._exit(3)",
        ],
        ids=["thread", "native thread", "raises", "exits"],
    )
    def test_a_library_that_bears_no_fork_is_left_out_and_the_others_are_not(self, told, tmp_path, source):
        where = {"PYTHONPATH": str(tmp_path / "lib")}
        library(tmp_path, textwrap.dedent(source))
        told.until_loaded("numpy", ("PIL", "numpy"), **where)
        way = told("import sys; told = {'there': 'PIL' in sys.modules}", ("PIL", "numpy"), **where)
        assert (way["there"], way["forked"]) == (False, True)

    def test_a_kernel_of_another_kind_is_started_by_its_command(self, tmp_path):
        program = tmp_path / "start.py"
        program.write_text("from ipykernel import kernelapp\nkernelapp.launch_new_instance()")
        other = (sys.executable, str(program), "-f", "{connection_file}")
        outcome = run_attempt(dataclasses.replace(asked(tmp_path, "1", "a"), kernel=other))
        assert (outcome.failure, zygotes()) == (None, [])

    def test_an_interpreter_without_ipykernel_is_told_as_ever(self, tmp_path):
        bare = (sys.executable, "-I", "-S", "-m", "ipykernel_launcher", "-f", "{connection_file}")
        outcome = run_attempt(dataclasses.replace(asked(tmp_path, "1", "a"), kernel=bare))
        assert outcome.failure is not None
        assert "No module named ipykernel_launcher" in outcome.failure.traceback


def library(folder: Path, source: str, name: str = "PIL") -> None:
    """Write a library that may be loaded ahead, by its name."""
    (folder / "lib" / name).mkdir(parents=True, exist_ok=True)
    (folder / "lib" / name / "__init__.py").write_text(source)


class TestEnds:
    """Who dies takes with it what it must, and nothing else."""

    def test_a_killed_zygote_takes_no_kernel_with_it_and_is_replaced(self, told, tmp_path):
        told("told = {}")
        mark = tmp_path / "on"
        code = f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(1.5)"
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(told.outcome, code)
            wait_for(mark.exists)
            (zygote,) = zygotes()
            zygote.kill()
            assert future.result(30).status is Status.SUCCEEDED
        assert told("told = {}")["forked"]
        assert zygotes() != [zygote]

    def test_a_killed_supervisor_takes_the_kernel_with_it(self, told, tmp_path):
        mark = tmp_path / "on"
        code = f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getppid()))\ntime.sleep(60)"
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(told.outcome, code)
            wait_for(lambda: mark.exists() and mark.read_text())
            kernels = psutil.Process(int(mark.read_text())).children()
            os.kill(int(mark.read_text()), signal.SIGKILL)
            failure = future.result(10).failure
        assert (failure.kind, "SIGKILL" in failure.message) == ("kernel", True)
        assert psutil.wait_procs(kernels, timeout=2)[1] == []

    @pytest.mark.parametrize("way", ["forked", "fresh"])
    @pytest.mark.parametrize("how", ["cancelled", "finished"])
    def test_all_that_a_step_started_is_gone_with_it(self, told, tmp_path, monkeypatch, way, how):
        """Also in sessions of its own, and while the kernel is in C code that holds the GIL."""
        monkeypatch.setenv("NBPIPE_KERNELS", "fresh" if way == "fresh" else "")
        mark = tmp_path / "on"
        code = f"""
            import ctypes, pathlib, subprocess
            started = [subprocess.Popen(["sleep", "86397"], start_new_session=new) for new in (True, False)]
            subprocess.run(["sh", "-c", "(setsid sleep 86397 &) ; exit 0"])
            pathlib.Path({str(mark)!r}).touch()
            {"ctypes.PyDLL(None).sleep(600)" if how == "cancelled" else ""}
        """
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(told.outcome, code)
            wait_for(mark.exists)
            started = time.monotonic()
            if how == "cancelled":
                assert stop_attempt("a1")
            outcome = future.result(10)
        assert time.monotonic() - started < 4
        assert outcome.status is (Status.CANCELLED if how == "cancelled" else Status.SUCCEEDED)
        assert not [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "86397"]]

    @pytest.mark.parametrize("way", ["forked", "fresh"])
    @pytest.mark.parametrize(
        "code, said",
        [
            ("import os; os._exit(7)", "exit code 7"),
            ("import os; os.abort()", "SIGABRT"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        ],
    )
    def test_how_a_kernel_ended_is_told_truly(self, told, monkeypatch, way, code, said):
        monkeypatch.setenv("NBPIPE_KERNELS", "fresh" if way == "fresh" else "")
        assert said in told.outcome(code).failure.message

    def test_a_kernel_that_cannot_start_tells_why(self, tmp_path):
        (tmp_path / "gone").mkdir()
        made = dataclasses.replace(asked(tmp_path, "1", "a"), cwd=str(tmp_path / "gone"))
        (tmp_path / "gone").rmdir()
        failure = run_attempt(made).failure
        assert failure is not None
        assert "No such file" in failure.traceback

    def test_an_interrupt_reaches_the_cell(self, told, tmp_path):
        mark = tmp_path / "on"
        code = f"""
            import pathlib, time
            try:
                pathlib.Path({str(mark)!r}).touch()
                time.sleep(60)
            except KeyboardInterrupt:
                pathlib.Path({str(tmp_path / "heard")!r}).touch()
                raise
        """
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(told.outcome, code)
            wait_for(mark.exists)
            stop_attempt("a1")
            assert future.result(10).status is Status.CANCELLED
        assert (tmp_path / "heard").exists()


class TestWhatKernelsAreTold:
    """What the kernel's side may ask about the modules that it finds loaded."""

    def test_bare_modules_and_what_packages_import(self, told):
        told.until_loaded("pandas", ("pandas",))
        way = told(
            """
            import sys
            here = sys.modules["nbpipe_warm"]
            told = {"bare": sorted(here.bare), "imported": {name: sorted(them) for name, them in here.imported.items()}}
            """,
            ("pandas",),
        )
        assert {"ipykernel", "IPython", "zmq", "os", "sqlite3"} <= set(way["bare"])
        assert not {"numpy", "pandas", "pytest"} & set(way["bare"])
        assert {"numpy", "dateutil"} <= set(way["imported"]["pandas"])
        assert "pandas" not in way["imported"]["numpy"]
        assert not {"IPython", "ipykernel", "os", "pandas"} & set(way["imported"]["pandas"])

    def test_what_a_step_begins_with_is_loaded_before_the_fork_for_its_own_workspace_only(self, told, tmp_path):
        # What was there before the fork is frozen, and not listed.
        code = """
            import gc, sys
            runtime = sys.modules["nbpipe.execution.kernel_runtime.step_runtime"]
            told = {"ahead": not any(each is runtime for each in gc.get_objects()), "from": runtime.__file__}
        """
        mine = told(code)
        assert mine["ahead"], mine
        (tmp_path / "other").mkdir()
        theirs = Told(tmp_path / "other")(code)
        assert theirs["forked"]
        assert not theirs["ahead"]
        assert theirs["from"].startswith(str(tmp_path / "other"))

    def test_bare_is_what_a_fresh_kernel_has(self, told, monkeypatch):
        code = """
            import sys
            before = set(sys.modules)
            told = {"bare": sorted(getattr(sys.modules.get("nbpipe_warm"), "bare", before))}
        """
        forked = told(code)
        monkeypatch.setenv("NBPIPE_KERNELS", "fresh")
        missing = set(told(code)["bare"]) - set(forked["bare"])
        # A step's kernel has no debugger, and the step no claim to what a debugger brings. Python's own build settings
        # are not among the names of the standard library, and nbpipe reads them in each step.
        left_out = ("debugpy", "_pydev", "pydev", "_cython", "_sysconfigdata")
        packages = {name.partition(".")[0] for name in missing} - sys.stdlib_module_names
        assert {name for name in packages if not name.startswith(left_out)} == {"nbpipe"}


def wait_for(condition, seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)
