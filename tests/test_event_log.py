"""The log tells all that is true, in order: nothing is missed, nothing is told twice, and nothing that was refused."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sample_history import artifact, attempt, attempt_record, begin, commit, end, failure, nobody, put, record, succeed

from nbpipe.codec import pack, unpack
from nbpipe.errors import HistoryDamaged, HistoryOutOfReach
from nbpipe.history.attempts import RunChanges
from nbpipe.history.claims import Claim
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.store import History
from nbpipe.model import (
    AttemptChanged,
    AttemptRecord,
    ExecutionChanged,
    ExecutionRecord,
    KeyComponent,
    Metric,
    MetricPoint,
    MetricsLogged,
    MetricSummary,
    Observation,
    ObservationKind,
    OutputWritten,
    ResultOrigin,
    RunChanged,
    RunEvent,
    RunGrown,
    RunSnapshot,
    Status,
)

SPAWN = get_context("spawn")
STEPS = st.sampled_from(["a", "b"])
STATUSES = st.sampled_from(Status)
UNDER_WAY = (Status.QUEUED, Status.PREPARING, Status.RUNNING)
NOT_WON = st.sampled_from([status for status in Status if status is not Status.SUCCEEDED])


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / "history.db") as opened:
        begin(opened, "x")
        yield opened


def facts(history: History, run: str = "x") -> list[object]:
    return [event.fact for event in history.log.read(run)]


def told(run: str, execution: str, name: str, first: int, last: int) -> list[MetricsLogged | OutputWritten]:
    """Return what an attempt has told: pieces of two numbers each, the second of them one of many."""
    pieces = range(first, last + 1)
    numbers = [
        (
            MetricPoint("loss", piece / 2, None, 1.0, piece),
            MetricPoint("seen", -float(piece), piece, 1.0, piece * 1_000),
        )
        for piece in pieces
    ]
    logged = [MetricsLogged(run, execution, name, *each) for each in zip(pieces, numbers, strict=True)]
    return [*logged, OutputWritten(name, first, last)]


def summaries(metrics: Sequence[Metric]) -> dict[str, MetricSummary]:
    """Return the few numbers that a picture keeps."""
    values: dict[str, list[Metric]] = {}
    for metric in metrics:
        values.setdefault(metric.name, []).append(metric)
    return {
        name: MetricSummary(
            each[-1].ordinal, each[0].value, each[-1].value, min(one.value for one in each),
            max(one.value for one in each),
        )
        for name, each in values.items()
    }  # fmt: skip


# The log and the tables


class RunsModel(RuleBasedStateMachine):
    """Any order of what can happen to runs: whoever follows the log knows what the tables say."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.history = History.open(Path(self.folder.name) / "history.db")
        self.pictures: dict[str, RunSnapshot] = {}
        self.current: dict[tuple[str, str], str] = {}
        self.executions: list[ExecutionRecord] = []
        self.attempts: list[AttemptRecord] = []
        self.pieces: dict[str, int] = {}
        self.metrics: dict[str, list[Metric]] = {}
        self.time = 100.0

    def tick(self) -> float:
        self.time += 1.0
        return self.time

    @rule(owner=st.sampled_from(["alive", "dead"]))
    def begin(self, owner: str) -> None:
        run = f"r{len(self.pictures)}"
        begin(self.history, run, owner=owner, now=self.tick())
        self.pictures[run] = RunSnapshot()

    @precondition(lambda self: self.pictures)
    @rule(data=st.data(), step=STEPS)
    def grow(self, data: st.DataObject, step: str) -> None:
        """Add an execution, in the place of an earlier one of its step."""
        run = data.draw(st.sampled_from(sorted(self.pictures)))
        new = record(
            run,
            step,
            Status.QUEUED,
            id=f"e{len(self.executions)}",
            artifacts=(),
            observed=(Observation(ObservationKind.READ, "b", "c"),),
        )
        old = self.current.get((run, step))
        grown = RunGrown(f"request {new.id}", {step: new.id})
        superseded = [] if old is None else [old]
        self.history.attempts.record(run, RunChanges([new], superseded, entries=[grown]), self.tick())
        self.current[run, step] = new.id
        self.executions.append(new)

    @precondition(lambda self: self.executions)
    @rule(data=st.data(), status=STATUSES, text=st.sampled_from(["", "df = 1\n" * 500]))
    def tell(self, data: st.DataObject, status: Status, text: str) -> None:
        """Tell how an execution is now, if it may be so."""
        known = data.draw(st.sampled_from(self.executions))
        made = (artifact(),) if status in (Status.SUCCEEDED, Status.REUSED) else ()
        origin = ResultOrigin("r", "s", "t") if status is Status.REUSED else None
        parts = (KeyComponent("code", "d", "s", text),) if text else ()
        now = replace(known, status=status, artifacts=made, origin=origin, components=parts, seconds=self.tick())
        self.history.attempts.record(now.run, RunChanges(executions=[now]), self.tick())

    @precondition(lambda self: self.executions)
    @rule(data=st.data())
    def try_one(self, data: st.DataObject) -> None:
        """Submit an attempt."""
        known = data.draw(st.sampled_from(self.executions))
        name, number = f"t{len(self.attempts)}", 1 + sum(each.execution == known.id for each in self.attempts)
        new = AttemptRecord(name, known.run, known.id, number, Status.QUEUED, f"runs/{name}", key=known.key)
        self.history.attempts.record(known.run, RunChanges(attempts=[new]), self.tick())
        self.attempts.append(new)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), status=NOT_WON, pieces=st.integers(0, 3))
    def report(self, data: st.DataObject, status: Status, pieces: int) -> None:
        """Tell how an attempt is now, if it may be so, and what it has told; its record is from before that."""
        known = data.draw(st.sampled_from(self.attempts))
        first = self.pieces.get(known.id, 0) + 1
        now = replace(known, status=status, pieces=first - 1, failure=failure() if status is Status.FAILED else None)
        more = told(known.run, known.execution, known.id, first, first + pieces - 1) if pieces else []
        self.history.attempts.record(known.run, RunChanges(attempts=[now], entries=more), self.tick())
        if pieces:
            self.pieces[known.id] = first + pieces - 1
            logged = self.metrics.setdefault(known.id, [])
            logged += [each for fact in more if isinstance(fact, MetricsLogged) for each in fact.metrics()]

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.attempts))
        execution = next(each for each in self.executions if each.id == known.execution)
        won = replace(known, status=Status.SUCCEEDED, pieces=self.pieces.get(known.id, 0), artifacts=(artifact(),))
        done = replace(execution, status=Status.SUCCEEDED, artifacts=(artifact(),))
        self.history.attempts.commit(won, done, offers=(), claim=None, now=self.tick())

    @precondition(lambda self: self.pictures)
    @rule(data=st.data(), status=st.sampled_from([status for status in Status if status.terminal]))
    def end(self, data: st.DataObject, status: Status) -> None:
        self.history.runs.end(data.draw(st.sampled_from(sorted(self.pictures))), status, self.tick())

    @rule()
    def recover(self) -> None:
        self.history.lost_runs.mark_lost(alive=lambda owner: owner == "alive", now=self.tick())

    @invariant()
    def the_log_says_what_the_tables_say(self) -> None:
        for run, picture in self.pictures.items():
            picture.take(self.history.log.read(run, picture.after))
            self.same(run, picture)

    def same(self, run: str, picture: RunSnapshot) -> None:
        """Compare how a run stands by its log with how it stands by the tables, and by the model."""
        kept = self.history.runs.get(run)
        assert kept is not None
        assert (picture.status, picture.ended) == (kept.status, kept.ended)
        executions = self.history.executions.all_of_run(run)
        bare = {each.id: replace(each, components=(), observed=()) for each in executions}
        assert picture.executions == bare
        assert [each.id for each in picture.current()] == [each.id for each in self.history.executions.of_run(run)]
        assert {each.step: each.id for each in picture.current()} == {
            step: execution for (of, step), execution in self.current.items() if of == run
        }
        attempts = [each for one in executions for each in self.history.attempts.of_execution(one.id)]
        assert picture.attempts == {each.id: each for each in attempts}
        mine = {each.id for each in attempts}
        assert picture.pieces == {name: last for name, last in self.pieces.items() if name in mine}
        assert picture.metrics == {name: summaries(logged) for name, logged in self.metrics.items() if name in mine}
        assert sorted(map(repr, self.history.log.metrics(run))) == sorted(
            repr(metric) for name in mine for metric in self.metrics.get(name, ())
        )

    def teardown(self) -> None:
        for run in self.pictures:
            anew = RunSnapshot()
            anew.take(self.history.log.read(run))
            self.same(run, anew)
        assert InspectionRepository(self.history.database).damage() == []
        self.history.close()
        self.folder.cleanup()


