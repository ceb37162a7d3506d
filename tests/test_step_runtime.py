"""The kernel's side: inputs come in, outputs leave, and nothing else of the author's world changes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from socket_kernel import PlainKernel

from nbpipe.data import formats
from nbpipe.execution.attempt.runtime_bundle import write_bundle

pytestmark = pytest.mark.kernel


class Kernel:
    """One attempt's directory and a real kernel that has begun its step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "attempt"
        self.library = write_bundle(folder / "store")
        self.job: dict[str, Any] = {"attempt": "a", "run": "r", "step": "s"}
        self.job |= {"inputs": [], "outputs": [], "modules": []}
        self.plain: PlainKernel | None = None
        self.cwd = folder / "cwd"
        self.cwd.mkdir()

    def start(self) -> None:
        """Write the job, start the kernel, begin."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "job.json").write_text(json.dumps(self.job))
        self.plain = PlainKernel(self.cwd)
        assert self.begin() is None

    def module(self, path: Path, name: str, source: str, *, is_package: bool = False) -> dict[str, Any]:
        """Get a module of the job; its source is stored beside the attempts."""
        stored = f"../_modules/{name}.py"
        written(self.folder / stored, source)
        return {"name": name, "path": str(path), "stored": stored, "is_package": is_package}

    def begin(self) -> str | None:
        """Run the first cell of a one-step notebook."""
        return self.run(
            self.library.loading + "from nbpipe.execution.kernel_runtime import step_runtime as _nbpipe\n"
            f"_nbpipe.begin({str(self.folder / 'job.json')!r})"
        )

    def run(self, code: str) -> str | None:
        """Run a cell; get `Error: text` if it raised."""
        self.printed = ""
        client = self.plain.client
        reply = client.execute_interactive(code, timeout=60, output_hook=self._hear, store_history=True)["content"]
        return None if reply["status"] == "ok" else f"{reply['ename']}: {reply['evalue']}"

    def _hear(self, message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            self.printed += message["content"]["text"]

    def told(self, name: str) -> Any:
        """Get what the kernel left in a file of the attempt."""
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else None

    def stop(self) -> None:
        """End the kernel."""
        if self.plain is not None:
            self.plain.stop(now=True)


@pytest.fixture
def kernel(tmp_path):
    made = Kernel(tmp_path)
    yield made
    made.stop()


def given(name: str, kind: str, paths: Sequence[Path], format: str | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "paths": [str(path) for path in paths], "format": format}


def wanted(name: str, format: str | None = None) -> dict[str, Any]:
    return {"name": name, "format": format}


def written(path: Path, text: str = "1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_values_and_paths_come_in_and_go_out(kernel, tmp_path):
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    saved = formats.save(frame, name="df", format=None, folder=tmp_path)
    raw = written(tmp_path / "raw.csv")
    kernel.job["inputs"] = [
        given("df", "value", [tmp_path / saved.basename], saved.format),
        given("raw", "path", [raw]),
        given("many", "paths", [raw, raw]),
    ]
    kernel.job["outputs"] = [
        wanted("twice"), wanted("plots", "dir"), wanted("report", "file.html"), wanted("blob", "file"), wanted("model")
    ]  # fmt: skip
    kernel.start()

    assert kernel.run("df, raw, many = (_nbpipe.load(name) for name in ('df', 'raw', 'many'))") is None
    assert kernel.run("plots, report, blob = (_nbpipe.path(name) for name in ('plots', 'report', 'blob'))") is None
    assert (
        kernel.run("assert plots.is_dir() and not report.exists() and raw.read_text() == '1' and len(many) == 2")
        is None
    )
    assert kernel.run("(plots / 'a').write_text('x'); report.write_text('y'); blob.write_text('z')") is None
    assert kernel.run("twice = df * 2\nclass Model: pass\nmodel = Model()") is None
    assert kernel.told("outputs.json") is None
    assert kernel.run("_nbpipe.save(globals())") is None

    outputs = {told.pop("name"): told for told in kernel.told("outputs.json")["outputs"]}
    note = outputs["model"].pop("note")
    assert outputs == {
        "twice": {"format": "arrow", "basename": "twice.arrow", "note": ""},
        "plots": {"format": "dir", "basename": "plots", "note": ""},
        "report": {"format": "file", "basename": "report.html", "note": ""},
        "blob": {"format": "file", "basename": "blob", "note": ""},
        "model": {"format": "cloudpickle", "basename": "model.pkl"},
    }
    assert f"nbpipe: {note}\n" == kernel.printed
    pd.testing.assert_frame_equal(formats.load(kernel.folder / "staging/twice/twice.arrow", "arrow"), frame * 2)


@pytest.mark.parametrize(
    "output,cell,said",
    [
        (wanted("x"), "y = 1", "NameError: output `x` was not bound"),
        (wanted("x", "file.csv"), "", "FileNotFoundError: output `x` was not written: write a file"),
        (wanted("x", "file"), "_nbpipe.path('x').mkdir()", "FileNotFoundError: output `x` was not written as a file"),
        (wanted("x", "dir"), "x = 1", "FileNotFoundError: output `x` was not written: write a folder"),
        (wanted("x", "dir"), "(_nbpipe.path('x') / 'l').symlink_to('no')", "FileNotFoundError: output `x` holds 'l'"),
        (wanted("x", "json"), "x = {1, 2}", "NotStorable: output `x` (set) cannot be stored as json"),
        (wanted("x"), "x = (n for n in 'ab')", "NotStorable: output `x` (generator) cannot be stored as cloudpickle"),
    ],
)
def test_an_output_that_is_not_made_is_told_and_none_are_left(kernel, output, cell, said):
    kernel.job["outputs"] = [wanted("first"), output]
    kernel.start()
    kernel.run("first = 1\n" + cell)

    assert said in str(kernel.run("_nbpipe.save(globals())"))
    assert kernel.told("outputs.json") is None
    assert said.partition(": ")[0] == kernel.told("error.json")["ename"]


ENDINGS = ["quit()", "exit()", "exit", "import sys; sys.exit(0)", "raise SystemExit", "get_ipython().ask_exit()"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_step_that_leaves_early_has_no_outputs(kernel, ending):
    kernel.job["outputs"] = [wanted("x")]
    kernel.start()
    kernel.run("x = 1")
    kernel.run(ending)

    assert kernel.told("error.json")["ename"] == "SystemExit"
    assert "before its end, so it has no outputs" in str(kernel.run("_nbpipe.save(globals())"))
    assert kernel.told("outputs.json") is None


def test_leaving_is_not_undone_by_catching_it(kernel):
    kernel.start()
    kernel.run("try:\n    quit()\nexcept SystemExit:\n    pass")

    assert "quit() or exit()" in str(kernel.run("_nbpipe.save(globals())"))


@pytest.mark.parametrize(
    "cell,told",
    [
        ("x = 1\n\n1 / 0", {"ename": "ZeroDivisionError", "evalue": "division by zero", "line": 3}),
        ("def f():\n    raise ValueError('a: b')\n\nf()", {"ename": "ValueError", "evalue": "a: b", "line": 2}),
        ("x = 1\ny = (", {"ename": "SyntaxError", "line": 2}),
        ("if True:\nx = 1", {"ename": "IndentationError", "line": 2}),
        ("import json\njson.loads('{')", {"ename": "JSONDecodeError", "line": 2}),
        ("import sys\nsys.exit(3)", {"ename": "SystemExit", "evalue": "3", "line": 2}),
        ("await 1", {"ename": "TypeError", "line": 1}),
        ("raise KeyboardInterrupt", {"ename": "KeyboardInterrupt", "line": 1}),
        ("%time 1\n%run nosuch.py\n1 / 0", {"line": 2}),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_an_error_is_told_with_its_line_in_the_cell(kernel, cell, told):
    kernel.start()
    kernel.run("x = 1")
    assert kernel.told("error.json") is None
    kernel.run(cell)

    assert kernel.told("error.json") is not None
    assert kernel.told("error.json") | told == kernel.told("error.json")


CHANGES = {
    "write": "open(raw, 'w')",
    "append": "open(raw, 'ab')",
    "update": "open(raw, 'r+b')",
    "write_text": "raw.write_text('2')",
    "os.open": "import os; os.open(raw, os.O_WRONLY | os.O_TRUNC)",
    "truncate": "import os; os.truncate(raw, 0)",
    "remove": "raw.unlink()",
    "rename": "raw.rename(raw.parent / 'other')",
    "replace": "import os; open('new', 'w').close(); os.replace('new', raw)",
    "rmtree": "import shutil; shutil.rmtree(raw.parent)",
    "touch": "raw.touch()",
    "by a link": "import os; os.symlink(raw, 'link'); open('link', 'w')",
    "relative": "import os; os.chdir(raw.parent); open('raw.csv', 'w')",
    "by descriptor": "import os; os.unlink(raw.name, dir_fd=os.open(raw.parent, os.O_RDONLY))",
    "in a thread": "from concurrent.futures import ThreadPoolExecutor as T; T().submit(open, raw, 'w').result()",
    "pandas": "import pandas; pandas.DataFrame().to_csv(raw)",
}


def test_an_input_cannot_be_changed(kernel, tmp_path):
    raw = written(tmp_path / "data/raw.csv")
    folder = written(tmp_path / "folder/sub/x").parent.parent
    kernel.job["inputs"] = [given("raw", "path", [raw]), given("folder", "path", [folder])]
    kernel.start()
    kernel.run("raw, folder = _nbpipe.load('raw'), _nbpipe.load('folder')\nimport os; here = os.getcwd()")
    for name, change in CHANGES.items():
        assert "input `raw` is read-only" in str(kernel.run(change)), name
        kernel.run("os.chdir(here)")
    for change in ("(folder / 'new').touch()", "(folder / 'sub/x').unlink()", "(folder / 'd').mkdir()"):
        assert "input `folder` is read-only" in str(kernel.run(change)), change

    assert raw.read_text() == "1"
    assert kernel.run("open('free', 'w').close(); raw.parent.mkdir(exist_ok=True); folder.mkdir(exist_ok=True)") is None
    assert kernel.run("os.unlink('link'); (raw.parent / 'beside').write_text('x'); raw.read_text()") is None
    assert kernel.run("_nbpipe.save(globals())") is None


def test_a_private_copy_may_be_changed_and_what_it_was_copied_from_stays(kernel, tmp_path):
    raw = written(tmp_path / "data/raw.csv")
    folder = written(tmp_path / "folder/sub/x").parent.parent
    several = [written(tmp_path / f"many/{name}/part.csv") for name in ("a", "b")]
    for path in (raw, folder / "sub/x"):
        path.chmod(0o400)
    (folder / "sub").chmod(0o500)
    kernel.job["inputs"] = [
        {**given("raw", "path", [raw]), "private": True}, {**given("folder", "path", [folder]), "private": True},
        {**given("several", "paths", several), "private": True}, given("shared", "path", several[:1]),
    ]  # fmt: skip
    kernel.start()
    assert kernel.run("raw, folder, several = map(_nbpipe.load, ('raw', 'folder', 'several'))") is None
    assert kernel.run("raw.write_text('2'); (folder / 'sub/x').unlink(); (folder / 'sub/y').touch()") is None
    assert kernel.run("import os; os.system(f'echo 3 > {raw}')") is None
    assert kernel.run("assert [path.parent.name for path in several] == ['a', 'b']; several[0].unlink()") is None
    assert kernel.run("assert (raw.name, folder.name) == ('raw.csv', 'folder')") is None
    assert "input `shared` is read-only" in str(kernel.run("_nbpipe.load('shared').write_text('2')"))
    assert kernel.run("_nbpipe.save(globals())") is None
    assert kernel.run("import nbpipe; assert nbpipe.context().inputs['raw'] == raw") is None
    (folder / "sub").chmod(0o700)

    assert (raw.read_text(), (folder / "sub/x").read_text(), several[0].read_text()) == ("1", "1", "1")
    assert not (folder / "sub/y").exists()


@pytest.mark.parametrize(
    "change",
    ["echo 2 > raw.csv", "rm raw.csv", "sleep 0.02; cp raw.csv new; mv new raw.csv"],
)
def test_an_input_changed_behind_the_guard_fails_the_step(kernel, tmp_path, change):
    raw = written(tmp_path / "data/raw.csv")
    kernel.job["inputs"] = [given("raw", "path", [raw])]
    kernel.start()
    kernel.run(f"import subprocess; subprocess.run({change!r}, shell=True, cwd={str(raw.parent)!r}, check=True)")

    assert "input `raw` was changed while the step ran" in str(kernel.run("_nbpipe.save(globals())"))
    assert kernel.told("outputs.json") is None


def test_modules_are_the_frozen_ones(kernel):
    """What is on disk by now is not what runs, and tracebacks show what ran."""
    for name in ("helper.py", "pkg/__init__.py", "pkg/sub.py", "space/mod.py"):
        written(kernel.cwd / name, "raise RuntimeError('from disk')")
    kernel.job["modules"] = [
        kernel.module(kernel.cwd / "helper.py", "helper", "import pkg.sub\ndef f():\n    1 / 0  # as submitted\n"),
        kernel.module(kernel.cwd / "pkg/__init__.py", "pkg", "from . import sub", is_package=True),
        kernel.module(kernel.cwd / "pkg/sub.py", "pkg.sub", "value = 5"),
        kernel.module(kernel.cwd / "space/mod.py", "space.mod", "value = 6"),
    ]
    kernel.start()

    assert kernel.run("import helper, pkg.sub, space.mod\nassert (pkg.sub.value, space.mod.value) == (5, 6)") is None
    assert kernel.run(f"assert helper.__file__ == {str(kernel.cwd / 'helper.py')!r}") is None
    assert kernel.run("import inspect; assert 'as submitted' in inspect.getsource(helper.f)") is None
    assert (
        kernel.run(
            "import traceback\ntry:\n    helper.f()\nexcept ZeroDivisionError:\n    print(traceback.format_exc())"
        )
        is None
    )
    assert "as submitted" in kernel.printed
    kernel.run("x = 1\nhelper.f()")
    assert kernel.told("error.json")["line"] == 2


def test_data_files_beside_a_frozen_package_are_read_where_they_are(kernel):
    written(kernel.cwd / "pk/d.txt", "told")
    written(kernel.cwd / "pk/more/e.txt", "deeper")
    kernel.job["modules"] = [kernel.module(kernel.cwd / "pk/__init__.py", "pk", "value = 5", is_package=True)]
    kernel.start()

    assert kernel.run("import pk, pkgutil; from importlib.resources import files, as_file") is None
    assert kernel.run("assert files('pk').joinpath('d.txt').read_text() == 'told'") is None
    assert kernel.run("assert files(pk).joinpath('more', 'e.txt').read_text() == 'deeper'") is None
    assert kernel.run("with as_file(files(pk) / 'd.txt') as found: assert found.is_file()") is None
    assert kernel.run("assert pkgutil.get_data('pk', 'd.txt') == b'told' and pk.value == 5") is None


def test_a_rerun_leaves_the_attempt_as_it_was(kernel):
    kernel.job["outputs"] = [wanted("x"), wanted("f", "file")]
    kernel.start()
    cell = "x = {}; f = _nbpipe.path('f'); f.write_text(str(x))"
    kernel.run(cell.format(1))
    kernel.run("_nbpipe.save(globals())")
    before = {path: path.read_bytes() for path in kernel.folder.rglob("*") if path.is_file()}

    assert kernel.begin() is None
    assert "stays as it is; outputs of this rerun go to " in kernel.printed
    fresh = Path(kernel.printed.rpartition(" ")[2].strip())
    assert kernel.run(cell.format(2)) is None
    assert kernel.run("_nbpipe.save(globals())") is None
    kernel.run("1 / 0")

    assert {path: path.read_bytes() for path in kernel.folder.rglob("*") if path.is_file()} == before
    assert (fresh / "staging/x/x.json").read_text() == "2"


def test_a_removed_job_is_told(kernel):
    kernel.start()
    (kernel.folder / "job.json").unlink()

    assert "this step's run was removed" in str(kernel.begin())


def test_an_input_that_cannot_be_read_is_named(kernel, tmp_path):
    kernel.job["inputs"] = [given("df", "value", [written(tmp_path / "df.arrow", "no arrow")], "arrow")]
    kernel.start()

    assert str(kernel.run("_nbpipe.load('df')")).startswith("RuntimeError: input `df` (arrow, ")


def test_only_two_names_are_added(kernel):
    kernel.start()
    kernel.run("print(sorted(name for name in globals() if 'nbpipe' in name or name == '_sys' or name == 'formats'))")

    assert kernel.printed.strip() == "['_nbpipe', '_sys']"


def test_it_needs_nothing_but_the_standard_library(tmp_path):
    """Without site-packages it loads, takes an input and leaves an output."""
    library = write_bundle(tmp_path / "store")
    job = {"inputs": [], "outputs": [wanted("x")], "modules": []}
    job |= {"run": "r", "step": "s", "attempt": "a"}
    written(tmp_path / "job.json", json.dumps(job))
    code = (
        library.loading + "from nbpipe.execution.kernel_runtime import step_runtime as s\n"
        f"s.begin({str(tmp_path / 'job.json')!r}); s.save({{'x': [1]}})"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)

    assert (tmp_path / "staging/x/x.json").read_text() == "[1]"
    assert (tmp_path / "outputs.json").exists()


def test_shipped_sources_import_nothing_at_the_top_but_each_other(tmp_path):
    with zipfile.ZipFile(write_bundle(tmp_path).path) as archive:
        shipped = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
    assert "nbpipe/execution/kernel_runtime/step_runtime.py" in shipped
    for path, text in shipped.items():
        found = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
        assert set(found) <= {*sys.stdlib_module_names, "nbpipe"}, path
