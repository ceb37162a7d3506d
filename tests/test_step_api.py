"""What a running step tells is seen at once, in order and complete, and its numbers are kept under their names."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notebook_author import Author

import nbpipe
from nbpipe.compute.targets import default_target
from nbpipe.compute.thread_executor import ThreadExecutor
from nbpipe.data import record_file
from nbpipe.data.event_file import NAME, PieceReader, metrics_of
from nbpipe.data.event_writer import EventFileWriter
from nbpipe.data.record_file import RecordWriter
from nbpipe.data.record_reader import event_in
from nbpipe.model import StepEvent, StepEventKind
from nbpipe.run.reports import RunReport
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_execution import execute_run


def told(events: list[StepEvent]) -> list[tuple[str, object]]:
    """Get kinds and contents."""
    return [(event.kind, event.content.get("text")) for event in events]


def recorder(folder: Path) -> RecordWriter:
    """Get what a step's kernel records with."""
    return RecordWriter(folder / record_file.NAME)


def metric(value: float, step: int | None = None) -> dict[str, object]:
    return {"kind": "metric", "name": "m", "value": value, "step": step, "time": 1.0}


def test_what_is_told_is_read_in_order_with_streams_joined(tmp_path):
    with EventFileWriter(tmp_path) as events:
        events.tell(StepEventKind.STREAM, 2, {"name": "stdout", "text": "a"})
        events.tell(StepEventKind.STREAM, 2, {"name": "stdout", "text": "b"})
        events.tell(StepEventKind.STREAM, 2, {"name": "stderr", "text": "c"})
        events.tell(StepEventKind.STREAM, 3, {"name": "stderr", "text": "d"})
    found = PieceReader(tmp_path).read(0)

    assert told(found) == [("stream", "ab"), ("stream", "c"), ("stream", "d")]
    assert [event.number for event in found] == [1, 2, 3]


def test_a_tail_gives_each_event_once_and_waits_for_a_whole_line(tmp_path):
    tail = PieceReader(tmp_path)
    assert tail.read(0) == []
    with EventFileWriter(tmp_path) as events:
        events.tell(StepEventKind.DISPLAY, 1, {"text": "x"})
    assert len(tail.read(0)) == 1
    assert tail.read(1) == []
    with (tmp_path / NAME).open("ab") as file:
        line = b'{"number": 2, "time": 1.0, "kind": "display", "cell": 1, "content": {"text": "y"}}\n'
        file.write(line[:30])
        file.flush()
        assert tail.read(1) == []
        file.write(line[30:])
    assert told(tail.read(1)) == [("display", "y")]


def test_a_flood_is_cut_and_counted_but_numbers_are_not(tmp_path):
    with EventFileWriter(tmp_path) as events:
        for number in range(200):
            events.tell(StepEventKind.DISPLAY, 1, {"text": "x" * 50_000})
            recorder(tmp_path).write(metric(float(number), number))
    found = PieceReader(tmp_path).read(0)

    assert (tmp_path / NAME).stat().st_size < 10 << 20
    assert found[-1].kind is StepEventKind.CUT
    assert found[-1].content["count"] + sum(event.kind is StepEventKind.DISPLAY for event in found) == 200
    logged = [each for fact in metrics_of(found, "r", "s", "a") for each in fact.metrics()]
    assert [each.value for each in logged] == [float(n) for n in range(200)]


def write_pieces(folder: Path, count: int) -> list[bytes]:
    """Write pieces that say their number, and get their lines."""
    with EventFileWriter(folder) as events:
        for number in range(1, count + 1):
            events.tell(StepEventKind.DISPLAY, 1, {"text": str(number)})
    return (folder / NAME).read_bytes().splitlines(keepends=True)


