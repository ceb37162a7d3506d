"""What a step records is history, not display: all of it arrives, whatever is printed, and however the kernel ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from notebook_author import Author

from nbpipe.data import metric_series, record_file
from nbpipe.data.event_file import PieceReader, metrics_of
from nbpipe.data.event_writer import EventFileWriter
from nbpipe.data.record_file import RecordWriter
from nbpipe.execution.kernel_runtime import step_api
from nbpipe.execution.output_limits import output_limiter
from nbpipe.model import Metric, MetricPoint, Status, StepEvent, StepEventKind
from nbpipe.views.json_output import metric_counts
from nbpipe.views.text_tables import event_lines, metric_lines
from nbpipe.workspace import Workspace

kernel = pytest.mark.kernel


def metrics(author: Author) -> list[Metric]:
    with Workspace.open(author.folder) as workspace:
        return workspace.runs.recorded("1")[2]


def values(author: Author, name: str = "m") -> list[float]:
    return [metric.value for metric in metrics(author) if metric.name == name]


def step(code: str) -> str:
    return f"%%step s -o x\nimport nbpipe\n{code}\nx = 1"


def events(author: Author) -> list[StepEvent]:
    (file,) = author.folder.glob(".nbpipe/runs/*/s/*/events.jsonl")
    return PieceReader(file.parent).read(0)


def displayed(author: Author) -> list[dict[str, object]]:
    """Get the data of what the executed notebook shows of records."""
    (file,) = author.folder.glob(".nbpipe/runs/*/s/*/notebook.ipynb")
    outputs = [output for cell in json.loads(file.read_bytes())["cells"] for output in cell["outputs"]]
    return [data for output in outputs if step_api.MIME in (data := output.get("data", {}))]


@kernel
def test_each_of_many_values_arrives_and_so_does_one_at_the_end(tmp_path):
    code = "for n in range(2000):\n    nbpipe.log_metric('m', n)\nnbpipe.log_metric('end', 0.5)\n"
    author = Author(tmp_path, step(code + "nbpipe.log_metric('end', float('nan'))\nnbpipe.log_metric('end', 1.5e308)"))
    author.run()

    assert values(author) == list(range(2000))
    assert [repr(value) for value in values(author, "end")] == ["0.5", "nan", "1.5e+308"]
    assert not list(author.folder.rglob(record_file.NAME))
    shown = [str(data["text/plain"]) for data in displayed(author)]
    assert shown == [*(f"m = {n}" for n in range(100)), "end = 0.5", "end = nan", "end = 1.5e+308", "m = 1999"]


@kernel
def test_of_very_many_values_the_middle_is_thinned_and_that_is_told(tmp_path):
    """100,000 of one name are recorded; of 250,000 of another first, last, extremes and how many there were."""
    code = (
        "for n in range(250_000):\n    nbpipe.log_metric('m', 9 if n == 123_457 else -9 if n == 234_561 else n % 7)\n"
        "    if n < 100_000:\n        nbpipe.log_metric('whole', n, step=n)"
    )
    author = Author(tmp_path, step(code))
    author.run()
    logged = metrics(author)
    thinned = [metric for metric in logged if metric.name == "m"]
    whole = [metric for metric in logged if metric.name == "whole"]

    assert [metric.value for metric in whole] == [metric.at for metric in whole] == list(range(100_000))
    assert [metric.ordinal for metric in thinned[:100_000]] == list(range(1, 100_001))
    assert 110_000 < len(thinned) < 115_000
    assert (thinned[0].value, thinned[-1].value, thinned[-1].ordinal) == (0, 1, 250_000)
    assert {(123_458, 9.0), (234_562, -9.0)} <= {(metric.ordinal, metric.value) for metric in thinned}
    assert metric_counts(logged) == {"s": {"m": 250_000, "whole": 100_000}}
    lines = metric_lines(logged)
    assert "s: whole = 99999 (the last of 100,000 values)" in lines
    assert (
        f"s: m = 1 (the last of 250,000 values, of which {len(thinned):,} are recorded, the first 0, from -9 to 9)"
        in lines
    )


@kernel
def test_threads_and_processes_of_a_step_record_like_itself(tmp_path):
    code = """\
import multiprocessing, subprocess, sys, threading
def many(name):
    for n in range(500):
        nbpipe.log_metric(name, n)
