"""Large unknown content is left to the run: the plan says what is not read yet, the run reads it, then decides."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_in_process import said
from scripted_executor import Bench, Fail, by_code

from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.cli.transfer_progress import transfer_progress
from nbpipe.errors import StoreOutOfReach
from nbpipe.model import DependsVerdict, ReuseVerdict, RunVerdict, Status
from nbpipe.resolve import remote_inputs
from nbpipe.resolve.remote_inputs import RemoteInputs
from nbpipe.run.input_transfers import InputTransfer, InputTransfers
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import execute_run
from nbpipe.workspace.step_contexts import context_now

BIG = "%%step big -i raw=store:lake/big.bin -o a:json\na = raw.stat().st_size"
READER = "%%step reader -i a -o b:json\nb = a + 1"
SMALL = "%%step small -i raw=store:lake/small.bin -o c:json\nc = raw.stat().st_size"
LIMIT = 1000


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Get a notebook with an input that is larger than what a plan reads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_inputs, "SMALL", LIMIT)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/big.bin").write_bytes(bytes(5000))
    (tmp_path / "lake/small.bin").write_bytes(bytes(10))
    (tmp_path / "nbpipe.toml").write_text('[datastores.lake]\nurl = "./lake"\n')
    made = Bench(tmp_path, [BIG, READER, SMALL])
    yield made
    made.executor.close()


def test_the_plan_says_what_is_not_read_and_reads_nothing_of_it(bench, tmp_path):
    decisions = bench.plan().decisions
    verdict = decisions["big"].verdict
    assert isinstance(verdict, DependsVerdict)
    (reason,) = verdict.reasons
    assert (reason.component, reason.was) == ("unread:raw", None)
    assert reason.now == "content of store:lake/big.bin not read yet (5.0 kB)"
    assert isinstance(decisions["small"].verdict, RunVerdict)
    assert [path.stat().st_size for path in (tmp_path / "cache").rglob("*.bin")] == [10]


def test_a_plan_reads_so_much_in_all(bench, tmp_path):
    (tmp_path / "lake/small.bin").write_bytes(bytes(600))
    (tmp_path / "lake/other.bin").write_bytes(bytes(601))
    bench.sources.append("%%step other -i raw=store:lake/other.bin -o d:json\nd = 1")
    verdicts = {name: type(decision.verdict) for name, decision in bench.plan().decisions.items()}
    assert (verdicts["small"], verdicts["other"]) == (RunVerdict, DependsVerdict)
    # What the first plan has read is known to the next one.
    verdicts = {name: type(decision.verdict) for name, decision in bench.plan().decisions.items()}
    assert (verdicts["small"], verdicts["other"]) == (RunVerdict, RunVerdict)


def test_the_run_reads_it_then_decides_the_step_and_its_readers(bench, tmp_path):
    assert sorted(bench.run()) == ["big", "reader", "small"]
    assert bench.statuses() == dict.fromkeys(["big", "reader", "small"], "succeeded")
    # It is known now.
    decisions = bench.plan().decisions
    assert all(isinstance(decision.verdict, ReuseVerdict) for decision in decisions.values())
    assert bench.run() == []
    # The same bytes, unknown again: read by the run, and reused.
    content = (tmp_path / "lake/big.bin").read_bytes()
    (tmp_path / "lake/big.bin").unlink()
    (tmp_path / "lake/big.bin").write_bytes(content)
    assert isinstance(bench.plan().decisions["big"].verdict, DependsVerdict)
    assert bench.run() == []
    assert bench.statuses() == dict.fromkeys(["big", "reader", "small"], "reused")
    (tmp_path / "lake/big.bin").write_bytes(bytes(5001))
    assert bench.run() == ["big", "reader"]


def test_two_steps_that_read_the_same_have_it_read_once(bench, tmp_path, monkeypatch):
    read: list[str] = []
    keep = RemoteInputs._read

    def counted(self: RemoteInputs, store: Any, each: Any, progress: Any) -> Any:
        read.append(each.info.key)
        return keep(self, store, each, progress)

    monkeypatch.setattr(RemoteInputs, "_read", counted)
    bench.sources.append(BIG.replace("big -i", "twin -i").replace("-o a", "-o z").replace("a = ", "z = 1 + "))
    assert sorted(bench.run()) == ["big", "reader", "small", "twin"]
    assert sorted(read) == ["big.bin", "small.bin"]


@pytest.mark.parametrize("forced", [("big",), ()])
def test_a_forced_step_is_read_first_too(bench, forced):
    assert sorted(bench.run(force=forced)) == ["big", "reader", "small"]
    assert bench.step("big").key


def test_a_kept_result_needs_no_reading(bench, tmp_path):
    bench.sources[0] = BIG.replace("\na =", "\n#| reuse: keep\na =")
    bench.run()
    (tmp_path / "lake/big.bin").write_bytes(bytes(7000))
    assert isinstance(bench.plan().decisions["big"].verdict, ReuseVerdict)
    assert bench.run() == []


def test_what_cannot_be_read_fails_its_step_only(bench, tmp_path, monkeypatch):
    def broken(self: RemoteInputs, text: str, progress: Any) -> Any:
        raise StoreOutOfReach(f"`{text}` is out of reach", "Wait.")

    monkeypatch.setattr(RemoteInputs, "read", broken)
    bench.run(RunOptions(keep_going=True))
    assert bench.statuses() == {"big": "failed", "reader": "skipped", "small": "succeeded"}
    failure = bench.step("big").failure
    assert failure is not None
    assert "`store:lake/big.bin` is out of reach" in failure.message


class Slow:
    """Reading that tells its progress piece by piece until it may end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_end, self.stopped = threading.Event(), threading.Event()
        read = RemoteInputs.read

        def slow(remote: RemoteInputs, text: str, progress: Any) -> Any:
            try:
                progress(1000)
                while not self.may_end.wait(0.02):
                    progress(1)
            except Exception:
                self.stopped.set()
                raise
            return read(remote, text, lambda _count: None)

        monkeypatch.setattr(RemoteInputs, "read", slow)


