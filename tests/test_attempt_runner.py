"""An attempt ends in exactly one true outcome, keeps its notebook, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from sample_jobs import executed, job

from nbpipe.data.datastores import LocalStore
from nbpipe.data.event_file import PieceReader
from nbpipe.data.materializer import Materializer
from nbpipe.execution.attempt.attempt_runner import run_attempt, stop_attempt
from nbpipe.execution.kernels import standby_kernel
from nbpipe.model import AttemptOutputWritten, AttemptStarted, InputKind, JobInput, JobOutput, Outcome, Status

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def nothing_left():
    """After every test, whatever it did: no process of ours and no private folder of a kernel is left."""
    folders, processes = _of_kernels(), _below()
    yield
    standby_kernel.retire_kernels()
    assert _below() <= processes
    assert _of_kernels() <= folders


def _below() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _of_kernels() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"nbk{os.getpid()}-*"))


def _directory(job):
    return Path(job.directory)


def _cells(folder, outcome):
    return nbformat.read(executed(folder, outcome), as_version=4).cells


def _printed(folder, outcome) -> str:
    outputs = [output for cell in _cells(folder, outcome) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def _failed(folder: Path, *steps: str, **options: Any) -> Outcome:
    """Run a step that must fail, with what holds for every failure."""
    asked = job(folder, *steps, **options)
    outcome = run_attempt(asked)
    assert outcome.artifacts == ()
    assert outcome.failure is not None
    assert not (_directory(asked) / "manifest.json").exists()
    assert not (_directory(asked) / "staging").exists()
    nbformat.validate(nbformat.read(executed(folder, outcome), as_version=4))
    assert "\x1b" not in outcome.failure.traceback + outcome.failure.message
    assert "\n" not in outcome.failure.message
    return outcome


class TestSuccess:
    """A step that does what it declares."""

    def test_outputs_are_published_and_the_manifest_says_so(self, tmp_path):
        asked = job(tmp_path, "total = depth * 2", outputs=[JobOutput("total")])
        outcome = run_attempt(asked)
        assert outcome.failure is None
        assert (outcome.status, outcome.token, outcome.attempt) == (Status.SUCCEEDED, 7, "a1")
        (made,) = outcome.artifacts
        assert (made.name, made.format) == ("total", "json")
        manifest = json.loads((_directory(asked) / "manifest.json").read_text())
        signed = manifest["outcome"]
        assert signed["artifacts"][0]["reference"]["digest"] == made.digest
        assert {name: (manifest | signed)[name] for name in ("attempt", "token", "run", "step")} == {
            "attempt": "a1",
            "token": 7,
            "run": "r1",
            "step": "train",
        }
        assert signed["notebook"] == outcome.notebook == "notebook.ipynb"
        assert signed["seconds"] == outcome.seconds > 0

    def test_a_step_reads_what_another_one_wrote(self, tmp_path):
        asked = job(tmp_path, "table = {'a': [1, 2.5, None]}", outputs=[JobOutput("table")])
        made = run_attempt(asked).artifacts[0]
        stored = str(Materializer({"default": LocalStore(Path(asked.store))}).locate(made))
        given = JobInput("table", InputKind.VALUE, (stored,), made.format)
        second = job(tmp_path, "print(table['a'])", name="a2", inputs=[given])
        outcome = run_attempt(second)
        assert outcome.failure is None
        assert "[1, 2.5, None]" in _printed(tmp_path, outcome)

    def test_files_and_folders_are_outputs_too(self, tmp_path):
        code = "plots.joinpath('a').mkdir()\nplots.joinpath('a', 'b.txt').write_text('x')\nnote.write_text('hello')"
        made = [JobOutput("plots", "dir"), JobOutput("note", "file.txt")]
        outcome = run_attempt(job(tmp_path, code, outputs=made))
        assert outcome.failure is None
        assert [(artifact.name, artifact.format, artifact.basename) for artifact in outcome.artifacts] == [
            ("plots", "dir", "plots"),
            ("note", "file", "note.txt"),
        ]

    def test_a_note_about_an_output_reaches_the_outcome(self, tmp_path):
        outcome = run_attempt(job(tmp_path, "thing = lambda: 1", outputs=[JobOutput("thing")]))
        assert outcome.failure is None
        assert outcome.notes

    def test_all_of_a_flood_of_output_is_kept_as_one(self, tmp_path):
        """M7: 20,000 flushed lines are no reason to fail a step."""
        outcome = run_attempt(job(tmp_path, "for i in range(20_000): print(i, flush=True)"))
        assert outcome.failure is None
        assert _printed(tmp_path, outcome).split() == [str(i) for i in range(20_000)]
        assert sum(len(cell.outputs) for cell in _cells(tmp_path, outcome)) == 1

    @pytest.mark.slow
    def test_silence_is_no_failure(self, tmp_path):
        assert run_attempt(job(tmp_path, "import time; time.sleep(12)")).failure is None

    def test_attempts_in_threads_of_one_process_do_not_meet(self, tmp_path):
        """Each has its own kernel, namespace and folder."""
        jobs = [job(tmp_path, f"x = globals().get('x', 0) + {i}\nprint(x)", name=f"a{i}") for i in range(4)]
        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(run_attempt, jobs))
        assert [outcome.failure for outcome in outcomes] == [None] * 4
        assert [_printed(tmp_path, outcome).strip() for outcome in outcomes] == ["0", "1", "2", "3"]


class TestSurroundings:
    """What a step finds around it, and what is kept of it."""

    def test_the_kernel_has_exactly_the_given_environment_and_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NOT_DECLARED", "canary-1")
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DECLARED": "canary-2"}
        code = "import os\nprint(os.getcwd(), os.environ['DECLARED'] == 'canary' + '-2', 'NOT_DECLARED' in os.environ)"
        outcome = run_attempt(job(tmp_path, code, env=env))
        assert _printed(tmp_path, outcome).strip() == f"{tmp_path} True False"

    def test_no_value_of_the_environment_is_kept(self, tmp_path):
        """S26: not in the notebook, the job, the manifest or anything else of the attempt."""
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TOKEN": "canary-9f3"}
        asked = job(tmp_path, "1 / 0", env=env)
        run_attempt(asked)
        kept = [path.read_bytes() for path in _directory(asked).rglob("*") if path.is_file()]
        assert len(kept) > 2
        assert not any(b"canary-9f3" in content for content in kept)
        assert "canary" not in repr(asked)

    def test_settings_of_the_authors_own_ipython_do_not_count(self, tmp_path):
        startup = tmp_path / ".ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "00.py").write_text("leaked = 1")
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        assert (
            _printed(tmp_path, run_attempt(job(tmp_path, "print('leaked' in globals())", env=env))).strip() == "False"
        )

    def test_the_job_is_readable_only_by_its_owner(self, tmp_path):
        asked = job(tmp_path, "1")
        run_attempt(asked)
        assert stat.S_IMODE((_directory(asked) / "job.json").stat().st_mode) == 0o600

    def test_the_notebook_is_plain_jupyter(self, tmp_path):
        """Valid, names a kernel, carries nothing of papermill, and is not signed."""
        outcome = run_attempt(job(tmp_path, "1 + 1"))
        notebook = nbformat.read(executed(tmp_path, outcome), as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert notebook.metadata.language_info.name == "python"
        assert "papermill" not in json.dumps(notebook.metadata)
        assert all("papermill" not in cell.metadata for cell in notebook.cells)
        assert all(cell.metadata.nbpipe.role for cell in notebook.cells)

    def test_the_notebook_reruns_in_plain_jupyter_and_changes_nothing(self, tmp_path):
        asked = job(tmp_path, "total = depth * 2", outputs=[JobOutput("total")])
        outcome = run_attempt(asked)
        before = {path: path.read_bytes() for path in _directory(asked).rglob("*") if path.is_file()}
        code = (
            "import nbformat, sys; from nbclient import NotebookClient; from traitlets.config import Config; "
            "sockets = Config(KernelManager={'transport': 'ipc', 'ip': 's'}); "
            "NotebookClient(nbformat.read(sys.argv[1], as_version=4), config=sockets).execute()"
        )
        subprocess.run([sys.executable, "-c", code, executed(tmp_path, outcome)], check=True, cwd=tmp_path)
        assert {path: path.read_bytes() for path in _directory(asked).rglob("*") if path.is_file()} == before

    def test_the_kernels_side_is_repaired_when_it_is_damaged(self, tmp_path):
        run_attempt(job(tmp_path, "1"))
        (archive,) = (tmp_path / "store" / "kernel").iterdir()
        archive.write_bytes(archive.read_bytes()[:1000])
        assert run_attempt(job(tmp_path, "1", name="a2")).failure is None

    def test_no_slow_grammar_is_loaded(self):
        """Where JupyterLab is installed it would cost 2.2 s."""
        code = "import sys, nbpipe.execution.attempt.attempt_runner; print(sys.modules['rfc3987_syntax'])"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert told.stdout.strip() == "None"


class TestUsersFailure:
    """Failures of the author's code: told with cell and line."""

    def test_an_exception_names_cell_and_line_and_stops_the_step(self, tmp_path):
        outcome = _failed(tmp_path, "x = 1", "y = 2\n\nx / 0", "print('never')")
        failure = outcome.failure
        assert outcome.status is Status.FAILED
        assert (failure.kind, failure.ename, failure.evalue) == ("user", "ZeroDivisionError", "division by zero")
        assert failure.message == "ZeroDivisionError: division by zero"
        assert (failure.cell, failure.line) == (4, 3)
        assert "x / 0" in failure.traceback
        assert "never" not in _printed(tmp_path, outcome)

    def test_the_line_is_that_of_the_cell_not_of_a_library(self, tmp_path):
        failure = _failed(tmp_path, "import json\njson.loads('{')").failure
        assert (failure.ename, failure.cell, failure.line) == ("JSONDecodeError", 3, 2)

    def test_a_syntax_error_has_a_line(self, tmp_path):
        failure = _failed(tmp_path, "x = 1\ny = = 2").failure
        assert (failure.kind, failure.ename, failure.cell, failure.line) == ("user", "SyntaxError", 3, 2)

    def test_an_error_in_shared_code_names_the_shared_cell(self, tmp_path):
        failure = _failed(tmp_path, "x = 1", shared="import nosuchmodule").failure
        assert (failure.kind, failure.cell) == ("user", 2)
        assert "nosuchmodule" in failure.message

    @pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "raise SystemExit", "import sys; sys.exit(3)"])
    def test_leaving_early_is_a_failure(self, tmp_path, code):
        """E2: papermill calls ``sys.exit(0)`` a success."""
        failure = _failed(tmp_path, code, "total = 1", outputs=[JobOutput("total")]).failure
        assert (failure.kind, failure.ename, failure.cell) == ("user", "SystemExit", 3)
        assert "SystemExit" in failure.message

    @pytest.mark.parametrize("code", ["quit()", "exit()"])
    def test_quit_is_a_failure(self, tmp_path, code):
        """After it the following cells run, so that all outputs may be there."""
        _failed(tmp_path, f"total = 1\n{code}", "other = 2", outputs=[JobOutput("total")])

    @pytest.mark.parametrize("code", ["x = input('name? ')", "breakpoint()", "import getpass; getpass.getpass()"])
    def test_asking_for_input_is_a_failure_with_a_hint(self, tmp_path, code):
        """F16: a debugger's prompt asks too."""
        failure = _failed(tmp_path, code).failure
        assert (failure.kind, failure.cell) == ("input", 3)
        assert "make it a parameter" in failure.message

    def test_an_output_that_is_not_bound_is_named(self, tmp_path):
        failure = _failed(tmp_path, "x = 1", outputs=[JobOutput("x"), JobOutput("missing")]).failure
        assert (failure.kind, failure.cell, failure.line) == ("output", 3, None)
        assert "missing" in failure.message

    def test_a_file_that_is_not_written_is_named(self, tmp_path):
        failure = _failed(tmp_path, "x = 1", outputs=[JobOutput("note", "file.txt")]).failure
        assert (failure.kind, failure.cell, failure.line) == ("output", 3, None)
        assert "note" in failure.message

    def test_a_value_that_cannot_be_stored_is_named(self, tmp_path):
        """E15: loudly."""
        failure = _failed(tmp_path, "x = object()", outputs=[JobOutput("x", "json")]).failure
        assert failure.kind == "output"
        assert "x" in failure.message

    def test_an_input_that_cannot_be_loaded_is_named(self, tmp_path):
        (tmp_path / "bad.json").write_text("{")
        good = JobInput("good", InputKind.PATH, (str(tmp_path),))
        bad = JobInput("bad", InputKind.VALUE, (str(tmp_path / "bad.json"),), "json")
        failure = _failed(tmp_path, "1", inputs=[good, bad]).failure
        assert failure.kind == "input"
        assert "`bad`" in failure.message

    def test_outputs_removed_from_staging_afterwards_are_missed(self, tmp_path):
        """Success is judged by what is there, not by what the kernel says."""
        code = (
            "import atexit, shutil, json\n"
            "real = _nbpipe.save\n"
            "def _save(space):\n"
            "    real(space)\n"
            "    shutil.rmtree(staging)\n"
            "_nbpipe.save = _save\n"
            "import pathlib\n"
            f"staging = pathlib.Path({str(tmp_path)!r}, 'runs', 'r1', 'train', 'a1', 'staging')\n"
            "total = 1"
        )
        failure = _failed(tmp_path, code, outputs=[JobOutput("total")]).failure
        assert failure.message == "declared but not written: `total`"