@given(after=st.integers(0, 12), upto=st.one_of(st.none(), st.integers(0, 12)))
def test_pieces_are_read_by_number(tmp_path_factory, after, upto):
    folder = tmp_path_factory.mktemp("pieces")
    write_pieces(folder, 10)
    wanted = list(range(after + 1, min(10, 10 if upto is None else upto) + 1))
    reader = PieceReader(folder)
    for _ in range(2):
        assert [event.number for event in reader.read(after, upto)] == wanted
    assert [event.content["text"] for event in PieceReader(folder).read(after, upto)] == [
        str(number) for number in wanted
    ]


def test_a_reader_reads_what_came_since_and_what_was_there_before(tmp_path):
    lines = write_pieces(tmp_path, 5)
    (tmp_path / NAME).write_bytes(b"".join(lines[:3]) + lines[3][:20])
    reader = PieceReader(tmp_path)
    assert [event.number for event in reader.read(0)] == [1, 2, 3]
    assert reader.read(3) == []
    with (tmp_path / NAME).open("ab") as file:
        file.write(lines[3][20:] + lines[4])
    assert [event.number for event in reader.read(3)] == [4, 5]
    assert [event.number for event in reader.read(1, 2)] == [2]


def test_there_are_no_pieces_where_nothing_was_told(tmp_path):
    assert PieceReader(tmp_path).read(0) == []
    assert PieceReader(tmp_path / "nowhere").read(0, 5) == []


@pytest.mark.parametrize("damage", [b"", b"\x00\x00\n", b'{"number": 4, "ti\n', b'{"number": 4, "kind": "new"}\n'])
def test_a_gap_is_one_note_in_its_place(tmp_path, damage):
    """Pieces 4 and 5 of 7; whoever goes on from any number in between hears of what is missing from there."""
    lines = write_pieces(tmp_path, 7)
    (tmp_path / NAME).write_bytes(b"".join([*lines[:3], damage, *lines[5:]]))
    found = PieceReader(tmp_path).read(2)
    assert [event.number for event in found] == [3, 5, 6, 7]
    assert found[1].content["text"] == "[nbpipe: pieces 4 to 5 of the step's output cannot be read]\n"
    (rest,) = PieceReader(tmp_path).read(4, 5)
    assert "piece 5 of" in rest.content["text"]
    assert [event.number for event in PieceReader(tmp_path).read(5)] == [6, 7]


def test_whenever_pieces_were_written_their_number_is_announced(tmp_path):
    """What was announced can be read by then."""
    announced: list[int] = []

    def note(number: int) -> None:
        assert [event.number for event in PieceReader(tmp_path).read(0, number)] == list(range(1, number + 1))
        announced.append(number)

    with EventFileWriter(tmp_path, wrote=note) as events:
        for number in range(200):
            events.tell(StepEventKind.DISPLAY, 1, {"text": "x" * 50_000})
            if number % 40 == 0:
                time.sleep(0.1)
    found = PieceReader(tmp_path).read(0)

    assert 2 <= len(announced) <= 20
    assert announced == sorted(set(announced))
    assert announced[-1] == found[-1].number
    assert found[-1].kind is StepEventKind.CUT