TestRunsModel = RunsModel.TestCase
TestRunsModel.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


def test_a_run_is_told_from_its_beginning_to_its_end(history):
    succeed(history, "x", "a")
    history.runs.end("x", Status.SUCCEEDED, 110.0)

    said = [(type(fact), getattr(fact, "status", None)) for fact in facts(history)]

    assert said == [
        (RunChanged, Status.RUNNING),
        (ExecutionChanged, None),
        (AttemptChanged, None),
        (AttemptChanged, None),
        (ExecutionChanged, None),
        (RunChanged, Status.SUCCEEDED),
    ]
    assert [event.number for event in history.log.read("x")] == [1, 2, 3, 4, 5, 6]


def test_the_end_of_a_lost_run_is_told_last(history):
    """Whoever follows a run stops at its end."""
    attempt(history, "t", "x", "a")
    history.lost_runs.mark_lost(alive=nobody, now=200.0)

    last = facts(history)[-3:]

    assert isinstance(last[0], AttemptChanged)
    assert isinstance(last[1], ExecutionChanged)
    assert last[2] == RunChanged(Status.LOST, 200.0)


def test_a_number_is_read_as_it_was_logged(history):
    attempt(history, "t", "x", "a")
    points = (
        MetricPoint("loss", 0.5, None, 1.0, 1),
        MetricPoint("loss", float("inf"), 3, 2.0, 200_000),
        MetricPoint("\udc80", -0.0, 0, 3.0, 1),
    )
    nan = MetricPoint("loss", float("nan"), None, 4.0, 200_001)
    history.attempts.record("x", RunChanges(entries=[MetricsLogged("x", "a", "t", 7, points)]), 3.0)
    history.attempts.record("x", RunChanges(entries=[MetricsLogged("x", "a", "t", 8, (nan,))]), 4.0)

    *same, last = history.log.metrics("x")

    assert same == [
        Metric("x", "a", "t", 7, "loss", 0.5, None, 1.0),
        Metric("x", "a", "t", 7, "loss", float("inf"), 3, 2.0, ordinal=200_000),
        Metric("x", "a", "t", 7, "\udc80", -0.0, 0, 3.0),
    ]
    assert repr(same[2].value) == "-0.0"
    assert math.isnan(last.value)
    assert (last.number, last.ordinal) == (8, 200_001)