@contextmanager
def _told_its_number(folder: Path, code: str):
    """Run a step; get its kernel's process, its outcome to come, and what it has told so far."""
    mark = folder / "number"
    asked = job(folder, f"import os, pathlib\n_ = pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n{code}")

    def told() -> str:
        return "".join(event.content.get("text", "") for event in PieceReader(Path(asked.directory)).read(0))

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(run_attempt, asked)
        _wait_for(lambda: mark.exists() and mark.read_text())
        yield psutil.Process(int(mark.read_text())), future, told


class TestKernelsEnd:
    """Kernels that end before their step does."""

    @pytest.mark.parametrize(
        "code, said",
        [
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL (out of memory?)"),
            ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
            ("import os; os._exit(0)", "exit code 0"),
            ("import os; os._exit(9)", "exit code 9"),
        ],
    )
    def test_a_dead_kernel_is_a_failure_within_seconds(self, tmp_path, code, said):
        """F1, F2."""
        started = time.monotonic()
        outcome = _failed(tmp_path, code, "total = 1", outputs=[JobOutput("total")])
        assert time.monotonic() - started < 10
        assert (outcome.status, outcome.failure.kind, outcome.failure.cell) == (Status.FAILED, "kernel", 3)
        assert said in outcome.failure.message

    @pytest.mark.parametrize(
        "code, said",
        [
            ("import ctypes; ctypes.CDLL(None).pthread_exit(None)", "killed"),
            ("import os; os.closerange(3, 256)", "SIGABRT"),
            ("get_ipython().kernel.shell_stream.close()", "gives no answer"),
        ],
        ids=["no main thread", "no descriptors", "no channel"],
    )
    def test_a_kernel_that_cannot_answer_any_more_is_not_waited_for(self, tmp_path, code, said):
        failure = _failed(tmp_path, code, timeout=60).failure
        assert (failure.kind, said in failure.message) == ("kernel", True)

    def test_a_kernel_that_can_say_nothing_any_more_succeeds_with_a_note(self, tmp_path):
        outcome = run_attempt(job(tmp_path, "get_ipython().kernel.iopub_thread.stop()", timeout=60))
        assert outcome.status is Status.SUCCEEDED
        assert outcome.notes == ("the end of its output did not arrive",)

    def test_a_stopped_kernel_is_told_as_that_and_goes_on(self, tmp_path):
        """Somebody may want the machine for a while; the step has lost nothing."""
        with _told_its_number(tmp_path, "import time; time.sleep(0.5)") as (kernel, future, events):
            kernel.suspend()
            _wait_for(lambda: f"stopped by a signal; to continue it: kill -CONT {kernel.pid}" in events())
            kernel.resume()
            assert future.result(30).status is Status.SUCCEEDED
            assert "the kernel is running again" in events()

    @pytest.mark.parametrize("which", ["kernel", "supervisor"])
    def test_what_was_stopped_can_be_cancelled(self, tmp_path, which):
        with _told_its_number(tmp_path, "import time; time.sleep(600)") as (kernel, future, _):
            supervisor = kernel.parent()
            (kernel if which == "kernel" else supervisor).suspend()
            assert stop_attempt("a1")
            assert future.result(30).status is Status.CANCELLED
            assert psutil.wait_procs([kernel, supervisor], timeout=5)[1] == []

    def test_what_was_printed_before_is_kept(self, tmp_path):
        outcome = _failed(tmp_path, "print('so far', flush=True)\nimport os, time; time.sleep(0.3); os._exit(1)")
        assert "so far" in _printed(tmp_path, outcome)

    def test_children_in_sessions_of_their_own_are_gone_too(self, tmp_path):
        """M3; the fixture counts, and here they are looked for by name."""
        code = (
            "import subprocess\n"
            "for new in (False, True):\n"
            "    subprocess.Popen(['sleep', '86399'], start_new_session=new)\n"
            "subprocess.run(['sh', '-c', '(setsid sleep 86399 &) ; exit 0'])"
        )
        outcome = run_attempt(job(tmp_path, code))
        assert outcome.failure is None
        assert not [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "86399"]]

    def test_a_kernel_that_cannot_start_is_not_the_users_fault(self, tmp_path):
        asked = job(tmp_path, "1")
        broken = type(asked)(
            **{name: getattr(asked, name) for name in asked.__slots__ if name != "kernel"}, kernel=("/nowhere/python",)
        )
        failure = run_attempt(broken).failure
        assert failure.kind == "kernel"
        assert "did not start" in failure.message
        assert "/nowhere/python" in failure.traceback

    def test_the_kernel_dies_with_its_worker(self, tmp_path):
        """Also when the kernel holds the GIL in C code, with the worker killed, and with children of its own."""
        mark = tmp_path / "running"
        step = (
            "import subprocess, pathlib, ctypes\n"
            "subprocess.Popen(['sleep', '86398'], start_new_session=True)\n"
            f"pathlib.Path({str(mark)!r}).touch()\n"
            "ctypes.PyDLL(None).sleep(600)"
        )
        code = (
            f"import pathlib, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from sample_jobs import job\nfrom nbpipe.execution.attempt.attempt_runner import run_attempt\n"
            f"run_attempt(job(pathlib.Path({str(tmp_path)!r}), {step!r}))"
        )
        worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
        _wait_for(mark.exists)
        below = psutil.Process(worker.pid).children(recursive=True)
        assert len(below) >= 3
        worker.kill()
        worker.wait()
        _, alive = psutil.wait_procs(below, timeout=5)
        assert alive == []