@given(text=st.text())
def test_any_text_arrives_as_it_was(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("events")
    with EventFileWriter(folder) as events:
        events.tell(StepEventKind.DISPLAY, None, {"text": text})
    assert told(PieceReader(folder).read(0)) == [("display", text)]


def test_outside_of_a_run_telling_is_harmless():
    nbpipe.log_metric("accuracy", 0.5)
    nbpipe.log_table("t", [{"a": 1}])
    nbpipe.log_image("p", b"\x89PNG")
    nbpipe.progress(1, 2)
    assert nbpipe.context().active is False
    assert (nbpipe.context().run, dict(nbpipe.context().parameters)) == ("", {})


@pytest.mark.parametrize("value", ["1", True, None, [1], 1j])
def test_a_metric_is_a_number(value):
    with pytest.raises(TypeError, match="'m' is a"):
        nbpipe.log_metric("m", value)


@pytest.mark.parametrize("step", [1.5, "1", 10**30])
def test_the_step_of_a_metric_is_a_whole_number(step):
    with pytest.raises(TypeError, match="not a whole number"):
        nbpipe.log_metric("m", 1.0, step=step)


FOREIGN = [
    None, [], "metric", {"kind": "metric"}, {"kind": "metric", "name": 1, "value": 1.0}, {"kind": ["metric"]},
    {"kind": "metric", "name": "m", "value": "many"}, {"kind": "metric", "name": "m", "value": 10**400},
    {"kind": "metric", "name": "m", "value": True},
    {"kind": "metric", "name": "m", "value": 1, "step": 2**70}, {"kind": "progress", "done": None}, {"kind": "cut"},
    {"kind": "stream", "text": "x"}, {"kind": "progress", "done": 1, "description": 2},
]  # fmt: skip


@pytest.mark.parametrize("data", FOREIGN)
def test_what_only_looks_like_an_event_is_none(data):
    """A step's code may display anything under our name; it must not bring down whoever listens."""
    assert event_in(data) is None


@pytest.mark.parametrize("table", ["ab", [1, 2], [[1]]])
def test_a_table_has_named_columns(table):
    with pytest.raises(TypeError, match="'t'"):
        nbpipe.log_table("t", table)


CODE = (
    "%%step s -o x\nimport time\nfor epoch in range(3):\n    print('epoch', epoch, flush=True)\n"
    "    nbpipe.log_metric('loss', 1 / (epoch + 1), step=epoch)\n    nbpipe.progress(epoch + 1, 3)\n"
    "    time.sleep(0.25)\n"
    "nbpipe.log_metric('bad', float('nan'))\nnbpipe.log_table('rows', pd.DataFrame({'a': [1, 2], 'b': ['x', None]}))\n"
    "fig, ax = plt.subplots()\nnbpipe.log_image('plot', fig)\nplt.close(fig)\n"
    "here = nbpipe.context()\nx = [here.run, here.experiment, here.step, dict(here.parameters), list(here.inputs)]"
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run a step that tells, and get where, what was heard with its delay, and the report."""
    folder = tmp_path_factory.mktemp("telling")
    (folder / "raw.txt").write_text("1")
    code = CODE.replace("-o x", "-i raw=./raw.txt -o x") + "\nrate, raw"
    imports = "import nbpipe\nimport pandas as pd\nimport matplotlib.pyplot as plt"
    author = Author(folder, "rate = 2\nother = 3", imports, code, parameters=0)
    heard: list[tuple[float, StepEvent]] = []
    executor = ThreadExecutor(default_target(1))
    with Workspace.open(folder) as workspace:
        report = execute_run(workspace, request_for(author.write()), RunOptions(experiment="trial"),
            lambda update: heard.extend(
                (time.time() - event.time, event) for output in update.attempt_outputs for event in output.events
            ),
            lambda: executor,
        )  # fmt: skip
    executor.close()
    return author, heard, report


@pytest.mark.kernel
@pytest.mark.slow
class TestARunningStep:
    """One real step that tells all there is to tell."""

    def test_is_heard_while_it_runs_in_order(self, ran):
        _, heard, _ = ran
        lines = [event.content["text"] for _, event in heard if event.kind is StepEventKind.STREAM]
        assert lines == [f"epoch {n}\n" for n in range(3)]
        assert [event.content["done"] for _, event in heard if event.kind is StepEventKind.PROGRESS] == [1.0, 2.0, 3.0]
        assert [event.number for _, event in heard] == sorted(event.number for _, event in heard)
        assert all(event.cell == 3 for _, event in heard)

    def test_leaves_its_numbers_under_their_names(self, ran):
        author, _, report = ran
        with Workspace.open(author.folder) as workspace:
            metrics = workspace.runs.metrics(report.run.id)
        loss = [(metric.at, metric.value) for metric in metrics if metric.name == "loss"]
        assert loss == [(n, 1 / (n + 1)) for n in range(3)]
        assert [metric.value != metric.value for metric in metrics if metric.name == "bad"] == [True]

    def test_leaves_what_it_told_in_the_executed_notebook_but_for_progress(self, ran):
        _, _, report = ran
        notebook = json.loads(Path(report.steps[0].notebook).read_text())
        outputs = [output for cell in notebook["cells"] for output in cell["outputs"]]
        kinds = [output["data"]["application/vnd.nbpipe.event+json"]["kind"] for output in outputs if _is_ours(output)]
        assert kinds == ["metric"] * 4 + ["table", "image"]
        assert all("text/plain" in output["data"] for output in outputs if _is_ours(output))
        assert "image/png" in outputs[-1].get("data", {}) or any("image/png" in o.get("data", {}) for o in outputs)

    def test_knows_its_run(self, ran):
        author, _, report = ran
        author.report = report
        assert author.value("x") == [report.run.id, "trial", "s", {"rate": 2}, ["raw"]]

    def test_gives_its_numbers_to_whoever_reuses_it(self, ran):
        author, _, _ = ran
        assert author.run() == set()
        with Workspace.open(author.folder) as workspace:
            assert {metric.name for metric in workspace.runs.metrics(_run(author.report))} == {"loss", "bad"}
        command = [sys.executable, "-m", "nbpipe", "show", str(author.report.run.number), "--json"]
        shown = subprocess.run(command, cwd=author.folder, check=True, capture_output=True, text=True)
        (step,) = json.loads(shown.stdout)["steps"]
        assert [value["step"] for value in step["metrics"]["loss"]] == [0, 1, 2]
        assert step["metrics"]["bad"][0]["value"] == "nan"


def _is_ours(output: dict) -> bool:
    return "application/vnd.nbpipe.event+json" in output.get("data", {})


def _run(report: RunReport | None) -> str:
    assert report is not None
    return report.run.id


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_a_run_is_followed_from_another_terminal(tmp_path):
    author = Author(tmp_path, "import nbpipe", CODE.split("nbpipe.log_metric('bad'", maxsplit=1)[0] + "x = 1")
    subprocess.run(
        [sys.executable, "-m", "nbpipe", "run", str(author.write()), "--detach"], check=True, capture_output=True
    )
    command = [sys.executable, "-m", "nbpipe", "status", str(author.path), "--follow"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if "epoch" in line] == [f"s | epoch {n}" for n in range(3)]
    assert "s | 3 of 3" in done.stderr
    assert "s: loss = 0.333333 (the last of 3 values)" in done.stdout


@pytest.mark.kernel
@pytest.mark.cluster
@pytest.mark.slow
def test_the_log_of_a_running_step_is_what_it_has_printed_so_far(tmp_path):
    """From its very process, and from one that it started; when it has ended, the log is whole."""
    code = (
        "%%step s -o x\nimport os, subprocess, time\nprint('so far')\nsubprocess.run(['echo', 'and a child'])\n"
        "open('on', 'w').close()\nwhile not os.path.exists('over'):\n    time.sleep(0.05)\nprint('to the end')\nx = 1"
    )
    author = Author(tmp_path, code)
    command = [sys.executable, "-m", "nbpipe"]
    subprocess.run([*command, "run", str(author.write()), "--detach"], check=True, capture_output=True)

    def log() -> tuple[str, bool]:
        told = subprocess.run(
            [*command, "logs", str(author.path), "s", "--json"], check=True, capture_output=True, timeout=60
        )
        found = json.loads(told.stdout)
        return found["log"], found["notebook"] is not None

    ends = time.monotonic() + 60
    while not (tmp_path / "on").exists() or log()[0] != "so far\nand a child":
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert log() == ("so far\nand a child", False)
    (tmp_path / "over").touch()
    subprocess.run([*command, "status", str(author.path), "--follow"], check=True, capture_output=True, timeout=60)
    assert log() == ("so far\nand a child\nto the end", True)
