"""The command line as its user meets it: whole commands, a real cluster, exit codes, one JSON object."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from notebook_author import write_notebook

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

CELLS = (
    "rate: float = 0.5  # how much\nname = 'x'",
    "import pandas as pd\ndef scale(v):\n    return v * rate",
    "%%step make -o table,count\ntable = pd.DataFrame({'a': range(4)})\ncount = 4\nprint('made', count)",
    "%%step scaled -i table -o total\ntotal = float(scale(table.a.sum()))",
    "%%step files -i count -o plots:dir, sheet:file.csv\n(plots / 'one.txt').write_text('1')\nsheet.write_text('a,b')",
    (
        "%%step end -i total,plots,sheet -o report:json\n"
        "report = {'total': total, 'files': sorted(p.name for p in plots.iterdir()), 'sheet': sheet.name}\nreport"
    ),
)


def nbpipe(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one whole command."""
    command = [sys.executable, "-m", "nbpipe", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def started(folder: Path, *words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and see that it is gone afterwards whatever the test found."""
    command = [sys.executable, "-m", "nbpipe", *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, **more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """Get the one JSON object on standard output."""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Get a folder whose notebook was run once, and what that run said."""
    folder = tmp_path_factory.mktemp("project with spaces and ü")
    write_notebook(folder / "nb.ipynb", CELLS, parameters=0)
    done = nbpipe(folder, "run", "nb.ipynb", "--json", "--experiment", "first", "--tag", "who=ada")
    assert done.returncode == 0, done.stderr
    return folder, told(done)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a step of a running command has made a file."""
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.05)


def test_a_run_says_all_that_the_contract_names(project):
    _, run = project
    assert run["status"] == "succeeded"
    assert [step["name"] for step in run["steps"]] == ["make", "scaled", "files", "end"]
    for step in run["steps"]:
        assert step["status"] == "succeeded"
        assert step["attempts"] == 1
        assert step["seconds"] > 0
        assert step["error"] is None
        assert step["origin"] is None
        assert step["reasons"]
        assert json.loads(Path(step["notebook"]).read_text())["nbformat"] == 4
        for output in step["outputs"].values():
            assert output["uri"].startswith("file:///")
            assert output["digest"].startswith("blake3:")
    assert run["steps"][0]["outputs"]["table"]["format"] == "arrow"
    assert run["steps"][2]["outputs"]["plots"]["format"] == "dir"
    assert run["tags"] == {"who": "ada"}


def test_unchanged_everything_is_reused_without_the_heavy_libraries(project):
    folder, run = project
    heavy = "{'papermill', 'distributed', 'pyarrow', 'nbformat', 'nbclient', 'IPython', 'pandas'}"
    program = (
        "import sys; from nbpipe.cli.command import outcome; "
        f"assert outcome({['run', 'nb.ipynb', '--json']}) == 0; "
        f"assert not {heavy} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again = told(done)
    assert {step["status"] for step in again["steps"]} == {"reused"}
    assert {step["origin"]["run"] for step in again["steps"]} == {run["run"]}
    assert again["saved_seconds"] == pytest.approx(sum(step["seconds"] for step in run["steps"]))
    assert again["steps"][0]["outputs"] == run["steps"][0]["outputs"]


def test_a_plan_tells_verdicts_and_needs(project):
    folder, run = project
    plan = told(nbpipe(folder, "plan", "nb.ipynb", "--json", "-p", "rate=2"))
    assert {step["name"]: step["verdict"] for step in plan["steps"]} == {
        "make": "reuse", "scaled": "run", "files": "reuse", "end": "depends",
    }  # fmt: skip
    scaled = plan["steps"][1]
    assert scaled["reasons"] == [{"component": "parameter:rate", "was": "0.5", "now": "2.0"}]
    assert scaled["needs"] == ["make"]
    assert plan["steps"][0]["origin"] == {"run": run["run"], "step": "make"}
    assert plan["steps"][0]["saved_seconds"] > 0


def test_why_logs_pull_status_runs_show_and_lint(project, tmp_path):
    folder, run = project
    assert "parameter rate: 0.5 → 9" in nbpipe(folder, "why", "nb.ipynb", "scaled", "-p", "rate=9").stdout
    assert nbpipe(folder, "logs", "nb.ipynb", "make").stdout == "made 4\n"
    for name, check in (("report", Path.read_text), ("files.sheet", Path.read_text), ("plots", os.listdir)):
        target = tmp_path / f"{name}.any"
        assert nbpipe(folder, "pull", "nb.ipynb", name, "--to", str(target)).returncode == 0
        assert check(target)
    assert json.loads((tmp_path / "report.any").read_text()) == {
        "total": 3.0,
        "files": ["one.txt"],
        "sheet": "sheet.csv",
    }
    assert "make" in nbpipe(folder, "status", "nb.ipynb").stdout
    assert told(nbpipe(folder, "runs", "--json"))["runs"][-1]["run"] == run["run"]
    assert told(nbpipe(folder, "show", "1", "--json"))["run"] == run["run"]
    assert nbpipe(folder, "lint", "nb.ipynb").returncode == 0


def test_runs_are_listed_with_the_steps_that_ran_and_narrowed(project):
    folder, run = project

    def listed(*words: str) -> list[dict[str, Any]]:
        return [one for one in told(nbpipe(folder, "runs", "--json", *words))["runs"] if one["run"] == run["run"]]

    (found,) = listed("nb.ipynb", "--limit", "1000")
    assert found["steps"] == ["make", "scaled", "files", "end"]
    wanted = ("--experiment", "first", "--tag", "who=ada", "--status", "succeeded", "--step", "files")
    assert listed(*wanted) == listed("nb.ipynb", *wanted) == listed("other.ipynb", "--all", *wanted) == [found]
    assert listed("other.ipynb") == listed("--status", "failed") == listed("--step", "nobody") == []
    assert listed("--tag", "who=eve") == listed("--experiment", "second") == []
    assert "make, scaled, files, end" in nbpipe(folder, "runs", *wanted).stdout


@pytest.mark.parametrize(
    "words, code",
    [
        (("run", "nb.ipynb", "-p", "rat=1"), "bad-parameter"),
        (("run", "nb.ipynb", "-p", "rate=fast"), "bad-parameter"),
        (("run", "nb.ipynb", "-p", "rate"), "bad-usage"),
        (("run", "nb.ipynb", "mak"), "bad-usage"),
        (("run", "nb.ipynb", "--frm", "make"), "bad-usage"),
        (("run", "nob.ipynb"), "notebook-unreadable"),
        (("runn", "nb.ipynb"), "bad-usage"),
        (("debug", "nb.ipynb"), "bad-usage"),
        (("debug", "nob.ipynb", "make"), "notebook-unreadable"),
        (("run", "nb.ipynb", "--tag", "a=1", "--tag", "a=2"), "bad-usage"),
        (("runs", "--limit", "0"), "bad-usage"),
        (("run", "nb.ipynb", "--here"), "bad-usage"),
        (("defaults", "retries=1"), "bad-usage"),
        (("why", "nb.ipynb", "nobody"), "bad-usage"),
        (("pull", "nb.ipynb", "nothing"), "bad-usage"),
        (("show", "nope"), "bad-usage"),
        (("plan",), "bad-usage"),
    ],
)
def test_wrong_words_end_with_2_and_say_what_to_do(project, words, code):
    folder, _ = project
    done = nbpipe(folder, *words, "--json")
    assert done.returncode == 2
    (error,) = told(done)["errors"]
    assert error["code"] == code
    assert error["message"]
    assert "Traceback" not in done.stderr


def test_a_failing_step_ends_with_1_and_what_had_finished_is_kept(tmp_path):
    write_notebook(
        tmp_path / "f.ipynb",
        ["%%step ok -o a\na = 1", "%%step boom -i a -o b\nc = 2\nb = a / 0", "%%step after -i b -o d\nd = b"],
    )
    done = nbpipe(tmp_path, "run", "f.ipynb", "--json")
    assert done.returncode == 1
    run = told(done)
    assert [step["status"] for step in run["steps"]] == ["succeeded", "failed", "skipped"]
    error = run["steps"][1]["error"]
    assert (error["ename"], error["cell"], error["line"]) == ("ZeroDivisionError", 2, 3)
    assert run["status"] == "failed"
    again = nbpipe(tmp_path, "run", "f.ipynb")
    assert again.returncode == 1
    assert "ZeroDivisionError" in again.stderr
    assert "reused" in again.stdout
    going = told(nbpipe(tmp_path, "run", "f.ipynb", "--keep-going", "--json"))
    assert going["status"] == "partial"
    assert "ZeroDivisionError" in nbpipe(tmp_path, "logs", "f.ipynb", "boom").stdout


def test_everything_wrong_with_a_notebook_is_told_at_once_and_nothing_runs(tmp_path):
    write_notebook(
        tmp_path / "w.ipynb",
        [
            "%%step a -o x\nx = undefined_thing",
            "%%step b -i q -o y\ny = q",
            "%%step c --gpus 1\nz = 1",
            "%%step d -o w\nw = (",
        ],
    )
    done = nbpipe(tmp_path, "run", "w.ipynb", "--json")
    assert done.returncode == 2
    errors = told(done)["errors"]
    assert {error["code"] for error in errors} >= {"undeclared-name", "bad-pipeline", "bad-directive", "bad-code"}
    assert {error["cell"] for error in errors} == {1, 2, 3, 4}
    assert told(nbpipe(tmp_path, "runs", "--json")) == {"runs": []}


def test_a_workspace_that_cannot_be_made_ends_with_3(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%%step a -o x\nx = 1"])
    (tmp_path / "file").write_text("")
    done = nbpipe(tmp_path, "run", "n.ipynb", "--workspace", str(tmp_path / "file" / "ws"), "--json")
    assert done.returncode == 3
    assert told(done)["errors"][0]["code"] == "store-out-of-reach"


def test_another_workspace_holds_everything(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%%step a -o x\nx = 1"])
    done = nbpipe(tmp_path, "run", "n.ipynb", "--workspace", str(tmp_path / "ws"))
    assert done.returncode == 0
    assert not (tmp_path / ".nbpipe").exists()
    assert (tmp_path / "ws" / "history.db").is_file()


def test_logs_that_are_gone_say_so_and_why_names_runs_by_number(tmp_path):
    write_notebook(tmp_path / "n.ipynb", ["%%step one -o x\nprint('said')\nx = 1"])
    ran = told(nbpipe(tmp_path, "run", "n.ipynb", "--json"))
    nbpipe(tmp_path, "run", "n.ipynb")
    Path(ran["steps"][0]["notebook"]).unlink()
    kept = nbpipe(tmp_path, "logs", "n.ipynb", "one")
    assert (kept.returncode, kept.stdout) == (0, "said\n"), "what it printed is stored with its result"
    for display in (tmp_path / ".nbpipe" / "store").rglob("display.json"):
        display.unlink()
    explained, logs = nbpipe(tmp_path, "why", "n.ipynb", "one"), nbpipe(tmp_path, "logs", "n.ipynb", "one")
    assert "from run 1" in explained.stdout
    assert ran["run"][:8] not in explained.stdout
    assert logs.returncode == 2
    assert "no longer exists" in logs.stderr
    assert "--force one" in logs.stderr
    assert "Traceback" not in logs.stderr


def test_ctrl_c_cancels_the_run_and_leaves_no_process(tmp_path):
    write_notebook(
        tmp_path / "s.ipynb", ["%%step slow -o x\nopen('on', 'w').close()\nimport time\ntime.sleep(60)\nx = 1"]
    )
    with started(tmp_path, "run", "s.ipynb", "--json", process_group=0) as process:
        wait_for(tmp_path / "on", process)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "cancelled"
    assert json.loads(out)["steps"][0]["status"] == "cancelled"
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_a_killed_run_is_lost_and_the_next_finishes_only_what_is_missing(tmp_path):
    write_notebook(
        tmp_path / "s.ipynb",
        [
            "%%step quick -o x\nx = 1",
            (
                "%%step slow -i x -o y\nimport os, time\nif not os.path.exists('on'):\n    open('on', 'w').close()\n"
                "    time.sleep(60)\ny = x"
            ),
        ],
    )
    with started(tmp_path, "run", "s.ipynb") as process:
        wait_for(tmp_path / "on", process)
        children = psutil.Process(process.pid).children(recursive=True)
    run = told(nbpipe(tmp_path, "run", "s.ipynb", "--json"))
    assert [step["status"] for step in run["steps"]] == ["reused", "succeeded"]
    assert [run["status"] for run in told(nbpipe(tmp_path, "runs", "--json"))["runs"]] == ["succeeded", "lost"]
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_two_processes_at_once_compute_each_step_once(tmp_path):
    write_notebook(
        tmp_path / "s.ipynb",
        ["%%step a -o x\nimport time\nopen('log', 'a').write('a\\n')\ntime.sleep(2)\nx = 1",
         "%%step b -i x -o y\nopen('log', 'a').write('b\\n')\ny = x"],
    )  # fmt: skip
    words = ("run", "s.ipynb", "--json")
    with started(tmp_path, *words) as one, started(tmp_path, *words) as other:
        runs = [json.loads(process.communicate(timeout=60)[0]) for process in (one, other)]
        assert [one.returncode, other.returncode] == [0, 0]
    assert sorted((tmp_path / "log").read_text().split()) == ["a", "b"]
    for place in range(2):
        assert sorted(run["steps"][place]["status"] for run in runs) == ["reused", "succeeded"]


def test_two_independent_steps_run_at_the_same_time(tmp_path):
    wait = "import os, time\nown, other = (bytes.fromhex(each).decode() for each in ('{0}', '{1}'))\n"
    wait += "open(own, 'w').close()\nend = time.time() + 20\nwhile not os.path.exists(other):\n"
    wait += "    assert time.time() < end\n    time.sleep(0.01)\n{2} = 1"
    # In memory, where nothing is observed, and under names that the text does not show: a file that one of two
    # unordered steps writes and the other sees is refused.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        one, two = (f"{memory}/{name}".encode().hex() for name in ("one", "two"))
        cells = ["%%step one -o x\n" + wait.format(one, two, "x"), "%%step two -o y\n" + wait.format(two, one, "y")]
        write_notebook(tmp_path / "s.ipynb", cells)
        assert nbpipe(tmp_path, "run", "s.ipynb").returncode == 0