def test_its_progress_is_shown(bench, monkeypatch):
    slow = Slow(monkeypatch)
    threading.Timer(1.5, slow.may_end.set).start()
    bench.run()
    notes = [record.notes for record in bench.seen if record.step == "big" and record.status is Status.PREPARING]
    assert notes[0][0].startswith("reading its inputs: 1.0 kB of 5.0 kB")
    assert bench.statuses()["big"] == "succeeded"


def test_a_cancelled_run_reads_no_further(bench, tmp_path, monkeypatch):
    slow = Slow(monkeypatch)

    def watch(update: Any) -> None:
        for record in update.executions:
            if record.step == "big" and record.status is Status.PREPARING and record.notes:
                with Workspace.open(tmp_path) as other:
                    other.context.history.runs.ask_cancel(record.run, 1.0)

    with Workspace.open(tmp_path) as workspace:
        report = execute_run(workspace, bench.request(), RunOptions(), watch, lambda: bench.executor)
    assert {step.step: step.status.value for step in report.steps}["big"] == "cancelled"
    assert slow.stopped.wait(5)


def test_a_cancelled_run_copies_no_further(bench, tmp_path, monkeypatch):
    bench.run()
    stopped = threading.Event()

    def slow(_remote: RemoteInputs, _text: str, progress: Any) -> None:
        try:
            while True:
                progress(1)
                time.sleep(0.02)
        except Exception:
            stopped.set()
            raise

    monkeypatch.setattr(RemoteInputs, "stage", slow)
    for copy in (tmp_path / "cache").rglob("big.bin"):
        copy.unlink()

    def watch(update: Any) -> None:
        for record in update.executions:
            if record.status is Status.PREPARING and record.notes:
                with Workspace.open(tmp_path) as other:
                    other.context.history.runs.ask_cancel(record.run, 1.0)

    with Workspace.open(tmp_path) as workspace:
        request = bench.request(steps=("big",), force=("big",))
        report = execute_run(workspace, request, RunOptions(), watch, lambda: bench.executor)
    assert [step.status.value for step in report.steps] == ["cancelled"]
    assert stopped.wait(5)


def test_after_a_failure_nothing_is_read_any_further(bench, monkeypatch):
    slow = Slow(monkeypatch)

    def failing(job: Any, output: str) -> str:
        time.sleep(0.2)
        if job.step == "small":
            raise Fail("no")
        return by_code(job, output)

    begin = time.monotonic()
    bench.run(work=failing)
    assert bench.statuses() == {"big": "skipped", "reader": "skipped", "small": "failed"}
    assert slow.stopped.wait(5)
    assert time.monotonic() - begin < 20