def test_what_a_picture_keeps_of_numbers_does_not_grow_with_them(history):
    attempt(history, "t", "x", "a")
    for part in range(3):
        ordinals = range(part * 5_000 + 1, part * 5_000 + 5_001)
        points = tuple(MetricPoint("loss", float(-n if n % 2 else n), n, 1.0, n) for n in ordinals)
        points = (*points[:-1], points[-1]._replace(value=float("nan"))) if part == 1 else points
        history.attempts.record("x", RunChanges(entries=[MetricsLogged("x", "a", "t", part + 1, points)]), 3.0)
    picture = RunSnapshot()
    picture.take(history.log.read("x"))

    assert picture.metrics == {"t": {"loss": MetricSummary(15_000, -1.0, 15_000.0, -14_999.0, 15_000.0)}}


def test_entries_with_many_numbers_are_read_some_at_a_time(history):
    """A reader that starts late does not hold all the numbers of a run at once."""
    attempt(history, "t", "x", "a")
    noise = [math.sin(n * 12.9898) * 43758.5453 for n in range(20_000)]
    points = tuple(MetricPoint("loss", value, None, value, n + 1) for n, value in enumerate(noise))
    for number in range(9):
        history.attempts.record("x", RunChanges(entries=[MetricsLogged("x", "a", "t", number, points)]), 3.0)
    batches, after = [], 0
    while batch := history.log.read("x", after):
        batches.append(len(batch))
        after = batch[-1].number

    assert len(batches) > 2
    assert sum(batches) == after == 12
    assert len(history.log.metrics("x")) == 180_000