class TestStopping:
    """Attempts that are ended from outside."""

    def test_a_step_that_takes_too_long_is_ended(self, tmp_path):
        started = time.monotonic()
        outcome = _failed(tmp_path, "import time; time.sleep(600)", timeout=1.5)
        assert time.monotonic() - started < 6
        assert (outcome.status, outcome.failure.kind, outcome.failure.cell) == (Status.FAILED, "timeout", 3)
        assert "longer than 1.5 s" in outcome.failure.message

    def test_the_timeout_counts_the_whole_step(self, tmp_path):
        outcome = _failed(tmp_path, *["import time; time.sleep(0.9)"] * 4, timeout=2.5)
        assert outcome.failure.kind == "timeout"

    @pytest.mark.parametrize(
        "code",
        [
            "import time\nwhile True:\n    try:\n        time.sleep(600)\n    except KeyboardInterrupt:\n        pass",
            "import signal as s, time\ns.pthread_sigmask(s.SIG_BLOCK, {s.SIGINT, s.SIGTERM})\ntime.sleep(600)",
            "import ctypes; ctypes.PyDLL(None).sleep(600)",
        ],
    )
    def test_a_step_that_will_not_be_interrupted_is_killed(self, tmp_path, code):
        """F14."""
        started = time.monotonic()
        outcome = _failed(tmp_path, code, timeout=1.5)
        assert time.monotonic() - started < 8
        assert outcome.failure.kind == "timeout"

    def test_a_stop_from_another_thread_ends_the_attempt(self, tmp_path):
        mark = tmp_path / "running"
        asked = job(tmp_path, f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(600)", "x = 1")
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(run_attempt, asked)
            _wait_for(mark.exists)
            started = time.monotonic()
            assert stop_attempt("a1")
            assert time.monotonic() - started < 0.2
            outcome = future.result(timeout=10)
        assert (outcome.status, outcome.failure.kind) == (Status.CANCELLED, "cancelled")

    def test_the_first_moment_is_not_too_early_to_stop(self, tmp_path):
        """While the kernel starts there is nothing to interrupt yet."""
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(run_attempt, job(tmp_path, "import time; time.sleep(600)"))
            _wait_for(lambda: stop_attempt("a1"))
            assert future.result(timeout=20).status is Status.CANCELLED

    def test_an_attempt_stopped_before_it_comes_does_not_start(self, tmp_path):
        assert not stop_attempt("early")
        asked = job(tmp_path, f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()", name="early")
        assert run_attempt(asked).status is Status.CANCELLED
        assert not (tmp_path / "ran").exists()

    def test_a_stop_after_the_end_does_nothing(self, tmp_path):
        assert run_attempt(job(tmp_path, "1", name="done")).status is Status.SUCCEEDED
        assert not stop_attempt("done")


class TestReports:
    """What is reported of an attempt while it runs."""

    def test_it_begins_with_its_directory_and_tells_what_can_be_read_there(self, tmp_path):
        asked = job(tmp_path, "print(1)", "print(2)")
        heard: list[AttemptStarted | AttemptOutputWritten] = []

        def report(given: AttemptStarted | AttemptOutputWritten) -> None:
            assert _directory(asked).is_dir()
            if isinstance(given, AttemptOutputWritten):
                assert len(PieceReader(_directory(asked)).read(0, given.pieces)) == given.pieces
            heard.append(given)

        before = time.time()
        run_attempt(asked, report)
        assert isinstance(heard[0], AttemptStarted)
        assert before <= heard[0].at <= time.time()
        assert {given.attempt for given in heard} == {"a1"}
        told = [given.pieces for given in heard[1:] if isinstance(given, AttemptOutputWritten)]
        assert len(told) == len(heard) - 1
        assert told == sorted(set(told))
        assert told[-1] == 2

    def test_a_report_that_fails_does_not_fail_the_step(self, tmp_path):
        def report(_given: AttemptStarted | AttemptOutputWritten) -> None:
            raise RuntimeError("nobody there")

        asked = job(tmp_path, "print(1)")
        assert run_attempt(asked, report).status is Status.SUCCEEDED
        assert [event.content["text"] for event in PieceReader(_directory(asked)).read(0)] == ["1\n"]

    @pytest.mark.parametrize("why", ["stopped", "begun elsewhere"])
    def test_an_attempt_that_does_not_begin_here_reports_nothing(self, tmp_path, why):
        asked = job(tmp_path, "print(1)")
        if why == "stopped":
            stop_attempt("a1")
        else:
            run_attempt(asked)
        heard: list[AttemptStarted | AttemptOutputWritten] = []
        outcome = run_attempt(asked, heard.append)
        assert outcome.status is (Status.CANCELLED if why == "stopped" else Status.LOST)
        assert heard == []

    def test_without_an_executed_notebook_none_is_named(self, tmp_path):
        (tmp_path / "runs").write_text("in the way")
        outcome = run_attempt(job(tmp_path, "1"))
        assert (outcome.status, outcome.notebook) == (Status.LOST, "")


class TestOnce:
    """What must not happen twice, or at all."""

    def test_a_second_execution_of_an_attempt_changes_nothing(self, tmp_path):
        """A scheduler that starts a task twice must not hurt the first one's results."""
        asked = job(tmp_path, "total = depth", outputs=[JobOutput("total")])
        assert run_attempt(asked).status is Status.SUCCEEDED
        before = {path: path.read_bytes() for path in _directory(asked).rglob("*") if path.is_file()}
        again = run_attempt(asked)
        assert (again.status, again.failure.kind, again.notebook) == (Status.LOST, "lost", "")
        assert {path: path.read_bytes() for path in _directory(asked).rglob("*") if path.is_file()} == before

    def test_our_own_trouble_is_an_outcome_too(self, tmp_path):
        """A store that cannot be made is told, not raised."""
        (tmp_path / "store").write_text("in the way")
        outcome = run_attempt(job(tmp_path, "1"))
        assert (outcome.status, outcome.failure.kind) == (Status.LOST, "lost")
        assert "store" in outcome.failure.evalue


def _wait_for(condition, seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_signals_of_the_terminal_do_not_reach_a_kernel(tmp_path):
    """Ctrl-C in a shell goes to its whole foreground group; what a run does then is the driver's to decide."""
    mark = tmp_path / "running"
    before, handler = _below(), signal.getsignal(signal.SIGINT)
    asked = job(tmp_path, f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(1)")
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run_attempt(asked)))
    thread.start()
    _wait_for(mark.exists)
    groups = {os.getpgid(each.pid) for each in _below() - before}
    assert os.getpgid(0) not in groups
    thread.join()
    assert outcomes[0].status is Status.SUCCEEDED
    assert signal.getsignal(signal.SIGINT) is handler