def test_copies_that_are_missing_are_made_again(bench, tmp_path, monkeypatch):
    bench.run()
    copied: list[str] = []
    keep = RemoteInputs._read

    def noted(self: RemoteInputs, store: Any, each: Any, progress: Any) -> Any:
        copied.append(each.info.key)
        return keep(self, store, each, progress)

    monkeypatch.setattr(RemoteInputs, "_read", noted)
    for copy in (tmp_path / "cache").rglob("*.bin"):
        copy.unlink()
    assert bench.run(force=("big",)) == ["big"]
    assert copied == ["big.bin"]
    for copy in (tmp_path / "cache").rglob("*.bin"):
        copy.unlink()
    assert bench.run() == []


def test_a_step_that_is_debugged_has_its_inputs(bench, tmp_path):
    with Workspace.open(tmp_path) as workspace:
        context = context_now(workspace, bench.request(), "big")
        assert Path(context.inputs[0].paths[0]).read_bytes() == bytes(5000)
        Path(context.inputs[0].paths[0]).unlink()
        assert Path(context_now(workspace, bench.request(), "big").inputs[0].paths[0]).exists()


def test_json_has_the_reason_and_a_plain_plan_the_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "lake").mkdir()
    with (tmp_path / "lake/big.bin").open("wb") as file:
        file.truncate(70_000_000)
    (tmp_path / "nbpipe.toml").write_text('[datastores.lake]\nurl = "./lake"\n')
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(BIG)]), tmp_path / "n.ipynb")
    code, text = said("plan", str(tmp_path / "n.ipynb"), "--json")
    (step,) = json.loads(text.splitlines()[0])["steps"]
    now = "content of store:lake/big.bin not read yet (70.0 MB)"
    assert (code, step["verdict"]) == (0, "depends")
    assert step["reasons"] == [{"component": "unread:raw", "was": None, "now": now}]
    assert now in said("plan", str(tmp_path / "n.ipynb"))[1]


def test_a_transfer_tells_news_now_and_then():
    transfer = InputTransfer("e", "reading", 100, lambda: None)
    assert transfer.has_news(0.0)
    transfer.add(50)
    assert not transfer.has_news(0.5)
    assert transfer.has_news(1.5)
    assert transfer.note == "reading: 50 bytes of 100 bytes"
    transfer.add(1)
    assert not transfer.has_news(9.0)
    assert transfer.has_news(12.0)
    assert not transfer.has_news(30.0)
    assert InputTransfer("e", "reading", -1, lambda: None).note == "reading: 0 bytes"


def test_transfers_end_by_themselves_or_are_stopped():
    transfers = InputTransfers()
    transfers.start(InputTransfer("a", "", 1, lambda: None), lambda progress: progress(1))
    go_on = threading.Event()

    def endless(progress: Any) -> None:
        while not go_on.wait(0.01):
            progress(1)

    transfers.start(InputTransfer("b", "", 1, lambda: None), endless)
    transfers.start(InputTransfer("c", "", 1, lambda: None), lambda _progress: Path("/nope/x").read_bytes())
    deadline = time.monotonic() + 5
    ended: dict[str, InputTransfer] = {}
    while len(ended) < 2 and time.monotonic() < deadline:
        ended |= {each.execution: each for each in transfers.ended()}
    assert (ended["a"].error, type(ended["c"].error)) == (None, FileNotFoundError)
    assert "b" in transfers
    transfers.stop_all()
    while "b" in transfers and time.monotonic() < deadline:
        transfers.ended()
    assert "b" not in transfers


@pytest.mark.parametrize("as_json, expected", [(False, ["reading it: 1.0 MB of 2.0 MB"]), (True, [])])
def test_a_long_transfer_is_told_in_plain_lines(monkeypatch, capsys, as_json, expected):
    times = iter([0.0, 1.0, 3.0, 3.0, 4.0])
    monkeypatch.setattr("nbpipe.cli.transfer_progress.time.monotonic", lambda: next(times))
    with transfer_progress(TerminalOutput(as_json), "reading it", 2_000_000) as progress:
        for _ in range(3):
            progress(500_000)
    assert capsys.readouterr().err.splitlines() == expected