# Readers


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Return a history with a run of 53 entries, between those of other runs."""
    with History.open(tmp_path_factory.mktemp("long") / "history.db") as opened:
        for run in ("w", "x", "y"):
            begin(opened, run)
        for number in range(13):
            for run in ("x", "w", "y"):
                succeed(opened, run, f"s{number}") if run == "x" else put(opened, record(run, f"s{number}"))
        yield opened


@given(batches=st.lists(st.integers(1, 60), min_size=1), begin_at=st.integers(0, 60))
def test_readers_that_come_back_miss_nothing_and_see_nothing_twice(long, batches, begin_at):
    """Wherever one begins, and whatever it takes at once; the number that it kept is all that it needs."""
    every = long.log.read("x")
    assert [event.number for event in every] == list(range(1, 54))

    after, seen = begin_at, []
    while batch := long.log.read("x", after, batches[len(seen) % len(batches)]):
        seen += batch
        after = batch[-1].number

    assert seen == every[begin_at:]


@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_a_picture_takes_each_entry_once_though_some_are_handed_in_twice(long, cuts):
    whole, picture = RunSnapshot(), RunSnapshot()
    whole.take(long.log.read("x"))

    for cut in cuts:
        picture.take(long.log.read("x", min(cut, picture.after)))

    picture.take(long.log.read("x", picture.after))
    assert picture == whole


def test_a_picture_refuses_to_go_on_where_an_entry_is_missing(long):
    picture = RunSnapshot()
    picture.take(long.log.read("x", 0, 3))

    with pytest.raises(ValueError, match="entry 4 of the run's log is missing: entry 6"):
        picture.take(long.log.read("x", 5))
    assert picture.after == 3


def write_entries(path: Path, writer: str, count: int) -> None:
    """Add executions to one run, one transaction each, some of them with more than one entry."""
    with History.open(path) as history:
        _write_entries(history, writer, count)


def _write_entries(history: History, writer: str, count: int) -> None:
    for number in range(count):
        put(history, *(record("x", f"{writer}-{number}-{part}") for part in range(1 + number % 3)))


def follow(history: History, expected: int, batch: int) -> list[RunEvent]:
    """Read a run's log until so many entries have come."""
    seen: list[RunEvent] = []
    while len(seen) < expected:
        seen += history.log.read("x", seen[-1].number if seen else 0, batch)
    return seen


def is_whole(seen: Sequence[RunEvent], steps: int) -> bool:
    """Return whether entries are numbered from 1 without a gap, and tell of each of so many steps once."""
    named = [event.fact.execution.step for event in seen if isinstance(event.fact, ExecutionChanged)]
    return [event.number for event in seen] == list(range(1, steps + 2)) and len(set(named)) == len(named) == steps