thread = threading.Thread(target=many, args=("thread",))
forked = multiprocessing.get_context("fork").Process(target=many, args=("forked",))
thread.start(); forked.start(); many("m")
thread.join(); forked.join()
program = "import nbpipe\\nfor n in range(500): nbpipe.log_metric('started', n)"
subprocess.run([sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\\n" + program], check=True)
"""
    author = Author(tmp_path, step(code))
    author.run()

    assert author.statuses() == {"s": Status.SUCCEEDED}
    for name in ("thread", "forked", "started", "m"):
        assert values(author, name) == list(range(500)), name


@kernel
def test_what_was_recorded_right_before_the_kernel_was_killed_is_there(tmp_path):
    code = "import os\nfor n in range(5_000):\n    nbpipe.log_metric('m', n)\nos.kill(os.getpid(), 9)"
    author = Author(tmp_path, step(code))
    author.run()

    assert author.statuses() == {"s": Status.FAILED}
    assert values(author) == list(range(5_000))
    assert not list(author.folder.rglob(record_file.NAME))


@kernel
def test_no_flood_drops_a_record(tmp_path):
    """Of what is printed and displayed much is left out; the table, the image and the end of the progress are not."""
    code = """\
import base64
png = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
for n in range(3_000):
    print("x" * 3_000)
    display(n)
    nbpipe.progress(n + 1, 3_000)
    nbpipe.log_metric("m", n)
nbpipe.log_table("rows", [{"a": 1}])
nbpipe.log_image("plot", png)
"""
    author = Author(tmp_path, step("from IPython.display import display\n" + code))
    author.run()
    told = events(author)

    assert values(author) == list(range(3_000))
    (table,) = (event.content for event in told if event.kind is StepEventKind.TABLE)
    assert (table["name"], table["columns"], table["rows"], table["ordinal"]) == ("rows", ["a"], [[1]], 1)
    assert [event.content["name"] for event in told if event.kind is StepEventKind.IMAGE] == ["plot"]
    assert [event.content["done"] for event in told if event.kind is StepEventKind.PROGRESS][-1] == 3_000
    shown = displayed(author)
    assert [list(data) for data in shown[100:]] == [
        [step_api.MIME, "text/plain"], [step_api.MIME, "image/png", "text/plain"], [step_api.MIME, "text/plain"],
    ]  # fmt: skip
    assert [data["text/plain"] for data in shown[100:]][2] == "m = 2999"


@kernel
def test_what_the_code_does_to_the_file_of_records_does_no_harm(tmp_path):
    code = """\
import os
from pathlib import Path
file = Path(os.environ["NBPIPE_RECORDS"])
nbpipe.log_metric("m", 0)
with file.open("ab") as records:
    records.write(b"garbage\\n{}\\n[" + b"[" * 100_000 + b"\\n" + b"\\xff\\x00" * 100)
    records.write(b'\\n{"kind": "metric", "name": "m"')
nbpipe.log_metric("m", 1)
with file.open("ab") as records:
    records.write(b'{"kind": "metric", "name": 1, "value": "x"}\\n{"kind": "stream", "text": 5}\\n' + b"x" * 30_000_000)
nbpipe.log_metric("m", 2)
for each in os.listdir("/proc/self/fd"):
    if os.path.basename(os.path.realpath("/proc/self/fd/" + each)) == file.name:
        os.close(int(each))
nbpipe.log_metric("m", 3)
file.unlink()
file.symlink_to("/dev/zero")
nbpipe.log_metric("m", 4)
"""
    author = Author(tmp_path, step(code))
    author.run()

    assert author.statuses() == {"s": Status.SUCCEEDED}
    assert values(author) == [0, 1, 2, 3, 4]
    assert not any(file.is_symlink() for file in author.folder.rglob(record_file.NAME))


def test_a_closed_descriptor_that_became_another_file_is_not_written_to(tmp_path):
    """The author's code may close any descriptor, and the next file that is opened gets its number."""
    with EventFileWriter(tmp_path):
        writer = RecordWriter(tmp_path / record_file.NAME)
        descriptor = writer._descriptor
        os.close(descriptor)
        with (tmp_path / "mine").open("wb") as mine:
            assert mine.fileno() == descriptor
            writer.write({"kind": "metric", "name": "m", "value": 1.0})
    assert (tmp_path / "mine").read_bytes() == b""
    assert [point.value for point in _points(PieceReader(tmp_path).read(0))] == [1.0]


def _points(told: Iterable[StepEvent]) -> list[MetricPoint]:
    return [point for event in told if event.kind is StepEventKind.METRIC for point in event.content["points"]]


def test_a_full_disk_is_an_error_of_the_code_that_records():
    with pytest.raises(OSError, match="No space left"):
        RecordWriter(Path("/dev/full")).write({"kind": "metric"})


def test_a_record_that_is_too_long_is_refused(tmp_path):
    with EventFileWriter(tmp_path), pytest.raises(ValueError, match="too long"):
        RecordWriter(tmp_path / record_file.NAME).write({"name": "x" * 10_000_000})


def test_records_of_many_writers_are_whole(tmp_path):
    with EventFileWriter(tmp_path):
        writer = RecordWriter(tmp_path / record_file.NAME)

        def many(name: str) -> None:
            for n in range(1_000):
                writer.write({"kind": "metric", "name": name, "value": n, "text": name * 500})

        threads = [threading.Thread(target=many, args=(name,)) for name in "abcd"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    points = _points(PieceReader(tmp_path).read(0))
    for name in "abcd":
        assert [point.value for point in points if point.name == name] == list(range(1_000))
        assert [point.ordinal for point in points if point.name == name] == list(range(1, 1_001))


def test_whoever_still_writes_at_the_end_stops_nobody(tmp_path):
    over = threading.Event()

    def forever() -> None:
        writer = RecordWriter(tmp_path / record_file.NAME)
        n = 0
        while not over.is_set():
            os.write(writer._descriptor, b'{"kind": "metric", "name": "m", "val')
            writer.write({"kind": "metric", "name": "m", "value": n})
            n += 1

    with EventFileWriter(tmp_path):
        thread = threading.Thread(target=forever)
        thread.start()
        thread.join(0.3)
    over.set()
    thread.join()
    told = [point.value for point in _points(PieceReader(tmp_path).read(0))]
    assert told == list(range(len(told)))
    assert told
    assert not (tmp_path / record_file.NAME).exists()


def test_tables_beyond_the_bound_are_the_first_ones_and_the_last(tmp_path):
    with EventFileWriter(tmp_path):
        writer = RecordWriter(tmp_path / record_file.NAME)
        for n in range(1_500):
            writer.write({"kind": "table", "name": "t", "columns": ["a"], "rows": [[n]], "count": 1})
    tables = [event.content for event in PieceReader(tmp_path).read(0)]
    assert [table["rows"][0][0] for table in tables] == [*range(1_000), 1_499]
    assert tables[-1]["ordinal"] == 1_500


def test_the_last_values_beyond_the_bound_are_recorded_wherever_the_series_ends(tmp_path):
    ends = metric_series.WHOLE + 13
    with EventFileWriter(tmp_path):
        lines = (json.dumps({"kind": "metric", "name": "m", "value": ends - n}) for n in range(1, ends + 1))
        (tmp_path / record_file.NAME).write_text("\n".join(lines) + "\n")
    points = _points(PieceReader(tmp_path).read(0))
    assert [point.ordinal for point in points[: metric_series.WHOLE]] == list(range(1, metric_series.WHOLE + 1))
    assert points[-1].ordinal == ends
    assert len(points) < ends


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("not a record\n")
    (tmp_path / record_file.NAME).symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        EventFileWriter(tmp_path)
    assert other.read_text() == "not a record\n"


def test_the_space_of_what_was_read_is_given_back(tmp_path):
    with EventFileWriter(tmp_path) as told:
        writer = RecordWriter(tmp_path / record_file.NAME)
        for n in range(2_000):
            writer.write({"kind": "metric", "name": "m", "value": n, "text": "x" * 2_000})
        told.begin_cell(1)
        status = (tmp_path / record_file.NAME).stat()
        assert status.st_size > 4_000_000
        assert status.st_blocks * 512 < 100_000
    assert len(_points(PieceReader(tmp_path).read(0))) == 2_000


def test_a_follower_sees_the_last_of_what_came_at_once(tmp_path):
    with EventFileWriter(tmp_path):
        writer = RecordWriter(tmp_path / record_file.NAME)
        for n in range(50):
            writer.write({"kind": "metric", "name": "m", "value": n, "step": None})
        writer.write({"kind": "metric", "name": "one", "value": 0.25})
    (event,) = PieceReader(tmp_path).read(0)
    assert event_lines("s", event) == ["s | m = 49.0 (the last of 50 values)", "s | one = 0.25"]
    assert len(metrics_of([event], "r", "s", "a")[0].metrics()) == 51


@kernel
def test_a_rerun_of_the_executed_notebook_leaves_the_attempt_as_it_was(tmp_path):
    author = Author(tmp_path, step("nbpipe.log_metric('m', 1)"))
    author.run()
    (notebook,) = author.folder.glob(".nbpipe/runs/*/s/*/notebook.ipynb")
    before = {file: file.read_bytes() for file in notebook.parent.iterdir() if file.is_file()}
    again = tmp_path / "again.ipynb"
    command = ["-m", "papermill", "--engine", "nbclient", "-k", "python3", str(notebook), str(again)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)

    assert {file: file.read_bytes() for file in notebook.parent.iterdir() if file.is_file()} == before
    assert "m = 1" in again.read_text()


def test_progress_of_bars_that_end_together_is_that_of_each(tmp_path):
    with EventFileWriter(tmp_path):
        writer = RecordWriter(tmp_path / record_file.NAME)
        for n in range(1, 101):
            writer.write({"kind": "progress", "done": n, "total": 100.0, "description": "outer"})
        writer.write({"kind": "progress", "done": 2.0, "total": None, "description": "endless"})
    told = [(event.content["description"], event.content["done"]) for event in PieceReader(tmp_path).read(0)]
    assert told[-2:] == [("outer", 100), ("endless", 2.0)]


def test_the_limiter_knows_what_a_record_is_shown_as():
    assert output_limiter.RECORD == step_api.MIME