def test_threads_that_write_at_once_leave_no_gap_and_their_readers_see_all(history):
    each, writers = 12, 6
    steps = writers * sum(1 + number % 3 for number in range(each))
    with ThreadPoolExecutor(writers + 2) as pool:
        readers = [pool.submit(follow, history, steps + 1, batch) for batch in (1, 7)]
        written = [pool.submit(_write_entries, history, f"w{number}", each) for number in range(writers)]
        for writer in written:
            writer.result(120)
        for reader in readers:
            assert is_whole(reader.result(120), steps)
    assert InspectionRepository(history.database).damage() == []


def test_processes_that_write_at_once_leave_no_gap(tmp_path):
    path, each, writers = tmp_path / "history.db", 9, 3
    steps = writers * sum(1 + number % 3 for number in range(each))
    with History.open(path) as history:
        begin(history, "x")
        processes = [SPAWN.Process(target=write_entries, args=(path, f"w{number}", each)) for number in range(writers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * writers
        assert is_whole(history.log.read("x"), steps)
        assert InspectionRepository(history.database).damage() == []


# Damage


def by_hand(history: History, statement: str) -> None:
    with closing(sqlite3.connect(history.database.path)) as connection:
        connection.create_function("pack", 1, pack)
        connection.create_function("unpack", 1, unpack)
        connection.execute(statement)
        connection.commit()


def test_a_lost_end_of_a_log_is_damage_for_whoever_follows_the_run(history):
    """The entry that says that the run has ended would be waited for without end."""
    history.runs.end("x", Status.SUCCEEDED, 103.0)
    last = history.log.read("x")[-1].number
    by_hand(history, f"DELETE FROM events WHERE run = 'x' AND number = {last}")  # noqa: S608  # our own number

    assert history.log.read("x")[-1].number == last - 1
    with pytest.raises(HistoryDamaged, match=f"the log of run x has a gap: entry {last} is missing"):
        history.log.read("x", last - 1)


def test_a_missing_entry_is_damage_and_named(history):
    succeed(history, "x", "a")
    begin(history, "whole")
    by_hand(history, "DELETE FROM events WHERE run = 'x' AND number = 3")

    with pytest.raises(HistoryDamaged, match="run x has a gap: entry 3 is missing") as caught:
        history.log.read("x")
    assert "nbpipe verify" in caught.value.hint
    with pytest.raises(HistoryDamaged, match="entry 3"):
        history.log.read("x", 2, 1)
    assert [event.number for event in history.log.read("x", 3)] == [4, 5]
    assert InspectionRepository(history.database).damage() == ["the log of run x has a gap: entry 3 is missing"]
    assert len(history.log.read("whole")) == 1


@pytest.mark.parametrize("numbers, first", [("= 1", 1), (">= 4", 4), (">= 1", 1)])
def test_entries_that_are_missing_at_an_end_are_damage_too(history, numbers, first):
    succeed(history, "x", "a")
    by_hand(history, f"DELETE FROM events WHERE run = 'x' AND number {numbers}")  # noqa: S608  # the test's own words

    assert InspectionRepository(history.database).damage() == [f"the log of run x has a gap: entry {first} is missing"]


@pytest.mark.parametrize(
    "change",
    [
        "fact = 'no json'",
        "fact = '{}'",
        "fact = pack('no json')",
        "fact = pack('[]')",
        "fact = pack('{}')",
        "fact = substr(fact, 1, length(fact) - 1)",
        "fact = x'ff'",
        'fact = pack(replace(unpack(fact), \'"position":0\', \'"position":"far"\'))',
        "fact = pack(replace(unpack(fact), '\"position\":0', '\"position\":' || printf('%.5000d', 1)))",
        "fact = pack(replace(unpack(fact), '101.0', printf('1%.400d', 0)))",
        "fact = pack(replace(unpack(fact), 'running', 'unheard-of'))",
        "kind = 'unheard-of'",
        "kind = 'attempt'",
    ],
)
def test_an_entry_that_nbpipe_never_wrote_is_damage_and_named(history, change):
    attempt(history, "t", "x", "a")
    by_hand(history, f"UPDATE events SET {change} WHERE run = 'x' AND number = 2")  # noqa: S608  # as above

    with pytest.raises(HistoryDamaged, match="entry 2 of the log of run x") as caught:
        history.log.read("x")
    assert "nbpipe verify" in caught.value.hint
    assert [event.number for event in history.log.read("x", 2)] == [3]
    (said,) = InspectionRepository(history.database).damage()
    assert said.startswith("entry 2 of the log of run x")


def test_a_number_that_nbpipe_never_wrote_is_damage(history):
    attempt(history, "t", "x", "a")
    history.attempts.record("x", RunChanges(entries=told("x", "a", "t", 1, 1)), 1.0)
    by_hand(history, "UPDATE events SET fact = pack('{}') WHERE kind = 'metric'")

    with pytest.raises(HistoryDamaged, match="log of run x"):
        history.log.metrics("x")


# What is refused is not told


def test_what_has_ended_already_is_told_once(history):
    attempt(history, "t", "x", "a")
    end(history, "t", "x", "a", Status.FAILED)
    put(history, record("x", "a", Status.FAILED))
    history.runs.end("x", Status.FAILED, 105.0)
    before = facts(history)

    history.runs.end("x", Status.SUCCEEDED, 106.0)
    end(history, "t", "x", "a", Status.LOST)
    put(history, record("x", "a", Status.SUCCEEDED), record("x", "a", Status.QUEUED))
    history.runs.end("unknown", Status.SUCCEEDED, 106.0)
    assert history.lost_runs.mark_lost(alive=nobody, now=107.0) == []
    assert not commit(history, "t", "x", "a")

    assert facts(history) == before


@pytest.mark.parametrize("why", ["run-ended", "execution-ended", "claim-lost", "won-before", "unknown"])
def test_a_commit_that_came_too_late_is_not_told(history, why):
    attempt(history, "t", "x", "a")
    claim = None
    match why:
        case "run-ended":
            history.runs.end("x", Status.CANCELLED, 102.0)
        case "execution-ended":
            put(history, record("x", "a", Status.CANCELLED))
        case "claim-lost":
            claim = Claim("key-a", "me", 77)
        case "won-before":
            attempt(history, "u", "x", "a", 2)
            assert commit(history, "u", "x", "a", number=2)
    before = facts(history)

    assert not commit(history, "unknown" if why == "unknown" else "t", "x", "a", claim=claim)

    assert facts(history) == before


def test_a_transaction_that_fails_is_not_told(history):
    attempt(history, "t", "x", "a")
    before = facts(history)

    for changes in (
        RunChanges([record("x", "b"), record("unknown", "c")]),
        RunChanges([record("x", "b"), record("x", "c", notebook="\udc80")]),
        RunChanges([record("x", "b")], attempts=[attempt_record("u", "x", "no such execution")]),
        RunChanges([record("x", "b")], entries=[OutputWritten("t", 1, 2**70)]),
    ):
        with pytest.raises((HistoryOutOfReach, OverflowError)):
            history.attempts.record("x", changes, 103.0)
    with pytest.raises(HistoryOutOfReach, match="no run unknown"):
        history.attempts.record("unknown", RunChanges(entries=[RunGrown("r")]), 103.0)
    with pytest.raises(ValueError, match="commit"):
        end(history, "t", "x", "a", Status.SUCCEEDED)
    with pytest.raises(HistoryOutOfReach):
        begin(history, "x")

    assert facts(history) == before
    put(history, record("x", "b"))
    assert [event.number for event in history.log.read("x")] == list(range(1, len(before) + 2))
    assert InspectionRepository(history.database).damage() == []
